"""Writing the model card of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radscribe.about import NOTICE
from radscribe.evaluation.families import CLINICAL, FAMILIES
from radscribe.evaluation.family import ScoreTable
from radscribe.evaluation.result import Evaluation
from radscribe.evaluation.scores import Score
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.unlikeness import FLAGGED_SHARE, facts_of_training_features
from radscribe.systems.registry import get_system


def _described(changes: list[dict[str, Any]]) -> str:
    """The changes that were made while the run was trained, in words."""
    return "; ".join(
        f"{change['field']} from {change['before']} to {change['after']} after step {change['step']}"
        for change in changes
    )


def write_model_card(run: RunDirectory) -> None:
    """Write the model card: what the run is, its scores, and what it must not be used for."""
    facts, config = run.read_facts(), run.load_config()
    entry = get_system(config.system_name)
    learnt = ""
    if "store_content_hash" in facts:
        learnt = f" (content hash {facts['store_content_hash'][:12]}), train split only"
    scores, changed = "The test split was not scored.", ""
    if changes := facts.get("changes"):
        changed = f"\n- Changed while it was trained: {_described(changes)}."
    if run.metrics.is_file():
        evaluation = Evaluation.read(run.metrics, f"Score the run again: radscribe evaluate {run.path}")
        scores = f"{_score_tables(evaluation)}\n\nScored under: {evaluation.provenance}."
    run.model_card.write_text(
        f"""# {config.system_name}, recipe {config.recipe}

{entry.title}. {entry.published}.

**Intended use:** {NOTICE}. Drafts may omit findings and state findings that are not there.

- Trained on `{facts["store_source"]}`{learnt}.
- Weights chosen on the validation split: {facts.get("best", "imported")}.{changed}
- {_said_of_unlike_studies(run)}
- RadScribe {facts["radscribe"]}, torch {facts["torch"]}; began {facts["began"]}.

## Scores on the test split

{scores}
""",
        encoding="utf-8",
    )


def _said_of_unlike_studies(run: RunDirectory) -> str:
    """Whether drafts say how unlike the training images a study is."""
    facts = facts_of_training_features(run)
    if facts is None:
        return "It keeps no statistics of its training images: drafts do not say how unlike them a study is."
    return (
        f"Drafts say how unlike the images of {facts['train']:,} training studies a study is; beyond the "
        f"limit are {FLAGGED_SHARE:.0%} of {facts['val']:,} validation studies."
    )


def _score_tables(evaluation: Evaluation) -> str:
    """The tables of all metric families that the system has scores for."""
    parts = []
    for family in FAMILIES:
        tables = evaluation.tables(family)
        if tables and family == CLINICAL:
            parts.append(f"{evaluation.provenance.clinical_efficacy}.")
        parts += [_markdown_table(table, evaluation.scores) for table in tables]
    return "\n\n".join(parts)


def _markdown_table(table: ScoreTable, scores: Mapping[str, Mapping[str, Score]]) -> str:
    """The table in Markdown, with the rows that have all its scores."""
    lines = [f"| {table.title} | {' | '.join(table.columns)} |", f"|---|{'---|' * len(table.columns)}"]
    for row, of_row in scores.items():
        if all(name in of_row for name in table.columns.values()):
            cells = " | ".join(f"{of_row[name].value:.3f}" for name in table.columns.values())
            lines.append(f"| {row} | {cells} |")
    return "\n".join(lines)
