"""Images of phantom studies: how each finding changes the normal chest, and the exact mask of that change.

A finding replaces a fraction of the lungs' air (`fill`) or adds attenuation of its own (`added`). Its mask
covers the pixels whose grey value this changes visibly. Outside its mask a finding changes nothing at all, so
every mask is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.studies.phantom.anatomy import (
    IMAGE_SIZE,
    Scene,
    Stroke,
    blurred,
    gaussian,
    low_noise,
    ramp,
)
from radscribe.studies.phantom.detector import UNEXPOSED, exposed_pixels, noise, tone
from radscribe.studies.phantom.frontal_anatomy import FrontalAnatomy
from radscribe.studies.phantom.lateral_anatomy import LateralAnatomy
from radscribe.studies.phantom.overlays import overlay_attenuation
from radscribe.studies.phantom.study import Finding, PhantomStudy, Side
from radscribe.studies.study import Projection, RenderedView

#: Smallest visible change in grey levels before noise; a finding's mask covers all pixels that change by at
#: least this.
VISIBLE_CHANGE = 5.0
#: Pixels that a faint finding must change on each side; one that changes fewer is drawn at full contrast.
_FEWEST_PIXELS = 60

_View = FrontalAnatomy | LateralAnatomy
# Fraction of the air that is replaced, and attenuation that is added: float32 [height, width] or a number.
_Change = tuple[np.ndarray | float, np.ndarray | float]


def render(study: PhantomStudy, projection: Projection) -> RenderedView:
    """Render one view of a phantom study.

    Args:
        study: Phantom study: its anatomy, acquisition and findings.
        projection: Projection of the view: `frontal` or `lateral`.

    Returns:
        Pixels uint8 [256, 256], and a mask for each observation that is seen in this view.

    Raises:
        RadScribeError: the projection is another one.
    """
    if projection not in ("frontal", "lateral"):
        raise RadScribeError(
            f"a phantom has no view of projection '{projection}'", "Use 'frontal' or 'lateral'"
        )
    acquisition = study.acquisition
    view: _View = FrontalAnatomy(study) if projection == "frontal" else LateralAnatomy(study)
    scene = view.scene(study)
    scene.solid = scene.solid + overlay_attenuation(
        acquisition.overlays, view.frame, acquisition.noise_seed, projection
    )
    scene.blur(acquisition.blur)
    exposed = exposed_pixels(acquisition)
    grey = tone(scene.attenuation(), acquisition)
    masks: dict[str, np.ndarray] = {}
    for finding in study.findings:
        visible = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=bool)
        for side in finding.sides:
            change = _CHANGES[finding.observation](view, scene, finding, side)
            fill, added = (blurred(part, acquisition.blur) for part in change)
            for contrast in dict.fromkeys((finding.contrast, 1.0)):
                filled = scene.air * (1 - contrast * fill)
                total = scene.added + contrast * added
                changed = tone(scene.solid - filled * (1 - scene.vessels) + total, acquisition)
                seen = (np.abs(changed - grey) >= VISIBLE_CHANGE) & exposed
                if seen.sum() >= _FEWEST_PIXELS:
                    break
            scene.air = np.where(seen, filled, scene.air)
            scene.added = np.where(seen, total, scene.added)
            grey = np.where(seen, changed, grey)
            visible |= seen
        if visible.any():
            for observation in finding.implied:
                masks[observation] = masks[observation] | visible if observation in masks else visible
    grey = np.where(exposed, grey, np.float32(UNEXPOSED))
    pixels = np.clip(np.rint(grey + noise(acquisition, projection)), 0, 255).astype(np.uint8)
    return RenderedView(pixels=pixels, masks=masks)


def _strength(finding: Finding) -> float:
    """Strength of a finding: uncertain findings are fainter."""
    return 0.6 if finding.state == "uncertain" else 1.0


def _extent(finding: Finding) -> float:
    """Extent of a finding: uncertain findings are smaller than the smallest certain ones."""
    return 0.35 * finding.size if finding.state == "uncertain" else finding.size


def _on_side(view: _View, side: Side) -> np.ndarray | float:
    """Factor that limits a change to one side, if the view shows sides."""
    if isinstance(view, FrontalAnatomy):
        return view.on_right if side == "right" else ~view.on_right
    return 1.0


def _one_lung(view: _View, finding: Finding) -> float:
    """Factor for a finding of one side in the lateral view, where the other lung's air lies over it."""
    return 0.8 if isinstance(view, LateralAnatomy) and finding.side != "bilateral" else 1.0


