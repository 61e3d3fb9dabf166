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

_MOST_DEGREES = 10.0
_SCALES = (0.8, 1.2)


@dataclass(kw_only=True)
class TransformConfig:
    """Sizes, crops and changes of the images.

    Attributes:
        short_side: Length in pixels that the short side of a view is resized to before the crop.
        crop: Side in pixels of the square that the backbone sees.
        evaluation: What evaluation sees of a view: `center_crop` (papers) or `squash` (released code: the
            whole view, its aspect ratio lost).
        horizontal_flip: Mirror half of the training views at random, each by itself (released code).
        augmentation: Random change of each training view: `none`; `rotate_or_scale`, one of the two
            (CAMANet's paper); or `rotate_and_scale`, both in half of the views (CAMANet's released code).
            Angles reach 10 degrees and scales lie between 0.8 and 1.2.
    """

    short_side: int = 256
    crop: int = 224
    evaluation: Literal["center_crop", "squash"] = "center_crop"
    horizontal_flip: bool = False
    augmentation: Literal["none", "rotate_or_scale", "rotate_and_scale"] = "none"

    def __post_init__(self) -> None:
        if self.crop > self.short_side:
            raise ValueError(
                f"transform.crop {self.crop} is larger than transform.short_side {self.short_side}"
            )


def _resize(
    pixels: np.ndarray, height: int, width: int, filter_: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    if pixels.shape == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), filter_))


def _to_short_side(
    pixels: np.ndarray, short_side: int, filter_: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    height, width = pixels.shape
    scale = short_side / min(height, width)
    height, width = (max(short_side, round(side * scale)) for side in (height, width))
    return _resize(pixels, height, width, filter_)


def training_view(pixels: np.ndarray, config: TransformConfig, random: np.random.Generator) -> Tensor:
    """Crop at random; uint8 `[height, width]` to uint8 `[crop, crop]`."""
    pixels = _to_short_side(pixels, config.short_side)
    if config.augmentation != "none":
        pixels = _augment(pixels, config, random)
    top, left = (random.integers(0, side - config.crop + 1) for side in pixels.shape)
    cropped = pixels[top : top + config.crop, left : left + config.crop]
    if config.horizontal_flip and random.random() < 0.5:
        cropped = cropped[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(cropped))


def _augment(pixels: np.ndarray, config: TransformConfig, random: np.random.Generator) -> np.ndarray:
    """Rotate and scale about the centre; what comes from outside the view is black."""
    angle, scale = random.uniform(-_MOST_DEGREES, _MOST_DEGREES), random.uniform(*_SCALES)
    chosen = random.random() < 0.5
    if config.augmentation == "rotate_or_scale":
        angle, scale = (angle, 1.0) if chosen else (0.0, scale)
    elif not chosen:
        return pixels
    cosine, sine = np.cos(np.radians(angle)) / scale, np.sin(np.radians(angle)) / scale
    y, x = (side / 2 for side in pixels.shape)
    matrix = (cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y)
    image = Image.fromarray(pixels)
    return np.array(
        image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)
    )


def evaluation_view(pixels: np.ndarray, config: TransformConfig) -> Tensor:
    """Crop the centre or squash; uint8 `[height, width]` to uint8 `[crop, crop]`."""
    return torch.from_numpy(_evaluated(pixels, config, Image.Resampling.BILINEAR).copy())


def evaluation_mask(mask: np.ndarray, config: TransformConfig) -> np.ndarray:
    """A mask where `evaluation_view` puts its view; bool `[height, width]` to `[crop, crop]`."""
    return _evaluated(mask.astype(np.uint8), config, Image.Resampling.NEAREST).astype(bool)


def _evaluated(pixels: np.ndarray, config: TransformConfig, filter_: Image.Resampling) -> np.ndarray:
    if config.evaluation == "squash":
        return _resize(pixels, config.crop, config.crop, filter_)
    pixels = _to_short_side(pixels, config.short_side, filter_)
    top, left = ((side - config.crop) // 2 for side in pixels.shape)
    return pixels[top : top + config.crop, left : left + config.crop]


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
