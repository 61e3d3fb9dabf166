"""The gate of DICOM files: whether a file is a radiograph of the chest, by its tags, else by its pixels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image

from radscribe.studies.dicom_tags import codes, text

if TYPE_CHECKING:
    from pydicom import FileDataset

NO_CHEST_RADIOGRAPH = "no chest radiograph"
#: What the user reads behind each reason. Every command that opens images has this option, for every reader
#: that has the gate.
WAY_OUT = "; if it is one, --no_chest_only takes it"
_COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
_DIGITAL_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.1"
_RAW_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.1.1"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SECONDARY_CAPTURES = (_SECONDARY_CAPTURE, *(f"{_SECONDARY_CAPTURE}.{number}" for number in (1, 2, 3, 4)))
#: Modalities of radiographs (`DR` is not in the standard, but in files), and words that leave it open.
_MODALITIES = ("CR", "DX", "DR", "RG", "OT", "SC", "")
#: Modalities that a reason names (PS3.3, C.7.3.1.1.1); anything else in that tag could be a name.
_OTHER_MODALITY_WORDS = "CT MR US MG NM PT XA RF SR PR KO SEG ECG ES SM GM XC IO PX DOC OP"
_OTHER_MODALITIES = frozenset(_OTHER_MODALITY_WORDS.split())
_CHEST = frozenset({"CHEST", "CXR", "THORAX", "TORAX", "TORACE", "LUNG", "LUNGS"})
_CHEST_CODES = frozenset({"51185008", "43799004", "39607008", "T-D3000", "T-D3200", "T-28000"})
#: Other parts of the body, as PS3.16 annex L and real files name them.
_OTHER_WORDS = """
ABDOMEN ABDOMINAL KUB PELVIS HIP HIPS KNEE KNEES ANKLE FOOT FEET TOE TOES HEEL CALCANEUS LEG
TIBIA FIBULA FEMUR THIGH PATELLA HAND HANDS FINGER FINGERS THUMB WRIST FOREARM RADIUS ULNA
ELBOW HUMERUS ARM SHOULDER SCAPULA CLAVICLE SKULL HEAD FACE SINUS SINUSES NASAL ORBIT ORBITS
MANDIBLE MAXILLA JAW TEETH TOOTH DENTAL NECK SPINE CSPINE TSPINE LSPINE SSPINE CERVICAL LUMBAR
SACRUM COCCYX BREAST MAMMOGRAPHY EXTREMITY EXTREMETY LIMB BLADDER KIDNEY COLON ESOPHAGUS
STOMACH WHOLEBODY
"""
_OTHER = frozenset(_OTHER_WORDS.split())
#: Tags that name what was imaged, the most trustworthy first; those of the study come last.
_DESCRIPTIONS = (
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
    "StudyDescription",
)


#: Limits of `gate_by_pixels`: the long side by the short side, the number of shades of grey, the share of the
#: commonest shade, and the correlation of neighbours. Radiographs of the chest are far from all of them.
_MAX_ASPECT = 2.0
_MIN_SHADES = 64
_MAX_SHARE = 0.6
_MIN_CORRELATION = 0.9
#: Length in pixels of the short side, about, on which shades and neighbours are counted.
_SHORT_SIDE = 256


class Verdict(NamedTuple):
    """What tags say of a file.

    Attributes:
        reason: Why the file is no radiograph of the chest; empty if it may be one.
        states_chest: Whether the tags say that the chest was imaged.
    """

    reason: str
    states_chest: bool


def gate_by_tags(dataset: FileDataset) -> Verdict:
    """Whether a file is a radiograph of the chest, by its tags.

    A radiograph is of the SOP class Computed Radiography or Digital X-Ray (for presentation), or a secondary
    capture of their modality or of no stated one. The first tag that names a part of the body decides:
    BodyPartExamined, AnatomicRegionSequence, then descriptions. A tag that names the chest and something else
    names the chest. Reasons quote no free text, which could hold a name.
    """
    if reason := _no_radiograph(dataset):
        return Verdict(f"{NO_CHEST_RADIOGRAPH}: {reason}", False)
    for tag, part, word in _parts_of_the_body(dataset):
        if part == "other":
            return Verdict(f"{NO_CHEST_RADIOGRAPH}: {tag} says {word}", False)
        return Verdict("", True)
    return Verdict("", False)


def gate_by_pixels(pixels: np.ndarray, colours: bool) -> str:
    """Why a picture whose tags do not name the chest is no radiograph of it; empty if it may be one.

    This tells drawings, screens of text, photographs in colour, strips and noise. It cannot tell a chest from
    another part of the body.

    Args:
        pixels: uint8 [height, width].
        colours: Whether the picture has colours.
    """
    short, long = sorted(pixels.shape)
    reason = ""
    small = np.asarray(Image.fromarray(pixels).reduce(max(short // _SHORT_SIDE, 1)))
    shares = np.bincount(small.ravel(), minlength=256) / small.size
    if colours:
        reason = "the picture has colours"
    elif long > _MAX_ASPECT * short:
        reason = f"a strip of {pixels.shape[1]} x {pixels.shape[0]} pixels"
    elif np.count_nonzero(shares) < _MIN_SHADES or shares.max() > _MAX_SHARE:
        reason = "too few shades of grey"
    elif np.corrcoef(small[:, :-1].ravel(), small[:, 1:].ravel())[0, 1] < _MIN_CORRELATION:
        reason = "neighbouring pixels have nothing in common"
    return f"{NO_CHEST_RADIOGRAPH}: no tag names the chest, and {reason}" if reason else ""


def _no_radiograph(dataset: FileDataset) -> str:
    from pydicom.uid import UID_dictionary

    sop_class = text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID")
    modality = text(dataset, "Modality").upper()
    if sop_class == _RAW_RADIOGRAPHY or text(dataset, "PresentationIntentType") == "FOR PROCESSING":
        return "raw detector data (FOR PROCESSING), which nobody reads; fetch the image FOR PRESENTATION"
    if sop_class and sop_class not in (_COMPUTED_RADIOGRAPHY, _DIGITAL_RADIOGRAPHY, *_SECONDARY_CAPTURES):
        # Any other may hold what follows it in a damaged file, or be a UID that leads to the device.
        name = UID_dictionary.get(sop_class, ("",))[0]
        return f"SOP class {name}" if name else "a SOP class that is not in the standard"
    if modality in _MODALITIES:
        return ""
    return f"modality {modality}" if modality in _OTHER_MODALITIES else "a modality that is no radiograph's"


def _parts_of_the_body(dataset: FileDataset) -> list[tuple[str, Literal["chest", "other"], str]]:
    """Each tag that names a part of the body, with the part and the deciding word."""
    found = [("BodyPartExamined", text(dataset, "BodyPartExamined"))]
    for code, meaning in codes(dataset, "AnatomicRegionSequence"):
        found.append(("AnatomicRegionSequence", "CHEST" if code in _CHEST_CODES else meaning))
    found += [(keyword, text(dataset, keyword)) for keyword in _DESCRIPTIONS[:3]]
    found += [("ProcedureCodeSequence", meaning) for _, meaning in codes(dataset, "ProcedureCodeSequence")]
    found += [(keyword, text(dataset, keyword)) for keyword in _DESCRIPTIONS[3:]]
    parts: list[tuple[str, Literal["chest", "other"], str]] = []
    for tag, words in found:
        names = re.findall("[A-Z]+", words.upper())
        if chest := next((name for name in names if name in _CHEST), ""):
            parts.append((tag, "chest", chest))
        elif other := next((name for name in names if name in _OTHER), ""):
            parts.append((tag, "other", other))
    return parts
