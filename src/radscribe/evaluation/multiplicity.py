"""Multiplicity: p-values of many tests, adjusted so that few of them are small by chance alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family of tests by Holm's method (Scandinavian Journal of Statistics, 1979).

    If no tested difference is there, the chance that any adjusted p-value is below .05 is at most 5%, however
    the tests depend on each other.

    Args:
        p_values: The p-value of each test of the family.

    Returns:
        The adjusted p-value of each test, in the order of `p_values`; never smaller than the raw one.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()
