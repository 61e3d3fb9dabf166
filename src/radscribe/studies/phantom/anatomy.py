"""The phantom's normal chest: schematic frontal and lateral anatomy, as attenuation.

A view is computed as attenuation, not as grey: tissue and bone add attenuation, the air of the lungs
subtracts it.

Coordinates are those of the patient as seen in the image: x and y run from -1 to 1, and y points downwards.
The patient's right has negative x in the frontal view; in the lateral view the patient faces the left of the
image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from radscribe.studies.phantom.study import Acquisition

#: Height and width of every view, pixels.
IMAGE_SIZE = 256

_CENTRES = (np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5) / (IMAGE_SIZE / 2) - 1
_GRID_X, _GRID_Y = np.meshgrid(_CENTRES, _CENTRES)

_SOFT_EDGE = 0.022
LUNG_AIR = 0.68

# An array [height, width], or a number for all of it.
_Part = TypeVar("_Part", np.ndarray, np.ndarray | float)
# Points of a line, and its width.
Stroke = tuple[Sequence[tuple[float, float]], float]


def ramp(distance: np.ndarray, width: float = _SOFT_EDGE) -> np.ndarray:
    """A soft border: 0 outside, 1 inside, and a straight ramp of the given width around distance 0."""
    return np.clip(distance / width + 0.5, 0.0, 1.0)


def gaussian(offset: np.ndarray, width: float) -> np.ndarray:
    """A bell curve: 1 where the offset is 0, and 1/e at the given width."""
    return np.exp(-np.square(offset / width))


def low_noise(seed: int, cells: int) -> np.ndarray:
    """Smooth noise of about unit variance, with structures of `IMAGE_SIZE / cells` pixels."""
    coarse = np.random.default_rng(seed).standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def blurred(part: _Part, deviation: float) -> _Part:
    """A part of a view, blurred by this standard deviation in pixels; the part itself if that is 0."""
    if not deviation or not isinstance(part, np.ndarray):
        return part
    from scipy.ndimage import gaussian_filter

    softened: np.ndarray = gaussian_filter(part, deviation, mode="nearest", truncate=3)
    return softened


def _rounded(points: np.ndarray) -> np.ndarray:
    """Round a line to a curve by cutting its corners twice (Chaikin)."""
    for _ in range(2 if len(points) > 2 else 0):
        start, end = points[:-1], points[1:]
        cut = np.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut, points[-1:]])
    return points


def rib_band(position: np.ndarray, half_width: float) -> np.ndarray:
    """The ribs: a bone at the middle of each unit of `position`, brighter at its cortex."""
    offset = np.abs(position - np.floor(position) - 0.5)
    return ramp(half_width - offset, 0.1) * (0.65 + 0.35 * np.minimum(offset / half_width, 1) ** 2)


class Frame:
    """The patient's coordinates of each pixel in the image of one acquisition.

    Attributes:
        x: Horizontal coordinate of each pixel, float32 [height, width].
        y: Vertical coordinate of each pixel, float32 [height, width].
    """

    def __init__(self, acquisition: Acquisition):
        cosine, sine = np.cos(acquisition.rotation), np.sin(acquisition.rotation)
        self._forward = acquisition.zoom * np.array([[cosine, -sine], [sine, cosine]])
        self._shift = np.array([acquisition.shift_x, acquisition.shift_y])
        backward = np.linalg.inv(self._forward).astype(np.float32)
        u, v = _GRID_X - np.float32(acquisition.shift_x), _GRID_Y - np.float32(acquisition.shift_y)
        self.x = backward[0, 0] * u + backward[0, 1] * v
        self.y = backward[1, 0] * u + backward[1, 1] * v

    def draw(self, strokes: Iterable[Stroke], blur: float = 0.0) -> np.ndarray:
        """Draw lines that are given in the patient's coordinates.

        Args:
            strokes: Points of each line, and its width in half image widths.
            blur: Standard deviation of the blur in pixels.

        Returns:
            Coverage, float32 [height, width], from 0 to 1.
        """
        canvas = Image.new("L", (2 * IMAGE_SIZE, 2 * IMAGE_SIZE))
        drawing = ImageDraw.Draw(canvas)
        for points, width in strokes:
            pixels = (_rounded(np.asarray(points)) @ self._forward.T + self._shift + 1) * IMAGE_SIZE
            drawing.line(
                [(float(column), float(row)) for column, row in pixels],
                fill=255,
                width=max(1, round(width * IMAGE_SIZE)),
                joint="curve",
            )
        image = canvas.reduce(2)
        if blur:
            image = image.filter(ImageFilter.GaussianBlur(blur))
        return np.asarray(image, dtype=np.float32) / 255


@dataclass(slots=True)
class Scene:
    """A view while it is built; arrays are float32 [height, width].

    Attributes:
        frame: Coordinates of the view.
        solid: Attenuation of tissue and bones.
        air: Attenuation that the lungs' air subtracts.
        vessels: Fraction of the air that vessels and texture replace.
        added: Attenuation that findings add.
    """

    frame: Frame
    solid: np.ndarray
    air: np.ndarray
    vessels: np.ndarray
    added: np.ndarray

    def blur(self, deviation: float) -> None:
        """Blur the view by this standard deviation in pixels.

        Tissue, air and findings are blurred each by themselves, so that a finding changes nothing outside its
        own blurred outline.
        """
        if deviation:
            self.solid, self.air, self.vessels = (
                blurred(part, deviation) for part in (self.solid, self.air, self.vessels)
            )

    def attenuation(self) -> np.ndarray:
        """The attenuation of the whole view, float32 [height, width]."""
        return self.solid - self.air * (1 - self.vessels) + self.added


def branches(
    generator: np.random.Generator,
    start: tuple[float, float],
    angle: float,
    length: float,
    width: float,
    sign: float,
) -> list[Stroke]:
    """A vessel and its branches, which are thinner and shorter at each division; `sign` mirrors them."""
    end = (start[0] + length * np.cos(angle), start[1] + length * np.sin(angle))
    strokes: list[Stroke] = [([(sign * start[0], start[1]), (sign * end[0], end[1])], width)]
    if width > 0.008:
        for turn in (generator.uniform(0.1, 0.5), -generator.uniform(0.1, 0.5)):
            shrink = generator.uniform(0.65, 0.95)
            strokes += branches(generator, end, angle + turn, length * shrink, width * 0.64, sign)
    return strokes
