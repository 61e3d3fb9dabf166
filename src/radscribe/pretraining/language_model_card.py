"""The texts about a pretrained language model: its summary on the screen, and its model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radscribe.pretraining.model_card import Section


def summary(facts: Mapping[str, Any]) -> str:
    """The summary that is printed after a training."""
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


def section(facts: Mapping[str, Any]) -> Section:
    """The content of the model card."""
    settings, texts, measured = facts["settings"], facts["texts"], facts["validation"]
    names = measured["bare"]
    rows = "\n".join(
        f"| {form} | " + " | ".join(f"{value:.3f}" for value in values.values()) + " |"
        for form, values in measured.items()
    )
    return Section(
        title=f"Language model of reports, {settings['size']}",
        purpose=f"A Llama with {facts['parameters']:,} parameters and a byte-level tokenizer of "
        f"{facts['vocabulary']:,} entries, pretrained to be the frozen model of a system that drafts reports "
        "of chest X-rays.",
        caution="What it writes by itself describes no patient. It repeats what it was trained on: where "
        "those texts may not be passed on, neither may it.",
        learnt=f"{texts['train_reports']:,} reports, and {texts['paragraphs']:,} paragraphs of "
        f"{len(facts['text_files'])} text files",
        notes=[
            f"Weights chosen by the loss on {texts['validation_reports']:,} validation reports, of which "
            f"{texts['validation_reports_seen_in_training']:,} stand word for word among the training texts."
        ],
        rest=f"""| validation reports | {" | ".join(name.replace("_", " ") for name in names)} |
|---|{"---|" * len(names)}
{rows}

The loss is in nats per token. `bare`: the report comes after `<s>` alone. `prompted`: the report comes after
the prompt, and the place of the image is empty. `cued`: half of the report's tokens, in random order, are at
the place of the image. `unigram`: a model that knows only how often each token occurs. Perplexities per token
compare models with the same tokenizer only.""",
    )
