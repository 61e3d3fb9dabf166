"""What a phantom study contains: its anatomy, its findings, and how it was acquired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from radscribe.observations import OBSERVATIONS
from radscribe.studies.phantom.difficulty import EASY, Difficulty

Side = Literal["right", "left", "bilateral", "midline"]
Zone = Literal["upper", "middle", "lower"]
Severity = Literal["mild", "moderate", "severe"]
FindingState = Literal["present", "uncertain"]

SIDES: tuple[Side, ...] = get_args(Side)
ZONES: tuple[Zone, ...] = get_args(Zone)

#: Every observation that can be drawn: all but No Finding, which is the absence of the others.
DRAWN_OBSERVATIONS = OBSERVATIONS[1:]

#: Appearances of the observations that have several, with the share of each.
KINDS: Mapping[str, Mapping[str, float]] = {
    "Pleural Other": {"thickening": 0.6, "plaque": 0.4},
    "Support Devices": {
        "central venous catheter": 0.32,
        "pacemaker": 0.24,
        "endotracheal tube": 0.16,
        "sternotomy wires": 0.16,
        "chest tube": 0.12,
    },
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding as it is drawn and described.

    Attributes:
        observation: CheXpert name of the observation; any but No Finding.
        state: State of the finding; an `uncertain` finding is drawn fainter and described with a hedge.
        side: Side of the patient, not of the image.
        size: Extent and density on a scale from 0 to 1; `severity` is the word for it.
        zone: Third of the lung; None if the observation has its own place.
        kind: Appearance, for observations that have several (`KINDS`); else empty.
        lateral_position: Position from the mediastinum (0) to the chest wall (1); below 0 the finding lies
            over the hilum and the border of the heart.
        height: Position from the top of the zone (0) to its bottom (1).
        depth: Position from anterior (0) to posterior (1).
        shape_seed: Random seed of the finding's outline and texture.
        contrast: Factor of the change that the finding makes; below 1 it is fainter.
    """

    observation: str
    state: FindingState
    side: Side
    size: float
    zone: Zone | None = None
    kind: str = ""
    lateral_position: float = 0.5
    height: float = 0.5
    depth: float = 0.5
    shape_seed: int = 0
    contrast: float = 1.0

    @property
    def severity(self) -> Severity:
        """The word for the size: `mild`, `moderate` or `severe`."""
        return "mild" if self.size < 0.36 else "moderate" if self.size < 0.67 else "severe"

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides on which the finding is drawn: both for `bilateral`."""
        return ("right", "left") if self.side == "bilateral" else (self.side,)

    @property
    def implied(self) -> dict[str, FindingState]:
        """State of each observation that this finding shows.

        Pneumonia shows as an opacity. The report calls it a consolidation if the pneumonia is certain, else
        an opacity.
        """
        implied: dict[str, FindingState] = {self.observation: self.state}
        if self.observation == "Pneumonia":
            implied["Consolidation" if self.state == "present" else "Lung Opacity"] = "present"
        return implied


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A patient's body; lengths are in half image widths, and the same in both views.

    Attributes:
        habitus: Build of the body, from 0 (slender) to 1 (large).
        thorax_width: Half of the inner width of the chest in the frontal view.
        chest_depth: Scale of the chest's depth in the lateral view.
        apex: Height of the lung apices (negative is up).
        dome: Height of the right hemidiaphragm in full inspiration.
        dome_step: Distance by which the left hemidiaphragm is lower than the right one.
        heart_ratio: Cardiothoracic ratio.
        heart_tilt: Tilt of the heart in radians.
        aortic_knob: Size of the aortic arch's bulge.
        mediastinum: Half width of the upper mediastinum.
        rib_spacing: Distance between neighbouring ribs.
        rib_phase: Position of the first rib, in rib spacings.
        rib_slope: Fall of the ribs from spine to chest wall.
        bone_density: Contrast of the bones.
        clavicle: Height of the clavicles.
        spine_curve: Curve of the spine in the frontal view (scoliosis).
        kyphosis: Curve of the spine in the lateral view.
        gastric_bubble: Size of the air under the left hemidiaphragm.
        vessel_seed: Random seed of the pulmonary vessels.
    """

    habitus: float
    thorax_width: float
    chest_depth: float
    apex: float
    dome: float
    dome_step: float
    heart_ratio: float
    heart_tilt: float
    aortic_knob: float
    mediastinum: float
    rib_spacing: float
    rib_phase: float
    rib_slope: float
    bone_density: float
    clavicle: float
    spine_curve: float
    kyphosis: float
    gastric_bubble: float
    vessel_seed: int


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How the images of a study were taken.

    Attributes:
        rotation: Rotation in the image plane in radians.
        shift_x: Horizontal shift in half image widths.
        shift_y: Vertical shift in half image heights.
        zoom: Magnification.
        inspiration: Distance by which the diaphragm is higher than in full inspiration.
        exposure: Attenuation that becomes middle grey.
        contrast: Slope of the tone curve.
        noise: Standard deviation of the noise in grey levels.
        marker: Whether the frontal view carries a side marker.
        noise_seed: Random seed of noise and tissue texture.
        blur: Standard deviation of the blur in pixels.
        overlays: Names of what lies over the chest and is no finding (`overlays.OVERLAYS`).
        collimation: Widths of the dark borders in half image widths: left, top, right, bottom.
    """

    rotation: float
    shift_x: float
    shift_y: float
    zoom: float
    inspiration: float
    exposure: float
    contrast: float
    noise: float
    marker: bool
    noise_seed: int
    blur: float = 0.0
    overlays: tuple[str, ...] = ()
    collimation: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class PhantomStudy:
    """Everything that determines the images and the report of one phantom study.

    Attributes:
        anatomy: The patient's body.
        acquisition: How the images of the study were taken.
        findings: Findings that are drawn, in the order of drawing.
        dictation_seed: Random seed of the report's wording.
        lateral: Whether the study has a lateral view.
        difficulty: How varied the report is worded; what it says of images is in the fields above.
    """

    anatomy: Anatomy
    acquisition: Acquisition
    findings: tuple[Finding, ...]
    dictation_seed: int
    lateral: bool = True
    difficulty: Difficulty = EASY
