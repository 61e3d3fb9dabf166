"""The phantom's normal chest: schematic frontal and lateral anatomy, as attenuation.

A view is built as attenuation, not as grey: tissue and bone add, the air of the lungs subtracts.

Coordinates are the patient's as seen in the image: x and y run from -1 to 1, y downwards, so the patient's
right has negative x in the frontal view; in the lateral view the patient faces the image's left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from radscribe.studies.phantom.sampling import Acquisition, Finding, PhantomStudy, Side

#: Height and width of every view, pixels.
IMAGE_SIZE = 256

_CENTRES = (np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5) / (IMAGE_SIZE / 2) - 1
_GRID_X, _GRID_Y = np.meshgrid(_CENTRES, _CENTRES)

_SOFT_EDGE = 0.022
_LUNG_AIR = 0.68

# Points of a line, and its width.
Stroke = tuple[Sequence[tuple[float, float]], float]

# The side marker, in the corner of the patient's right.
_LETTER_R: tuple[Stroke, ...] = (
    ([(-0.90, -0.78), (-0.90, -0.89)], 0.018),
    ([(-0.90, -0.89), (-0.84, -0.89)], 0.018),
    ([(-0.84, -0.89), (-0.84, -0.835)], 0.018),
    ([(-0.84, -0.835), (-0.90, -0.835)], 0.018),
    ([(-0.87, -0.835), (-0.835, -0.78)], 0.018),
)


def ramp(distance: np.ndarray, width: float = _SOFT_EDGE) -> np.ndarray:
    """0 outside, 1 inside, a straight ramp of the given width over the border at distance 0."""
    return np.clip(distance / width + 0.5, 0.0, 1.0)


def gaussian(offset: np.ndarray, width: float) -> np.ndarray:
    """1 where the offset is 0, falling to 1/e at the given width."""
    return np.exp(-np.square(offset / width))


def low_noise(seed: int, cells: int) -> np.ndarray:
    """Smooth noise, about unit variance, with structures of `IMAGE_SIZE / cells` pixels."""
    coarse = np.random.default_rng(seed).standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def _rounded(points: np.ndarray) -> np.ndarray:
    """Cuts the corners of a line twice (Chaikin), which makes a curve of it."""
    for _ in range(2 if len(points) > 2 else 0):
        start, end = points[:-1], points[1:]
        cut = np.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut, points[-1:]])
    return points


def _rib_band(position: np.ndarray, half_width: float) -> np.ndarray:
    """A bone at the middle of each unit of position, brighter at its cortex."""
    offset = np.abs(position - np.floor(position) - 0.5)
    return ramp(half_width - offset, 0.1) * (0.65 + 0.35 * np.minimum(offset / half_width, 1) ** 2)


class Frame:
    """Where the patient's coordinates lie in the image of one acquisition.

    Attributes:
        x: float32 [height, width].
        y: float32 [height, width].
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
        """Draws lines given in the patient's coordinates.

        Args:
            strokes: points of each line, and its width in half image widths.
            blur: standard deviation in pixels.

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
    """A view being built; arrays are float32 [height, width].

    Attributes:
        frame: coordinates.
        solid: attenuation of tissue and bones.
        air: what the lungs' air takes from it.
        vessels: fraction of the air that vessels and texture take back.
        added: what findings add.
    """

    frame: Frame
    solid: np.ndarray
    air: np.ndarray
    vessels: np.ndarray
    added: np.ndarray

    def attenuation(self) -> np.ndarray:
        """What the beam met, float32 [height, width]."""
        return self.solid - self.air * (1 - self.vessels) + self.added


# ---------------------------------------------------------------------------------------------------------
# Frontal anatomy
# ---------------------------------------------------------------------------------------------------------


class FrontalAnatomy:
    """Geometry of the frontal view: borders of lungs, heart, mediastinum, diaphragm and ribs."""

    heart_opacity = 1.0

    def __init__(self, study: PhantomStudy):
        self.anatomy = anatomy = study.anatomy
        self.frame = Frame(study.acquisition)
        self.x, self.y = self.frame.x, self.frame.y
        self.distance = np.abs(self.x)
        self.on_right = self.x < 0
        self.widest = 0.42
        self.domes: dict[Side, float] = {"right": anatomy.dome - study.acquisition.inspiration}
        self.domes["left"] = self.domes["right"] + anatomy.dome_step
        self.outer = self.outer_border(self.y)
        self.diaphragm = np.where(
            self.on_right,
            self.diaphragm_height(self.distance, "right"),
            self.diaphragm_height(self.distance, "left"),
        )

    def outer_border(self, y: np.ndarray) -> np.ndarray:
        """Distance of the chest wall's inner border from the midline."""
        above = np.clip((self.widest - y) / (self.widest - self.anatomy.apex), 0, 1)
        return 0.34 + (self.anatomy.thorax_width - 0.34) * np.sqrt(np.maximum(1 - above**2.4, 0))

    def diaphragm_height(self, distance: np.ndarray, side: Side) -> np.ndarray:
        """Height of a hemidiaphragm: a dome that falls off to the costophrenic angle."""
        offset = (distance - 0.40) / (self.anatomy.thorax_width - 0.40)
        return self.domes[side] + np.where(offset > 0, 0.17 * offset**2, 0.10 * offset**2)

    def heart(self, enlargement: float = 0.0) -> np.ndarray:
        """Opacity of the heart, from 0 to 1, for a heart that is wider by a fraction of the chest's width."""
        anatomy = self.anatomy
        width = 2 * anatomy.thorax_width * (anatomy.heart_ratio + enlargement)
        right, left = 0.32 * width, 0.68 * width
        half_width, half_height = (right + left) / 2, 0.30 + 0.35 * enlargement
        centre_x, centre_y = (left - right) / 2, self.domes["left"] - 0.20 - 0.25 * enlargement
        cosine, sine = np.cos(anatomy.heart_tilt), np.sin(anatomy.heart_tilt)
        # A tilted ellipse is wider than it is long on its axis: shorten the axis to keep the ratio.
        axis = np.sqrt(max(half_width**2 - (half_height * sine) ** 2, 0.05)) / cosine
        along = (self.x - centre_x) * cosine + (self.y - centre_y) * sine
        across = (self.y - centre_y) * cosine - (self.x - centre_x) * sine
        radius = np.sqrt((along / axis) ** 2 + (across / half_height) ** 2)
        return ramp((1 - radius) * half_height, 0.045)

    def mediastinum(self, widening: float = 0.0) -> np.ndarray:
        """Opacity of the mediastinum, from 0 to 1, its upper part wider by `widening`."""
        anatomy, y = self.anatomy, self.y
        bulge = widening * gaussian(y + 0.36, 0.30)
        right = anatomy.mediastinum + bulge + 0.05 * gaussian(y - 0.04, 0.25)
        left = anatomy.mediastinum - 0.02 + bulge + anatomy.aortic_knob * gaussian(y + 0.36, 0.085)
        left = left + 0.075 * gaussian(y + 0.10, 0.14)
        border = np.where(self.on_right, right, left)
        return ramp(border - self.distance, 0.03)

    def rib_bands(self, fracture: Finding | None = None, column: float = 0.0, number: int = 0) -> np.ndarray:
        """Attenuation of the ribs; with a fracture, rib `number` is broken and displaced beyond `column`."""
        anatomy = self.anatomy
        across = self.distance / anatomy.thorax_width
        y = self.y
        # Posterior ribs leave the spine a little upwards and fall towards the chest wall.
        bend = anatomy.rib_slope * across**2 - 0.05 * np.sin(np.pi * np.minimum(across, 1))
        position = (y - bend - anatomy.apex) / anatomy.rib_spacing + anatomy.rib_phase
        if fracture is not None:
            beyond = self.on_right if fracture.side == "right" else ~self.on_right
            broken = beyond & (np.floor(position) == number) & (self.distance > column)
            position = position - np.where(broken, 0.24 + 0.16 * fracture.size, 0)
        posterior = _rib_band(position, 0.17)
        posterior *= (position > 0) & (position < 9) & (self.distance > 0.07)
        front = (y - 0.55 * np.maximum(1 - across, 0) ** 1.3 - anatomy.apex - 0.1) / anatomy.rib_spacing
        anterior = _rib_band(front + anatomy.rib_phase * 0.7, 0.19)
        anterior *= ((front > 0.7) & (front < 6.5)) * np.clip((self.distance - 0.28) / 0.2, 0, 1)
        inside = ramp(self.outer + 0.045 - self.distance, 0.03)
        return anatomy.bone_density * inside * (posterior + 0.7 * anterior)

    def rib_height(self, column: float, number: int) -> float:
        """Height of posterior rib `number` at a distance from the midline."""
        anatomy = self.anatomy
        across = column / anatomy.thorax_width
        bend = anatomy.rib_slope * across**2 - 0.05 * np.sin(np.pi * across)
        return anatomy.apex + bend + (number + 0.5 - anatomy.rib_phase) * anatomy.rib_spacing

    def place(self, finding: Finding, side: Side) -> tuple[float, float]:
        """Where in the lung a finding lies."""
        top = {"upper": 0.20, "middle": 0.46, "lower": 0.74}[finding.zone or "middle"]
        share = top + 0.14 * finding.height
        y = self.anatomy.apex + share * (self.domes[side] - self.anatomy.apex)
        outer = float(self.outer_border(np.array(y)))
        inner = 0.24
        if finding.zone == "lower":
            inner = 0.30 if side == "right" else 0.46
        distance = inner + (outer - 0.06 - inner) * (0.2 + 0.6 * finding.lateral_position)
        return (-distance if side == "right" else distance), y

    def scene(self, study: PhantomStudy) -> Scene:
        """The view without findings."""
        anatomy, x, y = self.anatomy, self.x, self.y
        apex = self.anatomy.apex
        rounded = np.clip((y - apex) / 0.16, 0, 1)
        inner = 0.33 - 0.25 * np.sqrt(1 - (1 - rounded) ** 2)
        cavity = ramp(self.outer - self.distance) * ramp(self.distance - inner) * ramp(y - apex)
        above_diaphragm = ramp(self.diaphragm - y)
        cavity *= above_diaphragm
        aerated = cavity * (1 - np.maximum(self.heart(), self.mediastinum()))

        # The lungs hold more air in front of little tissue: the middle of each is darkest.
        depth = 0.86 + 0.14 * gaussian(self.distance - 0.45, 0.30)
        air = _LUNG_AIR * depth * aerated
        hila = gaussian(self.distance - 0.21, 0.09) * gaussian(y + 0.06, 0.16)
        texture = 0.05 * low_noise(study.acquisition.noise_seed, 40)
        vessels = 0.38 * hila + 0.36 * self._vessels() + texture

        solid = self._soft_tissue(study, above_diaphragm)
        spine = np.abs(x - anatomy.spine_curve * np.sin(2 * y))
        discs = 0.75 + 0.25 * np.sin(2 * np.pi * y / 0.135)
        solid += 1.1 * anatomy.bone_density * ramp(0.085 - spine, 0.03) * discs
        solid += self.rib_bands() + self._clavicles_and_scapulae()
        trachea = self.frame.draw(
            [
                ([(0.0, -1.1), (0.01, -0.30)], 0.085),
                ([(0.01, -0.32), (-0.15, -0.12)], 0.06),
                ([(0.01, -0.32), (0.17, -0.10)], 0.055),
            ]
        )
        solid -= 0.17 * trachea
        if study.acquisition.marker:
            solid += 0.9 * self.frame.draw(_LETTER_R)
        return Scene(
            frame=self.frame,
            solid=solid,
            air=air,
            vessels=vessels,
            added=np.zeros_like(air),
        )

    def _soft_tissue(self, study: PhantomStudy, above_diaphragm: np.ndarray) -> np.ndarray:
        anatomy, y = self.anatomy, self.y
        shoulder = np.clip((y + 0.98) / 0.36, 0, 1)
        outline = 0.20 + 0.06 * anatomy.habitus + (0.78 + 0.1 * anatomy.habitus) * shoulder**0.6
        outline = outline - 0.05 * (1 - anatomy.habitus) * np.clip((y + 0.4) / 0.5, 0, 1)
        body = ramp(outline - self.distance, 0.06)
        thickness = 0.92 + 0.12 * anatomy.habitus - 0.16 * self.distance**2
        tissue = body * (thickness + 0.06 * low_noise(study.acquisition.noise_seed + 1, 7))
        tissue += 0.20 * body * (1 - above_diaphragm) * (self.distance < 1)
        tissue += 0.10 * ramp(0.16 - self.distance, 0.12) * body
        # Breast and chest wall fat veil the lower lungs of larger patients.
        veil = gaussian(self.distance - 0.52, 0.30) * gaussian(y - 0.35, 0.25)
        tissue += 0.13 * anatomy.habitus * veil
        bubble_x = (self.x - 0.40) / (0.07 + 0.07 * anatomy.gastric_bubble)
        bubble_y = (y - self.domes["left"] - 0.14) / (0.03 + 0.035 * anatomy.gastric_bubble)
        tissue -= 0.45 * ramp(1 - np.sqrt(bubble_x**2 + bubble_y**2), 0.5) * (anatomy.gastric_bubble > 0.3)
        return tissue

    def _clavicles_and_scapulae(self) -> np.ndarray:
        anatomy = self.anatomy
        top = anatomy.clavicle
        strokes: list[Stroke] = []
        edges: list[Stroke] = []
        for sign in (-1, 1):
            clavicle = [
                (0.07, top + 0.16),
                (0.22, top + 0.11),
                (0.42, top + 0.03),
                (0.62, top - 0.05),
                (0.86, top - 0.08),
            ]
            strokes.append(([(sign * x, y) for x, y in clavicle], 0.062))
            edges += [([(sign * x, y + shift) for x, y in clavicle], 0.012) for shift in (-0.028, 0.028)]
            scapula = [(0.72, -0.62), (0.80, -0.30), (0.76, -0.04)]
            edges.append(([(sign * x, y) for x, y in scapula], 0.028))
            edges.append(([(sign * 0.70, -0.52), (sign * 0.98, -0.66)], 0.035))
        return anatomy.bone_density * (0.9 * self.frame.draw(strokes) + 0.6 * self.frame.draw(edges))

    def _vessels(self) -> np.ndarray:
        strokes = []
        generator = np.random.default_rng(self.anatomy.vessel_seed)
        for sign in (-1, 1):
            for angle in np.linspace(-1.2, 1.35, 6) + generator.uniform(-0.2, 0.2, 6):
                start = (0.17 + 0.05 * generator.random(), -0.05 + 0.12 * np.sin(angle))
                strokes += _branches(generator, start, angle, 0.17, 0.030, sign)
        return self.frame.draw(strokes, blur=0.9)


