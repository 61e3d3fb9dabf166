"""A score with its interval and a difference with its p-value: of one system, and of a group of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Below this p-value a difference is called one.
SIGNIFICANT = 0.05

GroupVerdict = Literal["clearly higher", "clearly lower", "no clear difference", "not tested over seeds"]


@dataclass(frozen=True, slots=True)
class Score:
    """A corpus score with its percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A score of one system minus that of another on the same studies.

    Attributes:
        value: the difference over all studies.
        low: lower end of its percentile interval.
        high: upper end of its percentile interval.
        p: two-sided bootstrap p-value; never below 2 / (resamples + 1).
    """

    value: float
    low: float
    high: float
    p: float


def direction(difference: Difference) -> Literal["higher", "unclear", "lower"]:
    """Where a difference clearly points, if anywhere."""
    if difference.p >= SIGNIFICANT or difference.value == 0:
        return "unclear"
    return "higher" if difference.value > 0 else "lower"


@dataclass(frozen=True, slots=True)
class GroupScore:
    """A score of a group of runs.

    Attributes:
        mean: over the runs, with the interval that resampling the studies gives.
        lowest: of the runs.
        highest: of the runs.
        of_runs: each run's, in the order of the group.
    """

    mean: Score
    lowest: float
    highest: float
    of_runs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GroupDifference(Difference):
    """The mean score of a group of runs minus that of another, tested over studies and over seeds.

    Attributes:
        p_over_seeds: of Welch's t-test on the runs' scores; None where a group has too few runs for it.
        verdict: clear where both p-values are below `SIGNIFICANT` and both tests point the same way.
    """

    p_over_seeds: float | None
    verdict: GroupVerdict
