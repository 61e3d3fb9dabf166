"""Image transforms: from a view to the square of 8-bit grey pixels that a backbone takes.

A view of any source is first brought to the short side that it has in a prepared store (`stored_view`) and
only then transformed, so that a study gives the same pixels from its files and from its store. Training crops
at random; evaluation crops the centre (papers) or squashes the whole image to a square (released code).
Normalisation belongs to the backbone. Views are mirrored only if this is asked for: a mirrored chest has its
heart on the wrong side while its report still says left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.ranges import PIXELS, check_fields
from radscribe.studies.images import STORE_SHORT_SIDE, read_view, to_short_side
from radscribe.studies.store import PreparedStore
from radscribe.studies.stored_view import StoredView
from radscribe.studies.study import RenderedView, View
from radscribe.vision.published_pixels import DEFAULT_PIXELS, Interpolation, PublishedPixels
from radscribe.vision.rand_augment import rand_augmented

#: Random changes of training views.
Augmentation = Literal["none", "rotate_or_scale", "rotate_and_scale", "rand_augment"]

_MOST_DEGREES = 10.0
_SCALES = (0.8, 1.2)


@dataclass(kw_only=True, slots=True)
class TransformConfig:
    """Sizes, crops and changes of the images.

    Attributes:
        store_short_side: Length in pixels of the short side of the views in the prepared store. A view from a
            file is resized to it first. With 0, training takes it from the store, and the run keeps it.
        store_reduced_jpeg: Whether large JPEG files were decoded at a reduced scale for the prepared store; a
            view from a file is then read likewise. With null, training takes it from the store, and the run
            keeps it.
        short_side: Length in pixels that the short side of a view is resized to before the crop.
        crop: Side in pixels of the square that the backbone sees.
        interpolation: Filter of the resizing from the store's short side to `short_side`, or to the square of
            `squash`. With null, training takes the filter that the backbone's weights were trained with
            (`bilinear` for random weights), and the run keeps it.
        evaluation: What evaluation sees of a view: `center_crop` (papers) or `squash` (released code: the
            whole view, its aspect ratio lost).
        horizontal_flip: Mirror half of the training views at random, each by itself (released code).
        augmentation: Random change of each training view: `none`; `rotate_or_scale`, one of the two
            (CAMANet's paper); `rotate_and_scale`, both in half of the views (CAMANet's released code); or
            `rand_augment`, as Swin is trained on ImageNet (AM-MRG's released stage 1), which mirrors too.
            Angles of the first two reach 10 degrees and scales lie between 0.8 and 1.2.
    """

    store_short_side: int = 0
    store_reduced_jpeg: bool | None = None
    short_side: int = 256
    crop: int = 224
    interpolation: Interpolation | None = None
    evaluation: Literal["center_crop", "squash"] = "center_crop"
    horizontal_flip: bool = False
    augmentation: Augmentation = "none"

    def __post_init__(self) -> None:
        check_fields(self, "data.transform.", short_side=PIXELS, crop=PIXELS)
        if self.crop > self.short_side:
            raise ValueError(
                f"data.transform.crop {self.crop} is larger than data.transform.short_side {self.short_side}"
            )
        if self.store_short_side and self.short_side > self.store_short_side:
            raise ValueError(
                f"transform.short_side {self.short_side} is larger than transform.store_short_side "
                f"{self.store_short_side}"
            )

    @property
    def filter(self) -> Image.Resampling:
        """The filter that `interpolation` names, as Pillow's constant."""
        return Image.Resampling[(self.interpolation or DEFAULT_PIXELS.interpolation).upper()]


def check_store(store: PreparedStore, config: TransformConfig) -> None:
    """Check that the views of a store have the size that `config` begins with.

    Raises:
        RadScribeError: the views are smaller than `config.short_side`, or have another short side or another
            decoding of JPEG, and so other pixels, than those that the run was trained on.
    """
    _check_short_side(store.manifest["short_side"], store.path, config)
    _check_jpeg(store.manifest["reduced_jpeg"], store.path, config)


def settled_transform(
    config: TransformConfig, store: PreparedStore, pixels: PublishedPixels
) -> TransformConfig:
    """The transform that a run keeps, with its store's short side and its weights' interpolation.

    Args:
        config: Configuration whose other values stay; an interpolation that it already has stays too.
        store: Prepared store that is trained on.
        pixels: Pixels that the backbone's weights need.

    Raises:
        RadScribeError: see `check_store`.
    """
    check_store(store, config)
    return replace(
        config,
        store_short_side=store.manifest["short_side"],
        store_reduced_jpeg=store.manifest["reduced_jpeg"],
        interpolation=config.interpolation or pixels.interpolation,
    )


def check_view(view: View, config: TransformConfig) -> None:
    """Check a view of a prepared store as `check_store` does; any other view passes.

    Raises:
        RadScribeError: see `check_store`.
    """
    if isinstance(view.source, StoredView):
        _check_short_side(min(view.source.shape), view.source.store, config)
        _check_jpeg(view.source.reduced_jpeg, view.source.store, config)


def _check_short_side(found: int, store: Path, config: TransformConfig) -> None:
    if config.store_short_side and found != config.store_short_side:
        raise RadScribeError(
            f"the views in the store {store} have a short side of {found} pixels, not of "
            f"{config.store_short_side} as in training (transform.store_short_side): the same study would "
            "have other pixels",
            "Prepare its source anew: radscribe prepare SOURCE --out STORE "
            f"--short_side {config.store_short_side}",
        )
    if found < config.short_side:
        raise RadScribeError(
            f"the views in the store {store} have a short side of {found} pixels; "
            f"{config.short_side} are needed (transform.short_side)",
            f"Prepare its source anew: radscribe prepare SOURCE --out STORE --short_side {config.short_side}",
        )


def _check_jpeg(reduced: bool, store: Path, config: TransformConfig) -> None:
    # A run of an earlier version knows the short side of its store alone, whose pictures were not reduced.
    known = config.store_reduced_jpeg is not None or config.store_short_side
    if known and reduced != bool(config.store_reduced_jpeg):
        this, other = ("with", "without") if reduced else ("without", "with")
        raise RadScribeError(
            f"the store {store} was prepared {this} --reduced_jpeg, not {other} it as in training "
            "(transform.store_reduced_jpeg): the same study would have other pixels",
            "Prepare its source anew: radscribe prepare SOURCE --out STORE"
            + ("" if reduced else " --reduced_jpeg"),
        )


def stored_view(view: View, config: TransformConfig) -> RenderedView:
    """A view as a prepared store has it, whether it comes from a store, from a file or from a function.

    Every transform begins with this function.

    Raises:
        RadScribeError: the view cannot be read, or its store does not fit; see `check_store`.
    """
    if isinstance(view.source, StoredView):
        check_view(view, config)
        return view.source()
    return read_view(
        view,
        config.store_short_side or max(STORE_SHORT_SIDE, config.short_side),
        reduced_jpeg=bool(config.store_reduced_jpeg),
    )


def training_view(pixels: np.ndarray, config: TransformConfig, random: np.random.Generator) -> Tensor:
    """Crop a view at random: uint8 `[height, width]` of a `stored_view` becomes uint8 `[crop, crop]`."""
    pixels = to_short_side(pixels, config.short_side, config.filter)
    if config.augmentation == "rand_augment":
        return torch.from_numpy(rand_augmented(pixels, config.crop, random))
    if config.augmentation != "none":
        pixels = _augment(pixels, config, random)
    top, left = (random.integers(0, side - config.crop + 1) for side in pixels.shape)
    cropped = pixels[top : top + config.crop, left : left + config.crop]
    if config.horizontal_flip and random.random() < 0.5:
        cropped = cropped[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(cropped))


def _augment(pixels: np.ndarray, config: TransformConfig, random: np.random.Generator) -> np.ndarray:
    """Rotate and scale a view about its centre; what comes from outside the view is black."""
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
    """Crop the centre of a `stored_view` or squash it: uint8 `[height, width]` to uint8 `[crop, crop]`."""
    return torch.from_numpy(_evaluated(pixels, config, config.filter).copy())


def evaluation_mask(mask: np.ndarray, config: TransformConfig) -> np.ndarray:
    """Move a mask as `evaluation_view` moves its view: bool `[height, width]` becomes `[crop, crop]`."""
    return _evaluated(mask.astype(np.uint8), config, Image.Resampling.NEAREST).astype(bool)


def _evaluated(pixels: np.ndarray, config: TransformConfig, filter_: Image.Resampling) -> np.ndarray:
    if config.evaluation == "squash":
        return np.asarray(Image.fromarray(pixels).resize((config.crop, config.crop), filter_))
    pixels = to_short_side(pixels, config.short_side, filter_)
    top, left = ((side - config.crop) // 2 for side in pixels.shape)
    return pixels[top : top + config.crop, left : left + config.crop]


def stack_views(studies: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack the views of several studies into one tensor, with a mask for absent views.

    Args:
        studies: Views of each study, uint8 `[crop, crop]`; at least one view for each.

    Returns:
        The views, uint8 `[studies, most views, crop, crop]`, with 0 for absent ones; and their mask, bool
        `[studies, most views]`.
    """
    most = max(len(views) for views in studies)
    stacked = torch.zeros(len(studies), most, *studies[0][0].shape, dtype=torch.uint8)
    mask = torch.zeros(len(studies), most, dtype=torch.bool)
    for row, views in enumerate(studies):
        stacked[row, : len(views)] = torch.stack(views)
        mask[row, : len(views)] = True
    return stacked, mask
