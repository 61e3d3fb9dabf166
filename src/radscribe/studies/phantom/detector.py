"""The detector of the phantom: attenuation becomes grey, with noise, within the borders of the collimator."""

from __future__ import annotations

import numpy as np

from radscribe.studies.phantom.anatomy import IMAGE_SIZE
from radscribe.studies.phantom.study import Acquisition
from radscribe.studies.study import Projection

#: Grey level of the border that the collimator leaves unexposed.
UNEXPOSED = 6.0


def exposed_pixels(acquisition: Acquisition) -> np.ndarray:
    """Whether each pixel lies within the collimator's borders, bool [height, width]."""
    left, top, right, bottom = (round(width * IMAGE_SIZE / 2) for width in acquisition.collimation)
    exposed = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=bool)
    exposed[top : IMAGE_SIZE - bottom, left : IMAGE_SIZE - right] = True
    return exposed


def tone(attenuation: np.ndarray, acquisition: Acquisition) -> np.ndarray:
    """Grey levels from 0 to 255 for an attenuation; dense tissue is white."""
    exponent = np.float32(acquisition.contrast) * (np.float32(acquisition.exposure) - attenuation)
    return np.float32(255) / (1 + np.exp(exponent))


def noise(acquisition: Acquisition, projection: Projection) -> np.ndarray:
    """Noise of the image in grey levels; neighbouring pixels are a little correlated."""
    generator = np.random.default_rng([acquisition.noise_seed, projection == "lateral"])
    white = generator.standard_normal((IMAGE_SIZE + 1, IMAGE_SIZE + 1), dtype=np.float32)
    neighbours = white[:-1, :-1] + white[1:, :-1] + white[:-1, 1:]
    return np.float32(acquisition.noise) * (0.8 * white[1:, 1:] + 0.35 * neighbours)
