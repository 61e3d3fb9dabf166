"""What `radscribe pretrain-lm` says of a language model: on the screen, and in its model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radscribe.about import NOTICE

MODEL_CARD = "MODEL_CARD.md"


def summary(facts: Mapping[str, Any]) -> str:
    """What `radscribe pretrain-lm` prints of a training that is over."""
    texts, measured = facts["texts"], facts["validation"]
    units = ("perplexity", "word_perplexity", "byte_perplexity")
    lines = [
        f"model        {facts['settings']['size']}: {facts['parameters']:,} parameters, "
        f"{facts['vocabulary']:,} tokens in its vocabulary",
        f"trained on   {texts['train_reports']:,} reports ({texts['train_reports_distinct']:,} distinct) and "
        f"{texts['paragraphs']:,} paragraphs, {facts['tokens']['train']:,} tokens, {facts['steps']:,} steps",
        f"chosen       after epoch {facts['best_epoch']} of {facts['epochs']}, on "
        f"{texts['validation_reports']:,} reports ({texts['validation_reports_seen_in_training']:,} of them "
        "also in training)",
        f"perplexity   {'':12}{'per token':>12}{'per word':>12}{'per byte':>12}",
    ]
    for form, values in measured.items():
        lines.append(f"             {form:12}" + "".join(f"{values[unit]:>12.3f}" for unit in units))
    return "\n".join(lines)


def write_card(out: Path, facts: Mapping[str, Any]) -> None:
    """Write what the model is, what it was made from, and what it must not be used for."""
    settings, texts, measured = facts["settings"], facts["texts"], facts["validation"]
    rows = "\n".join(
        f"| {form} | " + " | ".join(f"{value:.3f}" for value in values.values()) + " |"
        for form, values in measured.items()
    )
    (out / MODEL_CARD).write_text(
        f"""# Language model of reports, {settings["size"]}

A Llama with {facts["parameters"]:,} parameters and a byte-level tokenizer of {facts["vocabulary"]:,} entries,
pretrained to stand, frozen, in a system that drafts reports of chest X-rays.

**Intended use:** {NOTICE}. What it writes by itself describes no patient. It repeats what it was trained on:
where those texts may not be passed on, neither may it.

- Trained on {texts["train_reports"]:,} reports of the train split of `{facts["store_source"]}` (content hash
  {facts["store_content_hash"][:12]}, section {settings["section"]}, cleaning {settings["cleaning"]}), and on
  {texts["paragraphs"]:,} paragraphs of {len(facts["text_files"])} text files.
- Weights chosen by the loss on {texts["validation_reports"]:,} validation reports, of which
  {texts["validation_reports_seen_in_training"]:,} stand word for word among the training texts.
- RadScribe {facts["radscribe"]}, torch {facts["torch"]}, transformers {facts["transformers"]}.

| validation reports | {" | ".join(name.replace("_", " ") for name in measured["bare"])} |
|---|{"---|" * len(measured["bare"])}
{rows}

The loss is in nats per token. `bare`: a report after `<s>` alone. `prompted`: after the prompt, with nothing
where the image goes. `cued`: with half of the report's tokens there, in random order. `unigram`: of a model
that knows only how often each token occurs. Perplexities per token compare models with the same tokenizer
only.
""",
        encoding="utf-8",
    )
