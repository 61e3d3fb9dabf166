"""The anatomy of a lateral view of the phantom."""

from __future__ import annotations

import numpy as np

from radscribe.studies.phantom.anatomy import (
    LUNG_AIR,
    Frame,
    Scene,
    branches,
    gaussian,
    low_noise,
    ramp,
    rib_band,
)
from radscribe.studies.phantom.study import Finding, PhantomStudy, Side

# ---------------------------------------------------------------------------------------------------------
# Lateral anatomy
# ---------------------------------------------------------------------------------------------------------


class LateralAnatomy:
    """Geometry of the lateral view: the patient faces the image's left, and the two lungs overlap."""

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
        """Opacity of the aortic arch and the great vessels, from 0 to 1."""
        radius = np.sqrt(((self.x - 0.02) / (0.20 + widening)) ** 2 + ((self.y + 0.34) / 0.26) ** 2)
        return (0.30 + 1.6 * widening) * ramp((1 - radius) * 0.2, 0.14)

    def place(self, finding: Finding, side: Side) -> tuple[float, float]:
        """Coordinates of a finding in the lung."""
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
        air = LUNG_AIR * depth * aerated * (1 - shoulders)
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
        bands = rib_band(position, 0.15) * (position > 1) * (position < 9.5)
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
            strokes += branches(generator, start, angle, 0.16, 0.026, 1)
        return self.frame.draw(strokes, blur=1.0)
