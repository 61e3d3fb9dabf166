"""What lies over the phantom's chest and is no finding: clothing, jewellery, hair, arms, and normal shadows.

No report mentions these. Some hide what is behind them; others look like a finding: nipples like nodules,
breasts like haze, a fold of skin like the border of a collapsed lung.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from radscribe.studies.phantom.anatomy import Frame, Stroke, gaussian, ramp
from radscribe.studies.study import Projection

_Overlay = Callable[[Frame, np.random.Generator, bool], np.ndarray]


def overlay_attenuation(
    names: Iterable[str], frame: Frame, seed: int, projection: Projection
) -> np.ndarray | float:
    """Attenuation that these overlays add to a view, float32 [height, width]; 0 without any.

    Args:
        names: Names in `OVERLAYS`.
        frame: Coordinates of the view.
        seed: Random seed of their places and shapes, which are the same whatever else is drawn.
        projection: Projection of the view.
    """
    total: np.ndarray | float = 0.0
    for number, (name, overlay) in enumerate(OVERLAYS.items()):
        if name in names:
            generator = np.random.default_rng([seed, 4, number])
            total = total + overlay(frame, generator, projection == "frontal").astype(np.float32)
    return total


def _necklace(frame: Frame, generator: np.random.Generator, frontal: bool) -> np.ndarray:
    depth = generator.uniform(-0.62, -0.3)
    columns = np.linspace(-0.27, 0.27, 9) if frontal else np.linspace(-0.5, 0.05, 9)
    rows = -0.95 + (depth + 0.95) * (1 - np.linspace(-1, 1, 9) ** 2) ** 0.7
    chain: Stroke = (list(zip(columns, rows, strict=True)), 0.012)
    pendant: Stroke = ([(columns[4], rows[4]), (columns[4] + 0.01, rows[4] + 0.04)], 0.035)
    return 0.55 * frame.draw([chain, pendant])


def _buttons(frame: Frame, generator: np.random.Generator, frontal: bool) -> np.ndarray:
    column = generator.uniform(-0.12, 0.12) if frontal else -0.62
    radius = generator.uniform(0.022, 0.034)
    buttons = np.zeros_like(frame.x)
    for row in np.arange(-0.6, 0.75, generator.uniform(0.26, 0.34)):
        distance = np.hypot(frame.x - column - generator.uniform(-0.02, 0.02), frame.y - row)
        buttons += ramp(radius - distance, 0.015) - 0.5 * ramp(0.35 * radius - distance, 0.01)
    return 0.22 * buttons


def _clasps(frame: Frame, generator: np.random.Generator, frontal: bool) -> np.ndarray:
    row = generator.uniform(-0.05, 0.3)
    strokes: list[Stroke] = []
    for column in (-0.5, 0.5) if frontal else (0.62,):
        place = column + generator.uniform(-0.05, 0.05)
        loop = [
            (place - 0.02, row),
            (place + 0.02, row),
            (place + 0.02, row + 0.05),
            (place - 0.02, row + 0.05),
        ]
        strokes.append(([*loop, loop[0]], 0.014))
    return 0.6 * frame.draw(strokes)


def _braid(frame: Frame, generator: np.random.Generator, frontal: bool) -> np.ndarray:
    column = (
        generator.choice((-1, 1)) * generator.uniform(0.28, 0.5) if frontal else generator.uniform(0.2, 0.4)
    )
    end = generator.uniform(-0.5, -0.15)
    rows = np.linspace(-1.0, end, 24)
    strokes: list[Stroke] = [
        (list(zip(column + 0.028 * np.sin(9 * rows * np.pi + phase), rows, strict=True)), 0.035)
        for phase in (0.0, np.pi)
    ]
    return 0.14 * frame.draw(strokes, blur=1.0)


def _arms(frame: Frame, generator: np.random.Generator, frontal: bool) -> np.ndarray:
    if frontal:  # the shoulder blades were not turned out of the lungs
        shift = generator.uniform(-0.14, -0.04)
        edge = ramp(np.abs(frame.x) - (0.74 + shift) - 0.18 * (frame.y + 0.35) ** 2, 0.03)
        return 0.13 * edge * ramp(0.12 - frame.y, 0.2) * ramp(frame.y + 0.85, 0.2)
    drop = generator.uniform(-0.5, -0.25)
    arm: Stroke = ([(-0.75, -0.95), (-0.1, (drop - 0.95) / 2), (0.1, drop)], 0.30)
    bone: Stroke = (arm[0], 0.09)
    return 0.22 * frame.draw([arm], blur=4.0) + 0.15 * frame.draw([bone], blur=1.5)


def _breasts(frame: Frame, generator: np.random.Generator, frontal: bool) -> np.ndarray:
    row, radius = generator.uniform(0.0, 0.2), generator.uniform(0.24, 0.34)
    if not frontal:
        distance = np.hypot((frame.x + 0.72) / 0.8, frame.y - row) / radius
        return 0.14 * ramp(1 - distance, 0.5)
    distance = np.hypot(np.abs(frame.x) - generator.uniform(0.42, 0.52), 0.85 * (frame.y - row)) / radius
    # Above, a breast ends without a border.
    return 0.20 * ramp(1 - distance, 0.18) * np.clip((frame.y - row) / radius + 0.6, 0, 1)


def _nipples(frame: Frame, generator: np.random.Generator, frontal: bool) -> np.ndarray:
    if not frontal:
        return np.zeros_like(frame.x)
    row, radius = generator.uniform(0.12, 0.28), generator.uniform(0.03, 0.045)
    column = generator.uniform(0.42, 0.54)
    shadows = np.zeros_like(frame.x)
    for sign in (-1, 1):
        offset = generator.uniform(-0.03, 0.03, 2)
        distance = np.hypot(frame.x - sign * (column + offset[0]), frame.y - row - offset[1])
        shadows += generator.uniform(0.5, 1.0) * ramp(1 - distance / radius, 0.6)
    return 0.13 * shadows


def _skin_fold(frame: Frame, generator: np.random.Generator, frontal: bool) -> np.ndarray:
    if not frontal:
        return np.zeros_like(frame.x)
    sign = generator.choice((-1, 1))
    column, slope = generator.uniform(0.45, 0.62), generator.uniform(-0.25, 0.25)
    inwards = column + slope * frame.y - sign * frame.x
    # Unlike the pleura, which is a line, a fold is an edge: dense at one side, and it fades away.
    reach = ramp(frame.y + 0.6, 0.3) * ramp(0.45 - frame.y, 0.3)
    return 0.14 * ramp(inwards, 0.015) * gaussian(np.maximum(inwards, 0), 0.16) * reach


#: Attenuation of each overlay, by name: a function of the view's coordinates, a source of randomness, and
#: whether the view is frontal.
OVERLAYS: Mapping[str, _Overlay] = {
    "necklace": _necklace,
    "buttons": _buttons,
    "clasps": _clasps,
    "braid": _braid,
    "arms": _arms,
    "breasts": _breasts,
    "nipples": _nipples,
    "skin fold": _skin_fold,
}
