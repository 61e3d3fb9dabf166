"""Comparing runs: each run is scored on the same studies, and groups of runs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscribe.evaluation.bootstrap import check_resamples
from radscribe.evaluation.comparison import Comparison, check_score_names, compare_groups
from radscribe.text.protocols import ProtocolName

if TYPE_CHECKING:
    from radscribe.runs.run_directory import RunDirectory


@dataclass(frozen=True)
class RunComparison:
    """Comparison of groups of runs on the same studies. `str()` gives the table to print.

    Attributes:
        comparison: Comparison of the scores.
        chosen_epochs: For each run of each group, the epoch after which its weights were chosen; None if the
            run was imported.
    """

    comparison: Comparison
    chosen_epochs: Mapping[str, Sequence[int | None]]

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return {**self.comparison.to_json(), "chosen_epochs": self.chosen_epochs}

    def __str__(self) -> str:
        epochs = "; ".join(
            f"{name} {', '.join(str(epoch or 'unknown') for epoch in of_group)}"
            for name, of_group in self.chosen_epochs.items()
        )
        return f"{self.comparison}\n\nweights chosen after epoch: {epochs}"


def compare_runs(
    groups: Mapping[str, Sequence[str]],
    *,
    store: Path | None = None,
    split: str = "test",
    protocol: ProtocolName | None = None,
    scores: Sequence[str] = (),
    resamples: int = 1000,
    progress: bool = True,
) -> RunComparison:
    """Score groups of runs, and compare the first group with each of the other groups.

    Args:
        groups: Run directories by name of their group; see `parse_groups`.
        store: Prepared store to score on; by default each run's own store.
        split: Split to score: `train`, `val`, `test` or `all`.
        protocol: Protocol to score under; by default each run's own protocol.
        scores: Names of the scores to compare; by default `USUAL_SCORES`.
        resamples: Number of bootstrap resamples.
        progress: Show the progress.

    Raises:
        RadScribeError: a run or its store cannot be used, a score does not exist, or the runs cannot be
        compared. Errors that can be found before the first run is scored are raised before.
    """
    check_score_names(scores)
    check_resamples(resamples)
    from radscribe.runs.run_directory import RunDirectory
    from radscribe.runs.scoring import score_run

    opened = {
        name: [(run, run.open_store(store)) for run in map(RunDirectory, runs)]
        for name, runs in groups.items()
    }
    for members in opened.values():
        for run, prepared in members:
            run.check_weights()
            prepared.studies(split)
    evaluated = {
        name: [
            score_run(
                run,
                prepared,
                split,
                protocol=protocol,
                meteor=False,
                resamples=resamples,
                progress=progress,
            )[0]
            for run, prepared in members
        ]
        for name, members in opened.items()
    }
    chosen = {name: [_chosen_epoch(run) for run, _ in members] for name, members in opened.items()}
    return RunComparison(compare_groups(evaluated, scores, resamples=resamples), chosen)


def _chosen_epoch(run: RunDirectory) -> int | None:
    """The epoch after which the weights of a run were chosen; None if the run was imported."""
    best = run.read_facts().get("best")
    return best["epoch"] + 1 if best else None
