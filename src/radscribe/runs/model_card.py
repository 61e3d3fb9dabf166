"""The model card of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from radscribe.about import NOTICE
from radscribe.evaluation.clinical import CLINICAL_BLOCKS
from radscribe.evaluation.evaluate import METRICS, Provenance
from radscribe.runs.run_directory import RunDirectory
from radscribe.systems.registry import get_system


def _described(changes: list[dict[str, Any]]) -> str:
    """What was changed while the run was trained, in words."""
    return "; ".join(
        f"{change['field']} from {change['before']} to {change['after']} after step {change['step']}"
        for change in changes
    )


def write_model_card(run: RunDirectory) -> None:
    """Write what the run is, what it scored, and what it must not be used for."""
    facts, config = run.read_facts(), run.load_config()
    entry = get_system(config.system_name)
    hashed = f" (content hash {facts['store_content_hash'][:12]})" if "store_content_hash" in facts else ""
    scores, changed = "The test split was not scored.", ""
    if changes := facts.get("changes"):
        changed = f"\n- Changed while it was trained: {_described(changes)}."
    if run.metrics.is_file():
        metrics = json.loads(run.metrics.read_text())
        provenance = Provenance(**metrics["provenance"])
        scores = f"{_score_tables(metrics['scores'], provenance)}\n\nScored under: {provenance}."
    run.model_card.write_text(
        f"""# {config.system_name}, recipe {config.recipe}

{entry.title}. {entry.published}.

**Intended use:** {NOTICE}. Drafts may omit findings and state findings that are not there.

- Trained on `{facts["store_source"]}`{hashed}, train split only.
- Weights chosen on the validation split: {facts.get("best", "imported")}.{changed}
- RadScribe {facts["radscribe"]}, torch {facts["torch"]}; began {facts["began"]}.

## Scores on the test split

{scores}
""",
        encoding="utf-8",
    )


def _score_tables(scores: Mapping[str, Mapping[str, Any]], provenance: Provenance) -> str:
    """Tables of the scores that `Evaluation.to_json` wrote: of texts, clinical, and of further families."""
    there = list(next(iter(scores.values())))
    tables = [_markdown_table("", {name: name for name in METRICS if name in there}, scores)]
    blocks = [block for block in CLINICAL_BLOCKS if set(block.names.values()) <= set(there)]
    if blocks:
        tables.append(f"{provenance.clinical_efficacy}.")
    tables += [_markdown_table(block.title, block.names, scores) for block in blocks]
    for family in provenance.further:
        names = {name.removeprefix(f"{family} "): name for name in there if name.startswith(f"{family} ")}
        tables.append(_markdown_table(family, names, scores))
    return "\n\n".join(tables)


def _markdown_table(title: str, names: Mapping[str, str], scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows that have these scores, whose names in `scores` are given by column."""
    lines = [f"| {title} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row, values in scores.items():
        if all(name in values for name in names.values()):
            cells = " | ".join(f"{values[name]['value']:.3f}" for name in names.values())
            lines.append(f"| {row} | {cells} |")
    return "\n".join(lines)
