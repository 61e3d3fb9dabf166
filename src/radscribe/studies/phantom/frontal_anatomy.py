"""The anatomy of a frontal view of the phantom."""

from __future__ import annotations

import numpy as np

from radscribe.studies.phantom.anatomy import (
    LUNG_AIR,
    Frame,
    Scene,
    Stroke,
    branches,
    gaussian,
    low_noise,
    ramp,
    rib_band,
)
from radscribe.studies.phantom.study import Finding, PhantomStudy, Side

# The side marker, a letter R in the image corner at the patient's right.
_LETTER_R: tuple[Stroke, ...] = (
    ([(-0.90, -0.78), (-0.90, -0.89)], 0.018),
    ([(-0.90, -0.89), (-0.84, -0.89)], 0.018),
    ([(-0.84, -0.89), (-0.84, -0.835)], 0.018),
    ([(-0.84, -0.835), (-0.90, -0.835)], 0.018),
    ([(-0.87, -0.835), (-0.835, -0.78)], 0.018),
)


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
        """Opacity of the heart, from 0 to 1; `enlargement` is a fraction of the chest's width."""
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
        """Opacity of the mediastinum, from 0 to 1; its upper part is wider by `widening`."""
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
        posterior = rib_band(position, 0.17)
        posterior *= (position > 0) & (position < 9) & (self.distance > 0.07)
        front = (y - 0.55 * np.maximum(1 - across, 0) ** 1.3 - anatomy.apex - 0.1) / anatomy.rib_spacing
        anterior = rib_band(front + anatomy.rib_phase * 0.7, 0.19)
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
        """Coordinates of a finding in the lung."""
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

        # The middle of each lung is darkest: it holds the most air, in front of little tissue.
        depth = 0.86 + 0.14 * gaussian(self.distance - 0.45, 0.30)
        air = LUNG_AIR * depth * aerated
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
                strokes += branches(generator, start, angle, 0.17, 0.030, sign)
        return self.frame.draw(strokes, blur=0.9)
