"""Several runs of each system side by side: means over runs, how much runs differ, and paired tests.

Runs of one recipe with different seeds differ, often by more than two recipes do. So a system is a group of
runs here: its score is the mean over them, its interval comes from resampling the studies, the same draws for
every run of every group, and the lowest and the highest run stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from radscribe import NOTICE
from radscribe.errors import RadScribeError, unknown_name
from radscribe.evaluation.bootstrap import (
    Difference,
    Score,
    percentile_interval,
    resampled_scores,
    two_sided_p,
)
from radscribe.evaluation.evaluate import SYSTEM, Evaluation, check_comparable
from radscribe.evaluation.tables import comparison_table

#: What is shown unless asked otherwise, as far as all groups have it.
USUAL_SCORES = (
    "BLEU-1",
    "BLEU-4",
    "ROUGE-L",
    "CIDEr",
    "micro F1 (14, as_present)",
    "macro F1 (14, as_present)",
    "TDM pointing",
    "TDM energy",
    "sentence attention pointing",
    "sentence attention energy",
    "word attention pointing",
    "word attention energy",
)


@dataclass(frozen=True, slots=True)
class GroupScore:
    """A score of a group of runs.

    Attributes:
        mean: over the runs, with the interval that resampling the studies gives.
        lowest: of the runs.
        highest: of the runs.
    """

    mean: Score
    lowest: float
    highest: float


@dataclass(frozen=True)
class Comparison:
    """Groups of runs on the same studies. `str()` is the table to print.

    Attributes:
        runs: how many each group has.
        scores: by group, then score.
        differences: of each group but the first: its mean minus the first group's, by score.
        rules: under which all were scored.
    """

    runs: Mapping[str, int]
    scores: Mapping[str, Mapping[str, GroupScore]]
    differences: Mapping[str, Mapping[str, Difference]]
    rules: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "notice": NOTICE}

    def __str__(self) -> str:
        rows = {
            name: {
                group: (each[name].mean, each[name].lowest, each[name].highest)
                for group, each in self.scores.items()
                if name in each
            }
            for name in dict.fromkeys(name for each in self.scores.values() for name in each)
        }
        return f"{comparison_table(self.runs, rows, self.differences)}\n\n{self.rules}"


def compare_groups(
    groups: Mapping[str, Sequence[Evaluation]], names: Sequence[str] = (), *, resamples: int = 1000
) -> Comparison:
    """Compare groups of runs, the first with each of the others.

    Args:
        groups: evaluated runs by group, all on the same references under the same rules.
        names: scores to compare; `USUAL_SCORES` where there are, unless given.
        resamples: of the bootstrap.

    Raises:
        RadScribeError: the runs were scored under different rules, or none has a score of that name.
    """
    everything = [evaluation for group in groups.values() for evaluation in group]
    for evaluation in everything[1:]:
        check_comparable(everything[0], evaluation)
    seed = everything[0].provenance.seed
    known = {name for evaluation in everything for name in evaluation.rows[SYSTEM].scores}
    for name in names:
        if name not in known:
            raise unknown_name("score", name, known)
    chosen = list(names) or [name for name in USUAL_SCORES if name in known]
    samples = {group: _samples(evaluations, chosen, resamples, seed) for group, evaluations in groups.items()}
    values = {
        group: {
            name: [evaluation.rows[SYSTEM].scores[name].value for evaluation in groups[group]]
            for name in samples[group]
        }
        for group in groups
    }
    scores = {
        group: {
            name: GroupScore(
                Score(float(np.mean(values[group][name])), *percentile_interval(drawn)),
                min(values[group][name]),
                max(values[group][name]),
            )
            for name, drawn in samples[group].items()
        }
        for group in groups
    }
    first, *others = groups
    differences = {
        group: {
            name: Difference(
                scores[group][name].mean.value - scores[first][name].mean.value,
                *percentile_interval(drawn - samples[first][name]),
                two_sided_p(drawn - samples[first][name]),
            )
            for name, drawn in samples[group].items()
            if name in samples[first]
        }
        for group in others
    }
    runs = {group: len(evaluations) for group, evaluations in groups.items()}
    return Comparison(runs, scores, differences, str(everything[0].provenance))


def _samples(
    evaluations: Sequence[Evaluation], names: Sequence[str], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """The mean over runs of each score that all of them have, in each resample `[resamples]`."""
    families = [list(evaluation.rows[SYSTEM].families.values()) for evaluation in evaluations]
    flat = resampled_scores([each for of_run in families for each in of_run], resamples, seed)
    drawn, start = [], 0
    for of_run in families:
        merged: dict[str, np.ndarray] = {}
        for part in flat[start : start + len(of_run)]:
            merged |= part
        drawn.append(merged)
        start += len(of_run)
    return {
        name: np.mean([each[name] for each in drawn], axis=0)
        for name in names
        if all(name in each for each in drawn)
    }


def parse_groups(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Groups from `name=run,run` or from single runs, each a group of its own.

    Raises:
        RadScribeError: an empty group, or a name twice.
    """
    groups: dict[str, list[str]] = {}
    for argument in arguments:
        name, equals, runs = argument.partition("=")
        members = [run for run in (runs if equals else name).split(",") if run]
        if name in groups or not members:
            raise RadScribeError(
                f"'{argument}' is no group of runs, or its name stands twice", "Write NAME=RUN,RUN,RUN"
            )
        groups[name] = members
    return groups
