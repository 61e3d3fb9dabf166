"""Boxes on images: those that radiologists drew around findings become the masks of these findings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from radscribe.studies.images import read_file
from radscribe.studies.study import RenderedView

#: Left, top, right and bottom of a box, as shares of the width and the height of its image.
Box = tuple[float, float, float, float]
#: A box may stand out of its image by this share, as rounded numbers do; what stands out is cut off.
_TOLERANCE = 0.001


@dataclass(frozen=True, slots=True)
class BoxedImage:
    """The source of a view: an image file and the boxes on it, which become masks when this is called.

    Attributes:
        path: Path of the image.
        file: Name of the file in messages and in a store.
        boxes: Observations and the boxes of each.
        notes: What to know about the view.
    """

    path: Path
    file: str
    boxes: tuple[tuple[str, tuple[Box, ...]], ...]
    notes: tuple[str, ...] = ()

    def __call__(self) -> RenderedView:
        """Decode the image; see `read_file`."""
        view = read_file(self.path)
        height, width = view.pixels.shape
        masks = {observation: mask_of(boxes, height, width) for observation, boxes in self.boxes}
        return replace(view, masks=masks, notes=(*view.notes, *self.notes))


def mask_of(boxes: Iterable[Box], height: int, width: int) -> np.ndarray:
    """The pixels that boxes touch, bool [height, width]; a box touches one pixel at least."""
    mask = np.zeros((height, width), bool)
    for left, top, right, bottom in boxes:
        rows = _touched(top, bottom, height)
        mask[rows, _touched(left, right, width)] = True
    return mask


def _touched(low: float, high: float, size: int) -> slice:
    first = min(math.floor(low * size), size - 1)
    return slice(first, max(math.ceil(high * size), first + 1))


def box_of(value: object) -> Box:
    """A box from a list of four numbers; its corners may stand in either order.

    Raises:
        ValueError: it is anything else, or lies outside of the image.
    """
    numbers = value if isinstance(value, list) and len(value) == 4 else []
    good = [number for number in numbers if type(number) in (int, float)]  # true and false are no numbers
    if len(good) < 4 or not all(-_TOLERANCE <= number <= 1 + _TOLERANCE for number in good):
        raise ValueError(f"its box {value} is not [x1, y1, x2, y2] with numbers from 0 to 1")
    x1, y1, x2, y2 = (min(max(float(number), 0.0), 1.0) for number in good)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
