"""Scores with intervals and differences with p-values, of single systems and of groups of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: A difference is significant if its p-value is below this.
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
        value: Difference over all studies.
        low: Lower end of the percentile interval of the difference.
        high: Upper end of the percentile interval of the difference.
        p: Two-sided bootstrap p-value; it is never below 2 / (resamples + 1).
    """

    value: float
    low: float
    high: float
    p: float


def direction(difference: Difference) -> Literal["higher", "unclear", "lower"]:
    """Whether a difference is significantly higher or lower than 0, or unclear."""
    if difference.p >= SIGNIFICANT or difference.value == 0:
        return "unclear"
    return "higher" if difference.value > 0 else "lower"


@dataclass(frozen=True, slots=True)
class GroupScore:
    """A score of a group of runs.

    Attributes:
        mean: Mean over the runs, with its interval from resampling the studies.
        lowest: Lowest score of a run.
        highest: Highest score of a run.
        of_runs: Score of each run, in the order of the group.
    """

    mean: Score
    lowest: float
    highest: float
    of_runs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GroupDifference(Difference):
    """Mean score of one group of runs minus that of another group, tested over studies and over seeds.

    Attributes:
        p_over_seeds: p-value of Welch's t-test on the scores of the runs; None if a group has too few runs.
        verdict: Clearly higher or lower if both p-values are below `SIGNIFICANT` and both tests point the
            same way.
        p_holm: `p`, adjusted by Holm's method for all tests over studies of the comparison; None in a
            comparison that an older RadScribe wrote.
        p_over_seeds_holm: `p_over_seeds`, adjusted for all tests over seeds of the comparison; None where
            that is None.
    """

    p_over_seeds: float | None
    verdict: GroupVerdict
    p_holm: float | None = None
    p_over_seeds_holm: float | None = None
