"""Drawing phantom studies from seeds: anatomy, acquisition and findings, and how often each occurs.

The findings of a study come from a clinical scenario (heart failure, infection, trauma, ...), so that they
occur together as in patients: effusion with edema, pneumothorax with fracture, catheters with atelectasis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from radscribe.errors import RadScribeError, unknown_name
from radscribe.observations import OBSERVATIONS
from radscribe.studies.phantom.difficulty import EASY, Difficulty
from radscribe.studies.phantom.overlays import OVERLAYS
from radscribe.studies.phantom.study import (
    DRAWN_OBSERVATIONS,
    KINDS,
    Acquisition,
    Anatomy,
    Finding,
    FindingState,
    PhantomStudy,
    Severity,
    Side,
    Zone,
)

#: Range of `Finding.size` from which each severity is drawn; gaps between the ranges keep the words
#: learnable.
SEVERITY_SIZES: Mapping[Severity, tuple[float, float]] = {
    "mild": (0.10, 0.30),
    "moderate": (0.42, 0.60),
    "severe": (0.74, 1.00),
}
_SEVERITY_SHARES: Mapping[Severity, float] = {"mild": 0.4, "moderate": 0.37, "severe": 0.23}

_SIDE_SHARES: Mapping[str, Mapping[Side, float]] = {
    "Enlarged Cardiomediastinum": {"midline": 1.0},
    "Cardiomegaly": {"midline": 1.0},
    "Edema": {"bilateral": 1.0},
    "Lung Opacity": {"right": 0.42, "left": 0.36, "bilateral": 0.22},
    "Lung Lesion": {"right": 0.55, "left": 0.45},
    "Consolidation": {"right": 0.5, "left": 0.38, "bilateral": 0.12},
    "Pneumonia": {"right": 0.5, "left": 0.38, "bilateral": 0.12},
    "Atelectasis": {"right": 0.32, "left": 0.36, "bilateral": 0.32},
    "Pneumothorax": {"right": 0.52, "left": 0.48},
    "Pleural Effusion": {"right": 0.33, "left": 0.31, "bilateral": 0.36},
    "Pleural Other": {"right": 0.45, "left": 0.40, "bilateral": 0.15},
    "Fracture": {"right": 0.5, "left": 0.5},
}
_DEVICE_SIDE_SHARES: Mapping[str, Mapping[Side, float]] = {
    "central venous catheter": {"right": 0.75, "left": 0.25},
    "pacemaker": {"left": 0.85, "right": 0.15},
    "endotracheal tube": {"midline": 1.0},
    "sternotomy wires": {"midline": 1.0},
    "chest tube": {"right": 0.5, "left": 0.5},
}

_ZONE_SHARES: Mapping[str, Mapping[Zone, float]] = {
    "Lung Opacity": {"lower": 0.5, "middle": 0.28, "upper": 0.22},
    "Lung Lesion": {"upper": 0.42, "middle": 0.33, "lower": 0.25},
    "Consolidation": {"lower": 0.52, "middle": 0.22, "upper": 0.26},
    "Pneumonia": {"lower": 0.55, "middle": 0.22, "upper": 0.23},
    "Atelectasis": {"lower": 1.0},
    "Fracture": {"upper": 0.25, "middle": 0.45, "lower": 0.3},
}

_UNCERTAIN_SHARES: Mapping[str, float] = {
    "Enlarged Cardiomediastinum": 0.2,
    "Cardiomegaly": 0.1,
    "Lung Opacity": 0.12,
    "Lung Lesion": 0.2,
    "Edema": 0.15,
    "Consolidation": 0.12,
    "Pneumonia": 0.45,
    "Atelectasis": 0.2,
    "Pneumothorax": 0.1,
    "Pleural Effusion": 0.12,
    "Pleural Other": 0.2,
    "Fracture": 0.15,
    "Support Devices": 0.0,
}

# Share of each scenario, then the probability of each finding in it. The first finding is the scenario's
# lead: the study has it if nothing else was drawn.
_SCENARIOS: tuple[tuple[float, Mapping[str, float]], ...] = (
    (0.235, {}),
    (0.20, {"Cardiomegaly": 0.8, "Edema": 0.65, "Pleural Effusion": 0.65, "Support Devices": 0.2}),
    (0.19, {"Pneumonia": 0.45, "Consolidation": 0.5, "Lung Opacity": 0.35, "Pleural Effusion": 0.3}),
    (0.09, {"Lung Lesion": 0.85, "Enlarged Cardiomediastinum": 0.4, "Pleural Effusion": 0.25}),
    (0.11, {"Fracture": 0.62, "Pneumothorax": 0.55, "Lung Opacity": 0.3, "Enlarged Cardiomediastinum": 0.15}),
    (0.07, {"Pleural Other": 0.85, "Atelectasis": 0.3, "Lung Opacity": 0.25}),
    (0.105, {"Support Devices": 0.75, "Atelectasis": 0.65, "Pleural Effusion": 0.4, "Pneumothorax": 0.2}),
)  # fmt: skip
_INCIDENTAL: Mapping[str, float] = {
    "Cardiomegaly": 0.10,
    "Atelectasis": 0.12,
    "Lung Opacity": 0.07,
    "Enlarged Cardiomediastinum": 0.04,
    "Pneumothorax": 0.025,
    "Lung Lesion": 0.03,
    "Pleural Other": 0.02,
}
_INCIDENTAL_DEVICES = 0.07

# Share of an observation's findings that stay in a phantom of rarity 1; the common ones all stay.
_RARE_SHARES: Mapping[str, float] = {
    "Enlarged Cardiomediastinum": 0.35,
    "Lung Lesion": 0.5,
    "Edema": 0.7,
    "Consolidation": 0.6,
    "Pneumonia": 0.6,
    "Pneumothorax": 0.35,
    "Pleural Other": 0.25,
    "Fracture": 0.3,
}
# Outlines that differ from the normal one: they cannot be fainter, for a second border would be seen.
_OUTLINES = ("Cardiomegaly", "Enlarged Cardiomediastinum")
# Findings that may lie at the hilum.
_OF_THE_LUNG = ("Lung Opacity", "Lung Lesion", "Consolidation", "Pneumonia")

# These look the same when they lie over each other: an easy study has at most one of them, a harder one has a
# second in the other lung.
_AIRSPACE = ("Pneumonia", "Consolidation", "Lung Opacity")


_ANATOMY_RANGES: Mapping[str, tuple[float, float]] = {
    "habitus": (0.0, 1.0),
    "thorax_width": (0.72, 0.82),
    "chest_depth": (0.92, 1.06),
    "apex": (-0.84, -0.76),
    "dome": (0.36, 0.48),
    "dome_step": (0.03, 0.08),
    "heart_ratio": (0.40, 0.47),
    "heart_tilt": (0.35, 0.6),
    "aortic_knob": (0.03, 0.075),
    "mediastinum": (0.125, 0.15),
    "rib_spacing": (0.15, 0.175),
    "rib_phase": (0.0, 1.0),
    "rib_slope": (0.22, 0.36),
    "bone_density": (0.13, 0.21),
    "clavicle": (-0.74, -0.66),
    "spine_curve": (-0.025, 0.025),
    "kyphosis": (0.08, 0.2),
    "gastric_bubble": (0.0, 1.0),
}
_ACQUISITION_RANGES: Mapping[str, tuple[float, float]] = {
    "rotation": (-0.05, 0.05),
    "shift_x": (-0.03, 0.03),
    "shift_y": (-0.03, 0.03),
    "zoom": (0.95, 1.05),
    "inspiration": (0.0, 0.06),
    "exposure": (0.54, 0.66),
    "contrast": (3.6, 4.6),
    "noise": (1.5, 4.5),
}

_Name = TypeVar("_Name", bound=str)


def _choose(generator: np.random.Generator, shares: Mapping[_Name, float]) -> _Name:
    names = list(shares)
    cumulative = np.cumsum(list(shares.values()))
    return names[int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))]


def _seed_from(generator: np.random.Generator) -> int:
    return int(generator.integers(2**31))


def _spread(
    generator: np.random.Generator, ranges: Mapping[str, tuple[float, float]], spread: float
) -> dict[str, float]:
    """A value of each range; with a spread above 1, values lie further from its middle.

    Shares from 0 to 1 stay as they are, for they vary as far as they can.
    """
    values = {name: float(generator.uniform(*limits)) for name, limits in ranges.items()}
    for name, (low, high) in ranges.items():
        if (low, high) != (0.0, 1.0):
            values[name] += (spread - 1) * (values[name] - (low + high) / 2)
    return values


def draw_anatomy(generator: np.random.Generator, difficulty: Difficulty = EASY) -> Anatomy:
    """Draw a patient's body."""
    values = _spread(generator, _ANATOMY_RANGES, difficulty.spread)
    values["bone_density"] *= difficulty.bones
    return Anatomy(**values, vessel_seed=_seed_from(generator))


