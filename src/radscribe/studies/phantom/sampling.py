"""Drawing phantom studies from seeds: anatomy, acquisition and findings, and how often each occurs.

The findings of a study come from a clinical scenario (heart failure, infection, trauma, ...), so that they
occur together as in patients: effusion with edema, pneumothorax with fracture, catheters with atelectasis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from radscribe.errors import RadScribeError, unknown_name
from radscribe.observations import OBSERVATIONS
from radscribe.studies.phantom.difficulty import EASY, Difficulty
from radscribe.studies.phantom.overlays import OVERLAYS
from radscribe.studies.phantom.shares import (
    ACQUISITION_RANGES,
    AIRSPACE,
    ANATOMY_RANGES,
    DEVICE_SIDE_SHARES,
    DRAWING_ORDER,
    INCIDENTAL,
    INCIDENTAL_DEVICES,
    OF_THE_LUNG,
    OUTLINES,
    RARE_SHARES,
    SCENARIOS,
    SEVERITY_SHARES,
    SEVERITY_SIZES,
    SIDE_SHARES,
    UNCERTAIN_SHARES,
    ZONE_SHARES,
)
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
    values = _spread(generator, ANATOMY_RANGES, difficulty.spread)
    values["bone_density"] *= difficulty.bones
    return Anatomy(**values, vessel_seed=_seed_from(generator))


def draw_acquisition(generator: np.random.Generator, difficulty: Difficulty = EASY) -> Acquisition:
    """Draw positioning, exposure, noise, blur, borders, and what lies over the chest."""
    values = _spread(generator, ACQUISITION_RANGES, difficulty.spread)
    values["noise"] *= difficulty.noise
    marker, noise_seed = bool(generator.random() < 0.7), _seed_from(generator)
    # What only a harder phantom has is drawn by itself, so that the easy one does not change with it.
    further = np.random.default_rng([noise_seed, 5])
    covers = further.random(len(OVERLAYS)) < difficulty.overlays
    blur = difficulty.blur * float(further.random())
    overlays = tuple(name for name, over in zip(OVERLAYS, covers, strict=True) if over)
    collimation = tuple(difficulty.collimation * width for width in _borders(further))
    return Acquisition(
        **values,
        marker=marker,
        noise_seed=noise_seed,
        blur=blur,
        overlays=overlays,
        collimation=collimation,
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
    drawn_side = _choose(generator, SIDE_SHARES.get(observation) or DEVICE_SIDE_SHARES[drawn_kind])
    zones = ZONE_SHARES.get(observation)
    drawn_zone = _choose(generator, zones) if zones else None
    drawn_severity = _choose(generator, SEVERITY_SHARES)
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
    arranged = sorted(findings, key=lambda finding: DRAWING_ORDER.index(finding.observation))
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


def draw_findings(generator: np.random.Generator, difficulty: Difficulty = EASY) -> tuple[Finding, ...]:
    """Draw the findings of one study: none in about a quarter of studies, else one to four and devices."""
    names = _drawn_names(generator, difficulty)
    findings: list[Finding] = []
    for name in names:
        state: FindingState = "uncertain" if generator.random() < UNCERTAIN_SHARES[name] else "present"
        findings.append(draw_finding(generator, name, state))
    devices = [finding for finding in findings if finding.observation == "Support Devices"]
    if devices and generator.random() < 0.25:
        second = draw_finding(generator, "Support Devices")
        if second.kind != devices[0].kind:
            findings.append(second)
    placed = _one_in_each_lung(_placed_together(findings))
    return arrange(made_harder(finding, difficulty) for finding in placed)


def _drawn_names(generator: np.random.Generator, difficulty: Difficulty) -> list[str]:
    """The observations that a study has, from a scenario and from chance."""
    shares = {str(number): share for number, (share, _) in enumerate(SCENARIOS)}
    scenario = SCENARIOS[int(_choose(generator, shares))][1]
    names = [name for name, probability in scenario.items() if generator.random() < probability]
    if scenario:
        names = names or [next(iter(scenario))]
        names += [
            name
            for name, probability in INCIDENTAL.items()
            if name not in names and generator.random() < difficulty.crowding * probability
        ]
    if difficulty.rarity:
        names = [
            name for name in names if generator.random() < RARE_SHARES.get(name, 1.0) ** difficulty.rarity
        ]
    airspace = [name for name in names if name in AIRSPACE]
    surplus = airspace[difficulty.most_airspace :]
    names = [name for name in names if name not in surplus][: difficulty.most_findings]
    if "Support Devices" not in names and generator.random() < INCIDENTAL_DEVICES:
        names.append("Support Devices")
    return names


def made_harder(finding: Finding, difficulty: Difficulty) -> Finding:
    """The finding as a phantom of this difficulty has it: fainter, and perhaps at the hilum."""
    further = np.random.default_rng([finding.shape_seed, 6])
    contrast, hides, place = further.uniform(*difficulty.contrast), further.random(), further.random()
    if finding.observation not in OUTLINES:
        finding = replace(finding, contrast=float(contrast))
    if finding.observation in OF_THE_LUNG and hides < difficulty.hidden:
        finding = replace(finding, lateral_position=float(-place / 3))
    return finding


def _one_in_each_lung(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, with the two of the airspace in different lungs if there are two."""
    first: Side | None = None
    placed: list[Finding] = []
    airspace = sum(finding.observation in AIRSPACE for finding in findings)
    for finding in findings:
        if airspace > 1 and finding.observation in AIRSPACE:
            if first is None:
                first = "right" if finding.side == "bilateral" else finding.side
            else:
                first = "left" if first == "right" else "right"
            finding = replace(finding, side=first)
        placed.append(finding)
    return placed


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
