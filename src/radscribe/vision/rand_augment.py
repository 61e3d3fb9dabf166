"""Training views as Swin's training on ImageNet changes them, by timm: RandAugment, crops and erasing.

The released stage 1 of AM-MRG (SwinCheX) has it as it is: a crop of 8 to 100% of the area, resized (bicubic);
mirrored in half of the views; two changes of magnitude 9 out of fifteen, such as rotating, shearing or
inverting; and in a quarter of the views a rectangle of noise.
"""

from __future__ import annotations

import random as of_python
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image

#: Mean and standard deviation of grey, by those of ImageNet's colours: noise has them.
_MEAN, _STD = 0.449, 0.226


def rand_augmented(pixels: np.ndarray, crop: int, random: np.random.Generator) -> np.ndarray:
    """Change a view at random.

    Args:
        pixels: View, uint8 grey `[height, width]`.
        crop: Side in pixels of the result.
        random: Where all that is random comes from.

    Returns:
        uint8 grey `[crop, crop]`. Noise is grey too, and cut to 8 bits; the released code has it in colour.
    """
    change, erase = _of_timm(crop)
    with _drawing_from(random):
        changed = np.array(change(Image.fromarray(pixels).convert("RGB")).convert("L"))
        normalised = (torch.from_numpy(changed).unsqueeze(0) / 255 - _MEAN) / _STD
        erased = erase(normalised)[0] * _STD + _MEAN
    return (erased * 255).round().clamp(0, 255).to(torch.uint8).numpy()


@lru_cache
def _of_timm(
    crop: int,
) -> tuple[Callable[[Image.Image], Image.Image], Callable[[torch.Tensor], torch.Tensor]]:
    """What timm does to an image, and to its normalised pixels."""
    from timm.data import create_transform

    to_crops, to_images, to_pixels = create_transform(
        crop,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
        separate=True,
    )
    erasing: Any = to_pixels.transforms[-1]
    return lambda image: to_images(to_crops(image)), erasing


@contextmanager
def _drawing_from(random: np.random.Generator) -> Iterator[None]:
    """Let the generators of Python, NumPy and torch, from which timm draws, follow another for a while."""
    seed = int(random.integers(2**32))
    python, numpy = of_python.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        of_python.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            of_python.setstate(python)
            np.random.set_state(numpy)
