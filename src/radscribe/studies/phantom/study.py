"""What a phantom study contains: its anatomy, its findings, and how it was acquired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from radscribe.observations import OBSERVATIONS

Side = Literal["right", "left", "bilateral", "midline"]
Zone = Literal["upper", "middle", "lower"]
Severity = Literal["mild", "moderate", "severe"]
FindingState = Literal["present", "uncertain"]

SIDES: tuple[Side, ...] = get_args(Side)
ZONES: tuple[Zone, ...] = get_args(Zone)

#: Every observation that can be drawn: all but No Finding, which is the absence of the others.
DRAWN_OBSERVATIONS = OBSERVATIONS[1:]

#: What an observation can be, where it has several appearances, with the share of each.
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
        observation: CheXpert name; any but No Finding.
        state: an `uncertain` finding is drawn fainter and described with a hedge.
        side: the patient's side, not the image's.
        size: extent and density on a scale from 0 to 1; `severity` is the word for it.
        zone: third of the lung; None where the observation has its own place.
        kind: which appearance, for observations that have several (`KINDS`); else empty.
        lateral_position: 0 beside the mediastinum, 1 at the chest wall.
        height: 0 at the top of the zone, 1 at its bottom.
        depth: 0 anterior, 1 posterior.
        shape_seed: of the finding's outline and texture.
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

    @property
    def severity(self) -> Severity:
        """`mild`, `moderate` or `severe`, from the size."""
        return "mild" if self.size < 0.36 else "moderate" if self.size < 0.67 else "severe"

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides it is drawn on: both for `bilateral`."""
        return ("right", "left") if self.side == "bilateral" else (self.side,)

    @property
    def implied(self) -> dict[str, FindingState]:
        """State of each observation that this finding shows.

        Pneumonia is read from an opacity: where it is sure the report calls that a consolidation, where it
        is not, an opacity.
        """
        implied: dict[str, FindingState] = {self.observation: self.state}
        if self.observation == "Pneumonia":
            implied["Consolidation" if self.state == "present" else "Lung Opacity"] = "present"
        return implied


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A patient's body; lengths in half image widths, the same in both views.

    Attributes:
        habitus: 0 slender to 1 large.
        thorax_width: half the inner width of the chest in the frontal view.
        chest_depth: scale of the chest's depth in the lateral view.
        apex: height of the lung apices (negative is up).
        dome: height of the right hemidiaphragm in full inspiration.
        dome_step: by how much the left hemidiaphragm is lower.
        heart_ratio: cardiothoracic ratio.
        heart_tilt: radians.
        aortic_knob: size of the aortic arch's bulge.
        mediastinum: half width of the upper mediastinum.
        rib_spacing: distance of neighbouring ribs.
        rib_phase: where the first rib starts, in spacings.
        rib_slope: fall of the ribs from spine to chest wall.
        bone_density: contrast of the bones.
        clavicle: height of the clavicles.
        spine_curve: scoliosis.
        kyphosis: curve of the spine in the lateral view.
        gastric_bubble: size of the air under the left hemidiaphragm.
        vessel_seed: of the pulmonary vessels.
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
    """How a study was taken.

    Attributes:
        rotation: radians in the image plane.
        shift_x: half image widths.
        shift_y: half image heights.
        zoom: magnification.
        inspiration: by how much the diaphragm is higher than in full inspiration.
        exposure: attenuation that comes out as middle grey.
        contrast: slope of the tone curve.
        noise: standard deviation in grey levels.
        marker: whether the frontal view carries a side marker.
        noise_seed: of noise and tissue texture.
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


@dataclass(frozen=True, slots=True)
class PhantomStudy:
    """Everything that the images and the report of one phantom study follow from.

    Attributes:
        anatomy: the patient's body.
        acquisition: how the study was taken.
        findings: what is drawn, in the order in which it is drawn.
        dictation_seed: of the report's wording.
        lateral: whether the study has a lateral view.
    """

    anatomy: Anatomy
    acquisition: Acquisition
    findings: tuple[Finding, ...]
    dictation_seed: int
    lateral: bool = True
