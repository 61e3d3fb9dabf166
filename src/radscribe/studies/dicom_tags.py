"""Reading the tags of DICOM data sets, in which any value may be missing, empty or malformed."""

from __future__ import annotations

import math
import re
import warnings
from typing import TYPE_CHECKING, Any

from radscribe.studies.projections import projection_of
from radscribe.studies.study import Projection

if TYPE_CHECKING:
    from pydicom import Dataset

#: Codes of CID 4010 "DX View" (PS3.16) that name a projection, in SNOMED CT and in the older SNOMED RT.
_FRONTAL_CODES = frozenset(
    ("399348003", "272479007", "399033003", "R-10206", "R-10214", "R-40888", "R-10202")
)
_LATERAL_CODES = frozenset(("399067008", "399173006", "399198007", "R-102CD", "R-10236", "R-10232"))
#: What a technologist typed of the series. A description of the study may name other series too.
_SERIES_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The value of a tag; None if it is missing, empty or malformed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = dataset.get(keyword)
    except Exception:  # a malformed value may raise anything when it is converted
        return None
    return value if value not in ("", b"") else None


def text(dataset: Dataset, keyword: str) -> str:
    """The value of a tag as one text; several values are joined by spaces."""
    value = value_of(dataset, keyword)
    if value is None:
        return ""
    values = value if not isinstance(value, str | bytes) and hasattr(value, "__iter__") else [value]
    return " ".join(str(part).strip() for part in values).strip()


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The finite numbers of a tag; empty if one of its values is no finite number."""
    value = value_of(dataset, keyword)
    if value is None:
        return []
    values = value if not isinstance(value, str | bytes) and hasattr(value, "__iter__") else [value]
    try:
        found = [float(part) for part in values]
    except (TypeError, ValueError):
        return []
    return found if all(map(math.isfinite, found)) else []


def codes(dataset: Dataset, keyword: str) -> list[tuple[str, str]]:
    """The code values and meanings of a sequence of codes."""
    items = value_of(dataset, keyword) or ()
    try:
        return [(text(item, "CodeValue"), text(item, "CodeMeaning")) for item in items]
    except Exception:  # what stands there is no sequence
        return []


def projection_in(dataset: Dataset) -> Projection:
    """The projection of a radiograph of the chest; the first of these that states it decides.

    ViewPosition; the code in ViewCodeSequence or its words; PatientOrientation, for the two axes of the
    picture span a frontal or a sagittal plane; what was typed as description of the series. Obliques are
    unknown.
    """
    for words in (text(dataset, "ViewPosition"), *_view_codes(dataset)):
        if (found := projection_of(words)) != "unknown":
            return found
    if (found := _projection_of_axes(text(dataset, "PatientOrientation"))) != "unknown":
        return found
    for keyword in _SERIES_DESCRIPTIONS:
        # A lone L means left here.
        words = re.sub(r"\bL\b", " ", text(dataset, keyword).upper())
        if (found := projection_of(_short(words))) != "unknown":
            return found
    return "unknown"


def _view_codes(dataset: Dataset) -> list[str]:
    """Words for the views in ViewCodeSequence."""
    return [
        "FRONTAL" if code in _FRONTAL_CODES else "LATERAL" if code in _LATERAL_CODES else _short(meaning)
        for code, meaning in codes(dataset, "ViewCodeSequence")
    ]


def _short(words: str) -> str:
    """The words with `PA` for postero-anterior and `AP` for antero-posterior; nothing for obliques."""
    if re.search(r"\bOBL", words.upper()):
        return ""
    return re.sub(
        r"\b(POSTER|ANTER)O[- _]?(ANTER|POSTER)IOR",
        lambda found: found[1][0] + found[2][0],
        words.upper(),
    )


def _projection_of_axes(orientation: str) -> Projection:
    """The projection of a picture whose rows and columns run in these directions, such as `L F` or `A F`."""
    axes = {direction[0] for direction in orientation.upper().split() if direction}
    if len(axes) != 2 or not axes & set("FH"):
        return "unknown"
    return "frontal" if axes & set("LR") else "lateral" if axes & set("AP") else "unknown"