def _branches(
    generator: np.random.Generator,
    start: tuple[float, float],
    angle: float,
    length: float,
    width: float,
    sign: float,
) -> list[Stroke]:
    """A vessel and its branches, thinner and shorter at each division; `sign` mirrors it."""
    end = (start[0] + length * np.cos(angle), start[1] + length * np.sin(angle))
    strokes: list[Stroke] = [([(sign * start[0], start[1]), (sign * end[0], end[1])], width)]
    if width > 0.008:
        for turn in (generator.uniform(0.1, 0.5), -generator.uniform(0.1, 0.5)):
            shrink = generator.uniform(0.65, 0.95)
            strokes += _branches(generator, end, angle + turn, length * shrink, width * 0.64, sign)
    return strokes


# ---------------------------------------------------------------------------------------------------------
# Lateral anatomy
# ---------------------------------------------------------------------------------------------------------


class LateralAnatomy:
    """Geometry of the lateral view: the patient faces the image's left, both lungs lie over each other."""

    heart_opacity = 0.8

    def __init__(self, study: PhantomStudy):
        self.anatomy = study.anatomy
        self.frame = Frame(study.acquisition)
        self.x, self.y = self.frame.x / self.anatomy.chest_depth, self.frame.y
        self.apex = self.anatomy.apex - 0.02
        dome = self.anatomy.dome - study.acquisition.inspiration - 0.04
        self.domes: dict[Side, float] = {"right": dome, "left": dome + self.anatomy.dome_step}
        self.front = self.front_border(self.y)
        self.back = self.back_border(self.y)

    def front_border(self, y: np.ndarray) -> np.ndarray:
        """Inner border of the sternum and anterior chest wall."""
        return -0.26 - 0.44 * np.clip((y + 0.80) / 1.25, 0, 1) ** 0.75

    def back_border(self, y: np.ndarray) -> np.ndarray:
        """Inner border of the posterior chest wall."""
        return 0.50 + self.anatomy.kyphosis * np.sin(np.pi * np.clip((y + 0.85) / 1.75, 0, 1))

    def diaphragm_height(self, x: np.ndarray, side: Side) -> np.ndarray:
        """Height of a hemidiaphragm, falling to the posterior costophrenic sulcus."""
        offset = x + 0.20
        return self.domes[side] + np.where(offset > 0, 0.52, 0.40) * offset**2

    def heart(self, enlargement: float = 0.0) -> np.ndarray:
        """Opacity of the heart, from 0 to 1."""
        long_axis, short_axis = 0.36 + 0.75 * enlargement, 0.26 + 0.7 * enlargement
        centre_x, centre_y = -0.33 + 0.45 * enlargement, self.domes["left"] - 0.20 - 0.25 * enlargement
        along = (self.x - centre_x) * 0.77 - (self.y - centre_y) * 0.64
        across = (self.x - centre_x) * 0.64 + (self.y - centre_y) * 0.77
        radius = np.sqrt((along / long_axis) ** 2 + (across / short_axis) ** 2)
        return ramp((1 - radius) * short_axis, 0.11)

    def upper_mediastinum(self, widening: float = 0.0) -> np.ndarray:
        """Opacity of arch and great vessels, from 0 to 1."""
        radius = np.sqrt(((self.x - 0.02) / (0.20 + widening)) ** 2 + ((self.y + 0.34) / 0.26) ** 2)
        return (0.30 + 1.6 * widening) * ramp((1 - radius) * 0.2, 0.14)

    def place(self, finding: Finding, side: Side) -> tuple[float, float]:
        """Where in the lung a finding lies."""
        top = {"upper": 0.22, "middle": 0.46, "lower": 0.76}[finding.zone or "middle"]
        y = self.apex + (top + 0.14 * finding.height) * (self.domes[side] - self.apex)
        # The heart and the liver fill the front of the lower zone.
        start, end = (0.58, 0.78) if finding.zone == "lower" else (0.30, 0.62)
        front, back = float(self.front_border(np.array(y))), float(self.back_border(np.array(y)))
        x = front + (back - front) * (start + (end - start) * finding.depth)
        return self.anatomy.chest_depth * x, y

    def scene(self, study: PhantomStudy) -> Scene:
        """The view without findings."""
        anatomy, x, y = self.anatomy, self.x, self.y
        top = self.apex + 0.45 * (x - 0.12) ** 2
        cavity = ramp(x - self.front, 0.04) * ramp(self.back - x) * ramp(y - top, 0.05)
        cavity *= 1 - self.heart_opacity * self.heart()
        cavity *= 1 - self.upper_mediastinum()
        # Each side's dome hides half of the air that both lungs have together.
        above_diaphragm = sum(0.5 * ramp(self.diaphragm_height(x, side) - y) for side in self.domes)
        aerated = cavity * above_diaphragm

        shoulders = 0.32 * gaussian(y + 1.0, 0.28)
        # Behind the heart there is the least tissue in the way.
        depth = 0.75 + 0.25 * gaussian(x - 0.35, 0.35) * gaussian(y - 0.2, 0.5)
        air = _LUNG_AIR * depth * aerated * (1 - shoulders)
        hila = gaussian(x - 0.03, 0.11) * gaussian(y + 0.06, 0.13)
        texture = 0.05 * low_noise(study.acquisition.noise_seed + 2, 40)
        vessels = 0.34 * hila + 0.22 * self._vessels() + texture

        front_skin = self.front - 0.10 - 0.10 * anatomy.habitus
        front_skin = front_skin - (0.05 + 0.16 * anatomy.habitus) * gaussian(y - 0.15, 0.28)
        front_skin = front_skin - 0.55 * np.clip((-0.45 - y) / 0.4, 0, 1) ** 1.5
        body = ramp(x - front_skin, 0.06) * ramp(self.back + 0.20 + 0.08 * anatomy.habitus - x, 0.06)
        middle = (self.front + self.back) / 2
        thickness = 0.90 + 0.12 * anatomy.habitus - 0.22 * (x - middle) ** 2
        solid = body * (thickness + shoulders + 0.05 * low_noise(study.acquisition.noise_seed + 3, 7))
        solid += 0.16 * body * (1 - above_diaphragm)
        solid += self._bones()
        trachea = [(-0.02, -0.95), (0.05, -0.55), (0.10, -0.18)]
        solid -= 0.14 * self.frame.draw([(trachea, 0.08)], blur=1.5)
        return Scene(
            frame=self.frame,
            solid=solid,
            air=air,
            vessels=vessels,
            added=np.zeros_like(air),
        )

    def rib_bands(self) -> np.ndarray:
        """Attenuation of the ribs, which fall from back to front."""
        anatomy = self.anatomy
        position = (self.y + 0.34 * (self.x - 0.5) + 0.9) / anatomy.rib_spacing + anatomy.rib_phase
        bands = _rib_band(position, 0.15) * (position > 1) * (position < 9.5)
        return (
            0.7
            * anatomy.bone_density
            * bands
            * ramp(self.x - self.front, 0.03)
            * ramp(self.back + 0.04 - self.x)
        )

    def _bones(self) -> np.ndarray:
        anatomy = self.anatomy
        spine = np.abs(self.x - (self.back - 0.13))
        bodies = 0.45 + 0.55 * np.clip(1.6 * np.abs(np.sin(np.pi * self.y / 0.15)), 0, 1)
        bones = 1.3 * anatomy.bone_density * ramp(0.085 - spine, 0.03) * bodies
        sternum = np.abs(self.x - (self.front - 0.035))
        bones += 0.9 * anatomy.bone_density * ramp(0.022 - sternum, 0.02) * (self.y < 0.32) * (self.y > -0.7)
        return bones + self.rib_bands()

    def _vessels(self) -> np.ndarray:
        strokes = []
        generator = np.random.default_rng(self.anatomy.vessel_seed + 1)
        for angle in np.linspace(-2.8, 2.8, 9) + generator.uniform(-0.25, 0.25, 9):
            start = (0.03 + 0.08 * np.cos(angle), -0.05 + 0.12 * np.sin(angle))
            strokes += _branches(generator, start, angle, 0.16, 0.026, 1)
        return self.frame.draw(strokes, blur=1.0)
