"""Comparing runs and draft files: each is scored on the same studies, and groups of them are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radscribe.evaluation.comparison import check_score_names, compare_groups
from radscribe.evaluation.comparison_result import Comparison
from radscribe.runs.group_scoring import Member, ScoredGroups, score_groups
from radscribe.text.cleaning import CleaningName
from radscribe.text.protocols import ProtocolName


@dataclass(frozen=True)
class RunComparison:
    """Comparison of groups of runs on the same studies. `str()` gives the table to print.

    Attributes:
        comparison: Comparison of the scores.
        chosen_epochs: For each run of each group, the epoch after which its weights were chosen; None if the
            run was imported, and for a draft file.
        scored: The scored runs and draft files.
    """

    comparison: Comparison
    chosen_epochs: Mapping[str, Sequence[int | None]]
    scored: ScoredGroups

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return {**self.comparison.to_json(), "chosen_epochs": self.chosen_epochs}

    def __str__(self) -> str:
        epochs = "; ".join(
            f"{name} {', '.join(str(epoch or 'unknown') for epoch in of_group)}"
            for name, of_group in self.chosen_epochs.items()
            if any(member.run for member in self.scored.groups[name])
        )
        return str(self.comparison) + (f"\n\nweights chosen after epoch: {epochs}" if epochs else "")


def compare_runs(
    groups: Mapping[str, Sequence[str | Path]],
    *,
    store: Path | None = None,
    split: str = "test",
    protocol: ProtocolName | None = None,
    references: Path | None = None,
    cleaning: CleaningName | None = None,
    scores: Sequence[str] = (),
    resamples: int = 1000,
    progress: bool = True,
) -> RunComparison:
    """Score groups of runs and draft files, and compare the first group with each of the other groups.

    Args:
        groups: Run directories and draft files by name of their group; see `parse_groups`.
        store: Prepared store to score on; by default each run's own store.
        split: Split to score: `train`, `val`, `test` or `all`.
        protocol: Protocol to score under; see `score_groups`.
        references: File of the references; see `score_groups`.
        cleaning: Text cleaning for draft files without a run.
        scores: Names of the scores to compare; by default `USUAL_SCORES`.
        resamples: Number of bootstrap resamples.
        progress: Show the progress.

    Raises:
        RadScribeError: a score does not exist, or see `score_groups` and `compare_groups`. Errors that can be
        found before the first run is scored are raised before.
    """
    check_score_names(scores)
    scored = score_groups(
        groups,
        store=store,
        split=split,
        protocol=protocol,
        references=references,
        cleaning=cleaning,
        resamples=resamples,
        progress=progress,
    )
    chosen = {name: [_chosen_epoch(member) for member in members] for name, members in scored.groups.items()}
    return RunComparison(compare_groups(scored.evaluations, scores, resamples=resamples), chosen, scored)


def _chosen_epoch(member: Member) -> int | None:
    """The epoch after which the weights of a run were chosen; None if it was imported, and for a file."""
    best = member.run.read_facts().get("best") if member.run else None
    return best["epoch"] + 1 if best else None
