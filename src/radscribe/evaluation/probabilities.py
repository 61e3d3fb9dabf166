"""Measuring the probabilities of one observation: area under the curve, threshold, and calibration.

Each function takes one observation over all studies whose label is known. No function draws random numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import rankdata

#: Number of bins of the expected calibration error.
BINS = 10
#: Temperatures lie between this and its inverse.
_LOWEST_TEMPERATURE = 0.05


class Threshold(NamedTuple):
    """The probability from which on an observation counts as present, and the F1 of this threshold."""

    value: float
    f1: float


def area_under_curve(probabilities: np.ndarray, present: np.ndarray) -> float | None:
    """The area under the receiver operating characteristic curve.

    It is the share of pairs of a study with and a study without the observation in which the first has the
    higher probability; a tie counts half (Mann and Whitney, 1947).

    Args:
        probabilities: Probabilities or logits `[studies]`.
        present: Studies that have the observation, bool `[studies]`.

    Returns:
        The area; None if no study has the observation, or if all have it.
    """
    positives = int(present.sum())
    negatives = len(present) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(probabilities)  # equal values share their mean rank
    return float((ranks[present].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def f1_at(probabilities: np.ndarray, present: np.ndarray, threshold: float) -> float:
    """F1 of the studies that reach a threshold; 0 if no study has the observation and none reaches it.

    Args:
        probabilities: Probabilities `[studies]`.
        present: Studies that have the observation, bool `[studies]`.
        threshold: Lowest probability that counts as present.
    """
    recognised = probabilities >= threshold
    either = int(recognised.sum() + present.sum())
    return 2 * int((recognised & present).sum()) / either if either else 0.0


def best_threshold(probabilities: np.ndarray, present: np.ndarray) -> Threshold:
    """The threshold with the highest F1; if several thresholds have it, the highest of them.

    It lies half way between two neighbouring probabilities, so that rounding moves no study across it.

    Args:
        probabilities: Probabilities of at least one study `[studies]`.
        present: Studies that have the observation, bool `[studies]`.
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
    """The temperature with the lowest cross-entropy; logits are divided by it (Guo et al., ICML 2017).

    It does not change the order of the studies. It lies between 0.05 and 20.

    Args:
        logits: Logits of at least one study `[studies]`.
        present: Studies that have the observation, bool `[studies]`.
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
    """The expected calibration error: how far probabilities are from frequencies, averaged over the studies.

    The studies are put into `BINS` bins of equal width. The error of a bin is the difference between the mean
    probability of its studies and the share of them that have the observation.

    Args:
        probabilities: Probabilities of at least one study `[studies]`.
        present: Studies that have the observation, bool `[studies]`.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=probabilities - present, minlength=BINS)
    return float(np.abs(gaps).sum() / len(probabilities))
