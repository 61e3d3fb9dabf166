"""How sure a score is: bootstrap intervals over studies, and paired tests between two systems.

Studies are drawn with replacement and corpus scores are computed anew from their summed statistics
(Koehn 2004). The same draws serve every system, so that differences between systems are paired.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.evaluation.metrics import Scores, StudyStatistics
from radscribe.evaluation.scores import Difference, Score

INTERVAL_LEVEL = 0.95
#: More would take memory and hours, and change no interval's third digit.
MOST_RESAMPLES = 100_000
_RESAMPLES_AT_ONCE = 100
_ROUNDING = 1e-12


def resampled_scores(families: Sequence[StudyStatistics], resamples: int, seed: int) -> list[Scores]:
    """Corpus scores of random resamples of the studies, the same resamples for every family given.

    Args:
        families: statistics over the same studies, in the same order.
        resamples: how many.
        seed: of the draws.

    Returns:
        For each family, each score's values [resamples].

    Raises:
        RadScribeError: families over different numbers of studies, or a number of resamples out of range.
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
    """The central 95% of bootstrap samples [resamples]."""
    tail = 50 * (1 - INTERVAL_LEVEL)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def scores_with_intervals(families: Sequence[StudyStatistics], resamples: int, seed: int) -> dict[str, Score]:
    """Corpus scores of one system with their intervals, over all its metric families.

    Args:
        families: the system's statistics, all over the same studies.
        resamples: how many.
        seed: of the draws.
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
    """Whether two systems differ, for every corpus score: first minus second on the same resamples.

    The p-value is twice the smaller share of resamples in which the difference is at most, or at least, zero.

    Args:
        first: statistics of one system, by metric family.
        second: statistics of the other, the same families over the same studies in the same order.
        resamples: how many.
        seed: of the draws.

    Raises:
        RadScribeError: different numbers of studies.
    """
    samples = resampled_scores([*first, *second], resamples, seed)
    differences = {}
    for index, (ours, theirs) in enumerate(zip(first, second, strict=True)):
        other_scores = theirs.scores()
        for name, value in ours.scores().items():
            drawn = samples[index][name] - samples[len(first) + index][name]
            # Equal systems differ by the rounding of their sums, which must not count as a direction.
            drawn[np.abs(drawn) < _ROUNDING] = 0.0
            low, high = percentile_interval(drawn)
            differences[name] = Difference(value - other_scores[name], low, high, two_sided_p(drawn))
    return differences


def two_sided_p(differences: np.ndarray) -> float:
    """Twice the smaller share of resampled differences `[resamples]` that are at most, or at least, zero."""
    # Equal systems differ by the rounding of their sums, which must not count as a direction.
    drawn = np.where(np.abs(differences) < _ROUNDING, 0.0, differences)
    fewer = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (fewer + 1) / (len(drawn) + 1)))
