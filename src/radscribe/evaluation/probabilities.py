"""How good the probabilities of one observation are: ranking, threshold, and calibration.

Each function takes one observation over all studies whose label is known, and each is exact: no draws, no
grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import rankdata

#: Bins of equal width in which confidence and frequency are compared.
BINS = 10
#: Temperatures lie between this and its inverse.
_LOWEST_TEMPERATURE = 0.05


class Threshold(NamedTuple):
    """From which probability on an observation is present, and the F1 that this gives."""

    value: float
    f1: float


def area_under_curve(probabilities: np.ndarray, present: np.ndarray) -> float | None:
    """The area under the receiver operating characteristic curve.

    It is the share of pairs of a study with and a study without the observation in which the first has the
    higher probability; a tie counts half (Mann and Whitney, 1947).

    Args:
        probabilities: or logits `[studies]`.
        present: bool `[studies]`.

    Returns:
        The area; None where no study has the observation, or all have it.
    """
    positives = int(present.sum())
    negatives = len(present) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(probabilities)  # the mean rank where several are equal
    return float((ranks[present].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def f1_at(probabilities: np.ndarray, present: np.ndarray, threshold: float) -> float:
    """F1 of what has at least a threshold; 0 where nothing is present and nothing is recognised.

    Args:
        probabilities: `[studies]`.
        present: bool `[studies]`.
        threshold: from which on a study has the observation.
    """
    recognised = probabilities >= threshold
    either = int(recognised.sum() + present.sum())
    return 2 * int((recognised & present).sum()) / either if either else 0.0


def best_threshold(probabilities: np.ndarray, present: np.ndarray) -> Threshold:
    """The threshold with the highest F1; the highest such threshold where there are several.

    It lies half way between two neighbouring probabilities, so that no rounding moves a study across it.

    Args:
        probabilities: `[studies]`, at least one.
        present: bool `[studies]`.
    """
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    recognised = np.arange(1, len(order) + 1)
    f1 = 2 * np.cumsum(present[order]) / (recognised + present.sum())
    below = np.append(ordered[1:], 0.0)
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0  # a threshold cannot part equal probabilities
    best = int(np.argmax(f1))
    return Threshold(float((ordered[best] + below[best]) / 2), float(f1[best]))


def best_temperature(logits: np.ndarray, present: np.ndarray) -> float:
    """The temperature that a logit is divided by for the lowest cross-entropy (Guo et al., ICML 2017).

    It changes no ranking. It lies between 0.05 and 20.

    Args:
        logits: `[studies]`, at least one.
        present: bool `[studies]`.
    """
    signed = np.where(present, logits, -logits).astype(np.float64)

    def cross_entropy(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed * np.exp(-log_temperature)).mean())

    bound = -np.log(_LOWEST_TEMPERATURE)
    found = minimize_scalar(cross_entropy, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def calibrated(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities of logits at a temperature, float64 of the same shape."""
    return expit(logits.astype(np.float64) / temperature)


def expected_calibration_error(probabilities: np.ndarray, present: np.ndarray) -> float:
    """How far probabilities are from frequencies, on average over the studies.

    The studies of each of `BINS` bins of equal width have a mean probability and a share that has the
    observation; their difference counts by the number of studies in the bin.

    Args:
        probabilities: `[studies]`, at least one.
        present: bool `[studies]`.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=probabilities - present, minlength=BINS)
    return float(np.abs(gaps).sum() / len(probabilities))