def _blob(
    view: _View,
    finding: Finding,
    side: Side,
    *,
    radius: float,
    softness: float,
    roughness: float,
) -> np.ndarray:
    """A patch at the finding's place, from 0 to 1, with an irregular border."""
    seed = finding.shape_seed + (side == "left")
    column, row = view.place(finding, side)
    distance = np.sqrt(((view.frame.x - column) / radius) ** 2 + ((view.frame.y - row) / (1.1 * radius)) ** 2)
    return ramp(1 - distance + roughness * low_noise(seed, 14), softness) * _on_side(view, side)


def _cardiomegaly(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    ratio = 0.505 if finding.state == "uncertain" else 0.535 + 0.17 * finding.size
    enlarged = view.heart(ratio - view.anatomy.heart_ratio)
    gain = view.heart_opacity * np.maximum(enlarged - view.heart(), 0)
    return gain / (1.02 - view.heart_opacity * view.heart()), 0.0


def _enlarged_cardiomediastinum(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    widening = 0.055 + 0.15 * _extent(finding)
    if isinstance(view, FrontalAnatomy):
        return np.maximum(view.mediastinum(widening) - view.mediastinum(), 0), 0.0
    return np.maximum(view.upper_mediastinum(widening) - view.upper_mediastinum(), 0), 0.0


def _lung_opacity(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    haze = _blob(view, finding, side, radius=0.17 + 0.13 * finding.size, softness=0.9, roughness=0.22)
    density = (0.50 + 0.12 * finding.size) * _strength(finding) * _one_lung(view, finding)
    return density * haze * (1 + 0.15 * low_noise(finding.shape_seed + 7, 40)), 0.0


def _consolidation(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    patch = _blob(view, finding, side, radius=0.17 + 0.14 * finding.size, softness=0.55, roughness=0.22)
    density = 0.9 * _strength(finding) * _one_lung(view, finding)
    return density * patch * (1 - 0.35 * _bronchogram(view, finding, side)), 0.04 * patch * density


def _bronchogram(view: _View, finding: Finding, side: Side) -> np.ndarray:
    """Air that stays in the bronchi of a consolidated lung: dark branches away from the hilum."""
    column, row = view.place(finding, side)
    outwards = np.sign(column) if isinstance(view, FrontalAnatomy) else 1.0
    strokes: list[Stroke] = []
    for rise in (-0.09, 0.0, 0.09):
        start = (column - outwards * 0.14, row - 0.05)
        strokes.append(([start, (column + outwards * 0.10, row + 0.04 + rise)], 0.016))
    return view.frame.draw(strokes, blur=1.0)


def _lung_lesion(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    nodule = _blob(view, finding, side, radius=0.056 + 0.09 * finding.size, softness=0.45, roughness=0.09)
    density = _strength(finding) * _one_lung(view, finding)
    return 0.9 * density * nodule, 0.12 * density * nodule


def _edema(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    x, y = view.frame.x, view.frame.y
    if isinstance(view, FrontalAnatomy):
        hilum = gaussian(view.distance - 0.30, 0.26) * gaussian(y - 0.06, 0.42)
    else:
        hilum = gaussian(x - 0.03, 0.36) * gaussian(y, 0.40)
    density = (0.30 + 0.42 * _extent(finding)) * (0.75 if finding.state == "uncertain" else 1.0)
    mottle = 1 + 0.22 * low_noise(finding.shape_seed + (side == "left"), 56)
    fill = density * hilum * mottle
    strokes: list[Stroke] = []
    generator = np.random.default_rng(finding.shape_seed + 3 + (side == "left"))
    if isinstance(view, FrontalAnatomy):
        # Kerley B lines: short, level, at the chest wall of the bases.
        sign = -1 if side == "right" else 1
        for _ in range(4 + round(6 * finding.size)):
            row = view.domes[side] - generator.uniform(-0.02, 0.34)
            outer = float(view.outer_border(np.array(row))) - 0.02
            strokes.append(([(sign * outer, row), (sign * (outer - 0.09), row + 0.01)], 0.010))
    return fill * _on_side(view, side), 0.16 * _strength(finding) * view.frame.draw(strokes)


def _fluid_level(view: _View, scene: Scene, side: Side) -> float:
    """Height down to which the base of a lung holds air; an effusion raises it."""
    frontal_column = -0.45 if side == "right" else 0.55
    column = frontal_column if isinstance(view, FrontalAnatomy) else 0.25
    aerated = (np.abs(view.frame.x - column) < 0.03) & (scene.air > 0.35 * scene.air.max())
    return float(view.frame.y[aerated].max(initial=view.anatomy.apex))


def _atelectasis(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    generator = np.random.default_rng(finding.shape_seed + (side == "left"))
    dome = min(view.domes[side], _fluid_level(view, scene, side))
    strokes: list[Stroke] = []
    for number in range(2 + (finding.severity != "mild")):
        row = dome - 0.07 - 0.085 * number - generator.uniform(0, 0.05)
        tilt = generator.uniform(-0.05, 0.05)
        width = 0.026 + 0.016 * finding.size
        if isinstance(view, FrontalAnatomy):
            sign, inner = (-1, 0.26) if side == "right" else (1, 0.36)
            length = 0.22 + 0.16 * finding.size
            points = [(sign * inner, row), (sign * (inner + length / 2), row + tilt / 2 + 0.012)]
            points.append((sign * (inner + length), row + tilt))
        else:
            back = float(view.back_border(np.array(row))) - 0.14
            points = [(back - 0.34, row), (back - 0.17, row + tilt / 2 + 0.012), (back, row + tilt)]
        strokes.append((points, width))
    fill = 0.85 * view.frame.draw(strokes, blur=1.0)
    if finding.state == "present":
        # Volume loss lifts the diaphragm, but leaves the costophrenic angle free.
        lift = 0.03 + 0.13 * max(finding.size - 0.36, 0)
        if isinstance(view, FrontalAnatomy):
            border = view.diaphragm_height(view.distance, side)
        else:
            border = view.diaphragm_height(view.x, side)
        fill = np.maximum(fill, 0.9 * _one_lung(view, finding) * ramp(view.frame.y - border + lift, 0.03))
    return fill * _strength(finding) * _one_lung(view, finding) * _on_side(view, side), 0.0


def _pneumothorax(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    y = view.frame.y
    apex = view.anatomy.apex
    retreat = 0.10 + 0.27 * _extent(finding)
    if isinstance(view, FrontalAnatomy):
        gap = retreat * (1 - 0.6 * np.clip((y - apex) / 1.2, 0, 1))
        lung = ramp(view.outer_border(y - gap) - 0.8 * gap - view.distance) * ramp(y - apex - 1.2 * retreat)
        share: np.ndarray | float = _on_side(view, side)
    else:
        lung = ramp(y - apex - 1.1 * retreat - 0.45 * (view.x - 0.12) ** 2)
        share = 0.6
    space = (1 - lung) * share
    line = 4 * lung * (1 - lung) * share * (scene.air > 0.15)
    # No vessels reach into the pleural space, and it is darker than lung.
    dark = -(np.maximum(scene.vessels, 0) + 0.22) * scene.air * space * _strength(finding)
    collapsed = 0.30 * finding.size * lung * share if finding.severity != "mild" else 0.0
    return collapsed, dark + 0.26 * line * _strength(finding)


def _pleural_effusion(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    y = view.frame.y
    level = view.domes[side] + 0.12 - 0.85 * _extent(finding)
    if isinstance(view, FrontalAnatomy):
        surface = level - 0.16 * (view.distance / view.anatomy.thorax_width) ** 4
    else:
        surface = level + 0.10 - 0.22 * np.clip((view.x - 0.1) / 0.5, -1, 1) ** 2
    fluid = ramp(y - surface, 0.06) * _on_side(view, side)
    density = 0.97 * _one_lung(view, finding) * (0.85 if finding.state == "uncertain" else 1.0)
    return density * fluid, 0.05 * fluid * (scene.air > 0.1)


def _pleural_other(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    generator = np.random.default_rng(finding.shape_seed + (side == "left"))
    y = view.frame.y
    density = _strength(finding)
    if finding.kind == "plaque":
        strokes: list[Stroke] = []
        for number in range(2 + round(2 * finding.size)):
            points = []
            if isinstance(view, FrontalAnatomy):
                sign = -1 if side == "right" else 1
                start = 0.36 + 0.14 * number + generator.uniform(-0.03, 0.03)
                for step in (0.0, 0.05, 0.10):
                    height = view.diaphragm_height(np.array(start + step), side)
                    points.append((sign * (start + step), float(height) - generator.uniform(0.02, 0.05)))
            else:
                start = -0.25 + 0.2 * number
                for step in (0.0, 0.06, 0.12):
                    height = view.diaphragm_height(np.array(start + step), side)
                    points.append((start + step, float(height) - generator.uniform(0.02, 0.05)))
            strokes.append((points, 0.05 + 0.02 * finding.size))
        return 0.0, 0.7 * density * _one_lung(view, finding) * view.frame.draw(strokes)
    thickness = (0.055 + 0.07 * finding.size) * (1 + 0.3 * np.sin(y * 14 + generator.uniform(0, 6)))
    if isinstance(view, FrontalAnatomy):
        border = view.distance - view.outer + thickness
    else:
        border = view.x - view.back + thickness
    reach = ramp(y + 0.42, 0.15) * ramp(view.domes[side] - 0.08 - y, 0.15)
    rind = ramp(border, 0.03) * reach * _on_side(view, side)
    return 0.9 * density * rind, 0.0


def _fracture(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    if isinstance(view, LateralAnatomy):
        return 0.0, 0.0  # in the lateral view the ribs of both sides lie over each other
    anatomy = view.anatomy
    height = {"upper": 0.30, "middle": 0.52, "lower": 0.76}[finding.zone or "middle"]
    row = anatomy.apex + height * (view.domes[side] - anatomy.apex)
    column = float(view.outer_border(np.array(row))) * (0.66 + 0.16 * finding.lateral_position)
    heights = [abs(view.rib_height(column, number) - row) for number in range(9)]
    number = int(np.argmin(heights))
    row = view.rib_height(column, number)
    sign = -1 if side == "right" else 1
    displaced = view.rib_bands(finding, column, number) - view.rib_bands()
    x, y = sign * view.frame.x - column, view.frame.y - row
    ends = gaussian(x + 0.042, 0.038) * gaussian(y, 0.038)
    ends += gaussian(x - 0.052, 0.038) * gaussian(y - 0.05, 0.038)
    gap = [(sign * (column - 0.01), row - 0.05), (sign * (column + 0.02), row + 0.09)]
    cleft = view.frame.draw([(gap, 0.026)])
    return 0.0, _strength(finding) * (1.6 * displaced + 0.65 * ends - 0.40 * cleft)


def _support_devices(view: _View, scene: Scene, finding: Finding, side: Side) -> _Change:
    sign = -1 if side == "right" else 1
    frontal = isinstance(view, FrontalAnatomy)
    heart = view.domes["left"] - 0.10
    if finding.kind == "pacemaker":
        if frontal:
            box = [(sign * 0.50, -0.52), (sign * 0.60, -0.52)]
            lead = [
                (sign * 0.52, -0.55),
                (sign * 0.30, -0.62),
                (-0.06, -0.42),
                (-0.13, -0.05),
                (0.0, 0.17),
                (0.27, heart),
            ]
        else:
            box = [(-0.50, -0.44), (-0.48, -0.36)]
            lead = [(-0.45, -0.44), (-0.10, -0.50), (-0.02, -0.10), (-0.15, 0.12), (-0.42, heart)]
        return 0.0, 0.9 * view.frame.draw([(box, 0.13)]) + 0.6 * view.frame.draw([(lead, 0.018)])
    if finding.kind == "sternotomy wires":
        rows = [-0.42 + 0.15 * number for number in range(6)]
        wires: list[Stroke] = []
        for row in rows:
            middle = (
                0.0 if isinstance(view, FrontalAnatomy) else float(view.front_border(np.array(row))) - 0.03
            )
            half = 0.045 if frontal else 0.02
            loop = [(-half, 0.0), (0.0, -0.03), (half, 0.0), (0.0, 0.03), (-half, 0.0)]
            wires.append(([(middle + x, row + y) for x, y in loop], 0.016))
        return 0.0, 0.7 * view.frame.draw(wires)
    if finding.kind == "endotracheal tube":
        tube = [(0.0, -1.1), (0.01, -0.44)] if frontal else [(-0.03, -1.1), (0.05, -0.48)]
        walls = view.frame.draw([(tube, 0.066)]) - view.frame.draw([(tube, 0.030)])
        return 0.0, 0.5 * walls
    if finding.kind == "chest tube":
        if frontal:
            outer = view.anatomy.thorax_width
            tube = [(sign * (outer + 0.16), 0.34), (sign * (outer - 0.02), 0.16)]
            tube += [(sign * (outer - 0.18), -0.10), (sign * (outer - 0.30), -0.42)]
        else:
            tube = [(0.02, 0.40), (0.10, 0.10), (0.12, -0.20), (0.05, -0.50)]
        walls = view.frame.draw([(tube, 0.052)]) - 0.7 * view.frame.draw([(tube, 0.026)])
        return 0.0, 0.55 * walls
    if not frontal:
        line = [(-0.05, -1.05), (0.0, -0.60), (-0.02, -0.05)]
    elif side == "right":
        line = [(-0.28, -1.05), (-0.17, -0.66), (-0.13, -0.30), (-0.13, 0.02)]
    else:
        line = [(0.28, -1.05), (0.20, -0.66), (0.02, -0.44), (-0.12, -0.24), (-0.13, 0.02)]
    return 0.0, 0.6 * view.frame.draw([(line, 0.022)])


_CHANGES: Mapping[str, Callable[[_View, Scene, Finding, Side], _Change]] = {
    "Enlarged Cardiomediastinum": _enlarged_cardiomediastinum,
    "Cardiomegaly": _cardiomegaly,
    "Lung Opacity": _lung_opacity,
    "Lung Lesion": _lung_lesion,
    "Edema": _edema,
    "Consolidation": _consolidation,
    "Pneumonia": _consolidation,
    "Atelectasis": _atelectasis,
    "Pneumothorax": _pneumothorax,
    "Pleural Effusion": _pleural_effusion,
    "Pleural Other": _pleural_other,
    "Fracture": _fracture,
    "Support Devices": _support_devices,
}
