"""Regions: the patches of a view that an activation map keeps, and what an encoder is shown of them.

Wang et al., AM-MRG, section III-B and Fig. 4; Eq. 1 is that paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.ranges import COUNT, PIXELS, SHARE, check_options

#: Ways of making an activation map: Grad-CAM, Grad-CAM++, HiResCAM, XGrad-CAM, Eigen-CAM and LayerCAM.
MapName = Literal["grad", "grad++", "hires", "xgrad", "eigen", "layer"]
#: What an encoder is shown of regions: each patch cropped and enlarged, or the view with the rest black.
RegionForm = Literal["crop", "masked"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionConfig:
    """How regions are found.

    Attributes:
        maps: Way of making the activation maps.
        threshold: A patch is kept if its mean activation, from 0 to 1, exceeds this (tau).
        most: Largest number of patches that are kept of a map, those with the highest means.
        patch: Side of a patch in pixels.
    """

    maps: MapName = "grad"
    threshold: float = 0.75
    most: int = 6
    patch: int = 16

    def check(self, crop: int) -> None:
        """Check the numbers.

        Args:
            crop: Side of the views in pixels.

        Raises:
            RadScribeError: a number is out of its range, or patches do not fill a view.
        """
        check_options(
            {
                "--threshold": (self.threshold, SHARE),
                "--most": (self.most, COUNT),
                "--patch": (self.patch, PIXELS),
            }
        )
        if crop % self.patch:
            fitting = [side for side in range(8, crop + 1) if crop % side == 0]
            raise RadScribeError(
                f"patches of {self.patch} pixels do not fill views of {crop} pixels",
                f"Give --patch {min(fitting, key=lambda side: abs(side - self.patch))}",
            )


class Region(NamedTuple):
    """A patch that is kept.

    Attributes:
        top: First row of its pixels in the view.
        left: First column of its pixels in the view.
        activation: Mean of the activation map in it.
    """

    top: int
    left: int
    activation: float


def kept_regions(activation_map: np.ndarray, config: RegionConfig) -> list[Region]:
    """The patches whose mean activation exceeds the threshold (Eq. 1), the most active first.

    Args:
        activation_map: Activation map from 0 to 1, `[crop, crop]`.
        config: Threshold, largest number and side of the patches.
    """
    side = config.patch
    rows, columns = (length // side for length in activation_map.shape)
    means = activation_map.reshape(rows, side, columns, side).mean(axis=(1, 3))
    order = np.argsort(-means, axis=None, kind="stable")[: config.most]
    kept = [(*divmod(int(number), columns), float(means.flat[number])) for number in order]
    return [
        Region(row * side, column * side, activation)
        for row, column, activation in kept
        if activation > config.threshold
    ]


def cropped(view: Tensor, regions: Sequence[Region], side: int) -> Tensor:
    """Each region of a view, enlarged to the size of the view (released code).

    Args:
        view: View, uint8 grey `[crop, crop]`.
        regions: At least one region.
        side: Side of a region in pixels.

    Returns:
        uint8 `[regions, crop, crop]`.
    """
    patches = torch.stack(
        [view[region.top : region.top + side, region.left : region.left + side] for region in regions]
    )
    enlarged = F.interpolate(
        patches.unsqueeze(1).float(), size=tuple(view.shape), mode="bilinear", align_corners=False
    )
    return enlarged.squeeze(1).round().to(torch.uint8)


def masked(view: Tensor, regions: Sequence[Region], side: int) -> Tensor:
    """A view with all pixels outside its regions at 0 (Eq. 1), uint8 `[crop, crop]`; see `cropped`."""
    kept = torch.zeros_like(view)
    for region in regions:
        rows = slice(region.top, region.top + side)
        columns = slice(region.left, region.left + side)
        kept[rows, columns] = view[rows, columns]
    return kept


def cells_of(regions: Sequence[Region], side: int, crop: int, cells: int) -> list[int]:
    """The cells of a grid that hold the centres of regions, each once, in the order of the regions.

    Args:
        regions: Regions of a view.
        side: Side of a region in pixels.
        crop: Side of the view in pixels.
        cells: Number of cells along a side of the grid.
    """
    found = [
        (region.top + side // 2) * cells // crop * cells + (region.left + side // 2) * cells // crop
        for region in regions
    ]
    return list(dict.fromkeys(found))
