"""Uncertainty of scores: bootstrap intervals over studies, and paired tests between two systems.

Studies are drawn with replacement, and corpus scores are computed again from the summed statistics of the
drawn studies (Koehn 2004). All systems share the same draws, so differences between systems are paired.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.evaluation.metrics import Scores, StudyStatistics
from radscribe.evaluation.scores import Difference, Score

INTERVAL_LEVEL = 0.95
#: More resamples would take much memory and hours, and would not change the third digit of any interval.
MOST_RESAMPLES = 100_000
_RESAMPLES_AT_ONCE = 100
_ROUNDING = 1e-12


def resampled_scores(families: Sequence[StudyStatistics], resamples: int, seed: int) -> list[Scores]:
    """Corpus scores of random resamples of the studies; all families share the same resamples.

    Args:
        families: Statistics of the same studies, in the same order.
        resamples: Number of bootstrap resamples.
        seed: Random seed of the draws.

    Returns:
        For each family, the values [resamples] of each score, by name.

    Raises:
        RadScribeError: the families have different numbers of studies, or the number of resamples is out of
            range.
    """
    numbers = {len(family.columns) for family in families}
    if len(numbers) != 1:
        raise RadScribeError(f"cannot resample statistics of different numbers of studies: {sorted(numbers)}")
    check_resamples(resamples)
    studies = numbers.pop()
    columns = np.hstack([family.columns for family in families])
    generator = np.random.default_rng(seed)
    sums = []
    for first in range(0, resamples, _RESAMPLES_AT_ONCE):
        rows = min(_RESAMPLES_AT_ONCE, resamples - first)
        drawn = generator.integers(studies, size=(rows, studies)) + studies * np.arange(rows)[:, None]
        times_drawn = np.bincount(drawn.ravel(), minlength=rows * studies).reshape(rows, studies)
        sums.append(times_drawn.astype(np.float64) @ columns)
    widths = np.cumsum([family.columns.shape[1] for family in families])[:-1]
    parts = np.split(np.concatenate(sums), widths, axis=1)
    return [family.scores_of_sums(part) for family, part in zip(families, parts, strict=True)]


def check_resamples(resamples: int) -> None:
    """Refuse a number of resamples that is below 1 or above `MOST_RESAMPLES`."""
    if not 1 <= resamples <= MOST_RESAMPLES:
        raise RadScribeError(
            f"a bootstrap takes from 1 to {MOST_RESAMPLES:,} resamples, not {resamples:,}",
            "1000 are usual: --resamples 1000",
        )


def percentile_interval(samples: np.ndarray) -> tuple[float, float]:
    """The bounds of the central 95% of bootstrap samples [resamples]."""
    tail = 50 * (1 - INTERVAL_LEVEL)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def scores_with_intervals(families: Sequence[StudyStatistics], resamples: int, seed: int) -> dict[str, Score]:
    """Corpus scores of one system, with their intervals, of all its metric families.

    Args:
        families: Statistics of the system, all of the same studies.
        resamples: Number of bootstrap resamples.
        seed: Random seed of the draws.
    """
    samples = resampled_scores(families, resamples, seed)
    return {
        name: Score(value, *percentile_interval(drawn[name]))
        for family, drawn in zip(families, samples, strict=True)
        for name, value in family.scores().items()
    }


def paired_test(
    first: Sequence[StudyStatistics], second: Sequence[StudyStatistics], resamples: int, seed: int
) -> dict[str, Difference]:
    """Test for every corpus score whether two systems differ: first minus second on the same resamples.

    The p-value is twice the smaller of two shares of resamples: with a difference of at most 0, and of at
    least 0.

    Args:
        first: Statistics of one system, one entry for each metric family.
        second: Statistics of the other system: the same families and the same studies in the same order.
        resamples: Number of bootstrap resamples.
        seed: Random seed of the draws.

    Raises:
        RadScribeError: the two have different numbers of studies.
    """
    samples = resampled_scores([*first, *second], resamples, seed)
    differences = {}
    for index, (ours, theirs) in enumerate(zip(first, second, strict=True)):
        other_scores = theirs.scores()
        for name, value in ours.scores().items():
            drawn = samples[index][name] - samples[len(first) + index][name]
            # Equal systems differ by rounding errors of their sums; these must not count as a direction.
            drawn[np.abs(drawn) < _ROUNDING] = 0.0
            low, high = percentile_interval(drawn)
            differences[name] = Difference(value - other_scores[name], low, high, two_sided_p(drawn))
    return differences


def two_sided_p(differences: np.ndarray) -> float:
    """Two-sided p-value: twice the smaller share of `differences` [resamples] that are <= 0, or >= 0."""
    # Equal systems differ by rounding errors of their sums; these must not count as a direction.
    drawn = np.where(np.abs(differences) < _ROUNDING, 0.0, differences)
    fewer = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (fewer + 1) / (len(drawn) + 1)))