def draw_acquisition(generator: np.random.Generator, difficulty: Difficulty = EASY) -> Acquisition:
    """Draw positioning, exposure, noise, blur, borders, and what lies over the chest."""
    values = _spread(generator, _ACQUISITION_RANGES, difficulty.spread)
    values["noise"] *= difficulty.noise
    acquisition = Acquisition(
        **values, marker=bool(generator.random() < 0.7), noise_seed=_seed_from(generator)
    )
    # What only a harder phantom has is drawn by itself, so that the easy one does not change with it.
    further = np.random.default_rng([acquisition.noise_seed, 5])
    covers = further.random(len(OVERLAYS)) < difficulty.overlays
    return replace(
        acquisition,
        blur=difficulty.blur * float(further.random()),
        overlays=tuple(name for name, over in zip(OVERLAYS, covers, strict=True) if over),
        collimation=tuple(difficulty.collimation * width for width in _borders(further)),
    )


def _borders(generator: np.random.Generator) -> list[float]:
    """Widths of four borders from 0 to 1; half of the sides have none."""
    return [float(width) for width in np.maximum(generator.uniform(-1, 1, 4), 0)]


def draw_finding(
    generator: np.random.Generator,
    observation: str,
    state: FindingState = "present",
    *,
    side: Side | None = None,
    zone: Zone | None = None,
    severity: Severity | None = None,
    kind: str | None = None,
) -> Finding:
    """Draw one finding of an observation; properties that are not given are drawn with their usual shares.

    Args:
        generator: Source of randomness.
        observation: CheXpert name of the observation; any but No Finding.
        state: State of the finding: `present` or `uncertain`.
        side: Side of the patient.
        zone: Third of the lung; ignored for observations that have their own place.
        severity: Severity: `mild`, `moderate` or `severe`; an uncertain finding is always mild.
        kind: Appearance of the finding, one of `KINDS[observation]`.

    Raises:
        RadScribeError: the observation or the kind cannot be drawn.
    """
    if observation == OBSERVATIONS[0]:
        raise RadScribeError(
            "'No Finding' cannot be drawn: it is the absence of all others",
            "Leave the list of findings empty",
        )
    if observation not in DRAWN_OBSERVATIONS:
        raise unknown_name("observation", observation, DRAWN_OBSERVATIONS)
    kinds = KINDS.get(observation, {})
    if kind and kind not in kinds:
        raise unknown_name(f"kind of {observation}", kind, kinds)
    drawn_kind = kind or (_choose(generator, kinds) if kinds else "")
    drawn_side = _choose(generator, _SIDE_SHARES.get(observation) or _DEVICE_SIDE_SHARES[drawn_kind])
    zones = _ZONE_SHARES.get(observation)
    drawn_zone = _choose(generator, zones) if zones else None
    drawn_severity = _choose(generator, _SEVERITY_SHARES)
    if state == "uncertain":
        severity = "mild"
    return Finding(
        observation=observation,
        state=state,
        side=side or drawn_side,
        size=float(generator.uniform(*SEVERITY_SIZES[severity or drawn_severity])),
        zone=(zone or drawn_zone) if zones else None,
        kind=drawn_kind,
        lateral_position=float(generator.random()),
        height=float(generator.random()),
        depth=float(generator.random()),
        shape_seed=_seed_from(generator),
    )


