"""From a view's pixels to what a backbone takes: one size, grey, 8 bit; normalisation is the backbone's.

Training crops at random; evaluation crops the centre (`paper`) or squashes the whole image to a square
(`released`). Views are never mirrored unless asked: a mirrored chest has its heart on the wrong side while
its report still says left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(kw_only=True)
class TransformConfig:
    """Image geometry.

    Attributes:
        short_side: views are resized to this short side before the crop.
        crop: side of the square that the backbone sees.
        evaluation: `center_crop` (papers) or `squash` (released code: the whole view, aspect lost).
        horizontal_flip: mirror half of the training views, each by itself (released code).
    """

    short_side: int = 256
    crop: int = 224
    evaluation: Literal["center_crop", "squash"] = "center_crop"
    horizontal_flip: bool = False

    def __post_init__(self) -> None:
        if self.crop > self.short_side:
            raise ValueError(
                f"transform.crop {self.crop} is larger than transform.short_side {self.short_side}"
            )


def _resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if pixels.shape == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def _to_short_side(pixels: np.ndarray, short_side: int) -> np.ndarray:
    height, width = pixels.shape
    scale = short_side / min(height, width)
    return _resize(pixels, max(short_side, round(height * scale)), max(short_side, round(width * scale)))


def training_view(pixels: np.ndarray, config: TransformConfig, random: np.random.Generator) -> Tensor:
    """Crop at random; uint8 `[height, width]` to uint8 `[crop, crop]`."""
    pixels = _to_short_side(pixels, config.short_side)
    top, left = (random.integers(0, side - config.crop + 1) for side in pixels.shape)
    cropped = pixels[top : top + config.crop, left : left + config.crop]
    if config.horizontal_flip and random.random() < 0.5:
        cropped = cropped[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(cropped))


def evaluation_view(pixels: np.ndarray, config: TransformConfig) -> Tensor:
    """Crop the centre or squash; uint8 `[height, width]` to uint8 `[crop, crop]`."""
    if config.evaluation == "squash":
        return torch.from_numpy(_resize(pixels, config.crop, config.crop).copy())
    pixels = _to_short_side(pixels, config.short_side)
    top, left = ((side - config.crop) // 2 for side in pixels.shape)
    return torch.from_numpy(pixels[top : top + config.crop, left : left + config.crop].copy())


def stack_views(studies: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Put the views of several studies side by side.

    Args:
        studies: for each study its views, uint8 `[crop, crop]`; at least one view each.

    Returns:
        Views uint8 `[studies, most views, crop, crop]`, absent ones 0, and their mask bool
        `[studies, most views]`.
    """
    most = max(len(views) for views in studies)
    stacked = torch.zeros(len(studies), most, *studies[0][0].shape, dtype=torch.uint8)
    mask = torch.zeros(len(studies), most, dtype=torch.bool)
    for row, views in enumerate(studies):
        stacked[row, : len(views)] = torch.stack(views)
        mask[row, : len(views)] = True
    return stacked, mask
