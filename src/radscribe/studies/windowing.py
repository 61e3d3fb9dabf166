"""Windows: the range of values of a deep picture that becomes black to white."""

from __future__ import annotations

import math

import numpy as np

#: Percentiles of a deep picture's values that become black and white; a few hot or dead pixels lie outside.
WINDOW_PERCENTILES = (0.1, 99.9)


def windowed(values: np.ndarray, sample: np.ndarray | None = None) -> tuple[np.ndarray, tuple[float, float]]:
    """Stretch values [height, width] of any depth linearly to 0..255; values outside a window are clipped.

    The window lies between the two `WINDOW_PERCENTILES`. Each percentile is moved inward to the next value
    that occurs, so that one hot pixel lies outside in small pictures too. If the two are equal, as in a mask,
    the window is the whole range. A constant picture is black.

    Args:
        values: Values [height, width].
        sample: Values that the window is computed from, if they are not all of `values`; not empty.

    Returns:
        uint8 [height, width], and the values that become 0 and 255.
    """
    if not np.isfinite(values).all():
        raise ValueError("holds values that are not finite")
    sample = values if sample is None else sample
    last = sample.size - 1
    ranks = math.ceil(last * WINDOW_PERCENTILES[0] / 100), math.floor(last * WINDOW_PERCENTILES[1] / 100)
    low, high = np.partition(sample, ranks, axis=None)[list(ranks)]
    if not low < high:
        low, high = sample.min(), sample.max()
    window = float(low), float(high)
    if not low < high:
        return np.zeros(values.shape, np.uint8), window
    return stretched(values, *window), window


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values of any shape as uint8: `low` becomes 0, `high` becomes 255, and values outside are clipped."""
    # 16 bits fit into float32 exactly; a span of float32 values may exceed what float32 holds.
    exact = values.astype(np.float32 if values.itemsize <= 2 else np.float64)
    return np.rint((np.clip(exact, low, high) - low) / (high - low) * 255).astype(np.uint8)