def arrange(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings in drawing order, and move those that an effusion would hide to a zone above it.

    Large changes come first and bones and devices last, so that each finding changes what is really seen.
    """
    arranged = sorted(findings, key=lambda finding: _DRAWING_ORDER.index(finding.observation))
    flooded = {
        side
        for finding in arranged
        if finding.observation == "Pleural Effusion" and finding.size >= SEVERITY_SIZES["moderate"][0]
        for side in finding.sides
    }
    movable = ("Lung Opacity", "Lung Lesion", "Consolidation", "Pneumonia", "Fracture")
    return tuple(
        replace(finding, zone="upper")
        if finding.observation in movable and finding.zone != "upper" and flooded.intersection(finding.sides)
        else finding
        for finding in arranged
    )


_DRAWING_ORDER = (
    "Cardiomegaly",
    "Enlarged Cardiomediastinum",
    "Pneumothorax",
    "Edema",
    "Pleural Effusion",
    "Pleural Other",
    "Atelectasis",
    "Lung Opacity",
    "Consolidation",
    "Pneumonia",
    "Lung Lesion",
    "Fracture",
    "Support Devices",
)


def draw_findings(generator: np.random.Generator, difficulty: Difficulty = EASY) -> tuple[Finding, ...]:
    """Draw the findings of one study: none in about a quarter of studies, else one to four and devices."""
    names = _drawn_names(generator, difficulty)
    findings: list[Finding] = []
    for name in names:
        state: FindingState = "uncertain" if generator.random() < _UNCERTAIN_SHARES[name] else "present"
        findings.append(draw_finding(generator, name, state))
    devices = [finding for finding in findings if finding.observation == "Support Devices"]
    if devices and generator.random() < 0.25:
        second = draw_finding(generator, "Support Devices")
        if second.kind != devices[0].kind:
            findings.append(second)
    return arrange(_made_harder(_placed_together(findings), difficulty))


def _drawn_names(generator: np.random.Generator, difficulty: Difficulty) -> list[str]:
    """The observations that a study has, from a scenario and from chance."""
    shares = {str(number): share for number, (share, _) in enumerate(_SCENARIOS)}
    scenario = _SCENARIOS[int(_choose(generator, shares))][1]
    names = [name for name, probability in scenario.items() if generator.random() < probability]
    if scenario:
        names = names or [next(iter(scenario))]
        names += [
            name
            for name, probability in _INCIDENTAL.items()
            if name not in names and generator.random() < difficulty.crowding * probability
        ]
    if difficulty.rarity:
        names = [
            name for name in names if generator.random() < _RARE_SHARES.get(name, 1.0) ** difficulty.rarity
        ]
    airspace = [name for name in names if name in _AIRSPACE]
    surplus = airspace[difficulty.most_airspace :]
    names = [name for name in names if name not in surplus][: difficulty.most_findings]
    if "Support Devices" not in names and generator.random() < _INCIDENTAL_DEVICES:
        names.append("Support Devices")
    return names


def _made_harder(findings: Iterable[Finding], difficulty: Difficulty) -> list[Finding]:
    """The findings fainter, some at the hilum, and a second one of the airspace in the other lung."""
    harder: list[Finding] = []
    taken: Side | None = None
    for finding in findings:
        further = np.random.default_rng([finding.shape_seed, 6])
        contrast, hides, place = further.uniform(*difficulty.contrast), further.random(), further.random()
        if finding.observation not in _OUTLINES:
            finding = replace(finding, contrast=float(contrast))
        if finding.observation in _OF_THE_LUNG and hides < difficulty.hidden:
            finding = replace(finding, lateral_position=float(-place / 3))
        if finding.observation in _AIRSPACE:
            if taken is not None:
                finding = replace(finding, side="left" if taken == "right" else "right")
            elif difficulty.most_airspace > 1 and finding.side == "bilateral":
                finding = replace(finding, side="right" if place < 0.5 else "left")
            taken = finding.side
        harder.append(finding)
    return harder


def _placed_together(findings: list[Finding]) -> list[Finding]:
    """Give findings that share a cause the same side: a tube lies on the side that it drains."""
    by_name = {finding.observation: finding for finding in findings}
    wet = "Edema" in by_name
    pneumothorax = by_name.get("Pneumothorax")
    effusion = by_name.get("Pleural Effusion")
    drained = pneumothorax or (effusion if effusion and effusion.side != "bilateral" else None)
    placed = []
    for finding in findings:
        if (pneumothorax and finding.observation == "Fracture") or (drained and finding.kind == "chest tube"):
            finding = replace(finding, side=(pneumothorax or drained or finding).side)
        elif finding.observation == "Pleural Effusion" and wet and finding.lateral_position < 0.6:
            finding = replace(finding, side="bilateral")
        placed.append(finding)
    return placed


def sample_study(seed: int, index: int, difficulty: Difficulty = EASY) -> PhantomStudy:
    """Draw study `index` of the phantom with this seed; the result does not depend on any other draw.

    Args:
        seed: Random seed of the phantom.
        index: Number of the study, from 0.
        difficulty: How hard the phantom is.
    """
    generator = np.random.default_rng([seed, 1, index])
    body = np.random.default_rng([seed, 0, patient_number(seed, index)])
    return PhantomStudy(
        anatomy=draw_anatomy(body, difficulty),
        acquisition=draw_acquisition(generator, difficulty),
        findings=draw_findings(generator, difficulty),
        dictation_seed=_seed_from(generator),
        lateral=bool(generator.random() >= 0.1),
        difficulty=difficulty,
    )


def patient_number(seed: int, index: int) -> int:
    """Number of the patient of study `index`; in a fifth of pairs, both studies are of one patient."""
    pair = index // 2
    follow_up = index % 2 == 1 and np.random.default_rng([seed, 2, pair]).random() < 0.2
    return 2 * pair if follow_up else index
