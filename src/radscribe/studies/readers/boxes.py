"""Boxes on images: those that radiologists drew around findings become the masks of these findings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from radscribe.studies.images import bytes_of, read_content
from radscribe.studies.readers.zip_archives import content_of
from radscribe.studies.study import RenderedView

#: Left, top, right and bottom of a box, as shares of the width and the height of its image.
Box = tuple[float, float, float, float]
#: A box may stand out of its image by this share, as rounded numbers do; what stands out is cut off.
_TOLERANCE = 0.001
#: Why a box becomes no mask.
EMPTY = "empty"
OUTSIDE = "outside of the image"


@dataclass(frozen=True, slots=True)
class BoxedImage:
    """The source of a view: an image file and the boxes on it, which become masks when this is called.

    No gate looks at the image: who drew boxes for a chest has seen that it is one.

    Attributes:
        path: Path of the image, or of the archive that holds it, or of a part of that archive.
        file: Name of the file in messages and in a store.
        boxes: Observations and the boxes of each.
        box_counts: Number of boxes by what becomes of them; see `RenderedView`.
        notes: What to know about the view.
        member: Name in the archive; empty for a file in a folder.
        archive_parts: Parts of the archive that the image lies in, if it comes in parts.
    """

    path: Path
    file: str
    boxes: tuple[tuple[str, tuple[Box, ...]], ...]
    box_counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    member: str = ""
    archive_parts: tuple[Path, ...] = ()

    def __call__(self) -> RenderedView:
        """Decode the image; see `read_content`."""
        in_archive = bool(self.member)
        content = content_of(self.path, self.member, self.file) if in_archive else bytes_of(self.path)
        view = read_content(content, self.file if in_archive else self.path, chest_only=False)
        height, width = view.pixels.shape
        masks = {observation: mask_of(boxes, height, width) for observation, boxes in self.boxes}
        return replace(view, masks=masks, box_counts=self.box_counts, notes=(*view.notes, *self.notes))


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


def box_of(value: object) -> tuple[Box, str]:
    """A box from a list of four numbers, and why it becomes no mask: `EMPTY`, `OUTSIDE`, or nothing.

    Its corners may stand in either order. One that stands out of the image at all is `OUTSIDE`, for its
    numbers may be pixels.

    Raises:
        ValueError: it is anything else.
    """
    numbers = value if isinstance(value, list) and len(value) == 4 else []
    # True and false are no numbers.
    good = [float(number) for number in numbers if type(number) in (int, float) and math.isfinite(number)]
    if len(good) < 4:
        raise ValueError(f"its box {value} is not [x1, y1, x2, y2] with four numbers")
    x1, y1, x2, y2 = (min(max(number, 0.0), 1.0) for number in good)
    box = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    if not all(-_TOLERANCE <= number <= 1 + _TOLERANCE for number in good):
        return box, OUTSIDE
    return box, EMPTY if x1 == x2 or y1 == y2 else ""
