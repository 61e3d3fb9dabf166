"""What a study is: the one form in which every data set reaches the rest of RadScribe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal, TypeVar, get_args

import numpy as np

from radscribe.observations import ObservationState

Projection = Literal["frontal", "lateral", "unknown"]
Split = Literal["train", "val", "test"]

PROJECTIONS: tuple[Projection, ...] = get_args(Projection)
SPLITS: tuple[Split, ...] = get_args(Split)

SECTIONS = ("findings", "impression", "indication", "comparison")
#: Name of the boxes that are in masks, among those that are counted.
MASKED = "became masks"


@dataclass(frozen=True, slots=True)
class RenderedView:
    """Pixels of a view, with the exact mask of each finding that was drawn in it.

    Attributes:
        pixels: Grey pixels, uint8 [height, width]; dense tissue is white.
        masks: Mask of each finding by observation name, bool [height, width].
        window: For a file deeper than 8 bits, the two values in it that became 0 and 255; else None.
        notes: What to know about the view, such as `burned-in text`.
        box_counts: Number of boxes that the source has on the image, by what became of them: `MASKED`, or why
            they became no mask.
        original_size: Height and width in pixels of an image that was decoded at a reduced scale; None for
            any other, whose `pixels` have them.
    """

    pixels: np.ndarray
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    window: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    box_counts: Mapping[str, int] = field(default_factory=dict)
    original_size: tuple[int, int] | None = None


_AnyPath = TypeVar("_AnyPath", bound=PurePath)


def without_suffix(path: _AnyPath) -> _AnyPath:
    """The path without its suffix. The digits that end a DICOM id such as 1.2.840.113 are none."""
    return path if path.suffix[1:].isdecimal() else path.with_suffix("")


@dataclass(frozen=True, slots=True)
class View:
    """One image of a study.

    Attributes:
        source: Path of an image file, or a picklable function that renders the view.
        projection: Projection of the view: `frontal`, `lateral` or `unknown`.
    """

    source: Path | Callable[[], RenderedView]
    projection: Projection = "unknown"

    def __post_init__(self) -> None:
        if isinstance(self.source, str):  # people write paths as text
            object.__setattr__(self, "source", Path(self.source))

    @property
    def name(self) -> str:
        """Name of this view in messages: its file, the file it was prepared from, or `rendered`."""
        return str(getattr(self.source, "file", "rendered") if callable(self.source) else self.source)


@dataclass(frozen=True, slots=True)
class Study:
    """One examination of one patient.

    Attributes:
        id: Id of the study, unique within its source.
        patient_id: Id of the patient. All studies of a patient are in one split, unless the source itself
            says otherwise.
        views: Views in the order in which systems see them; frontal views come first if that is known.
        split: Split of the study: `train`, `val`, `test`, or None if the source does not state it.
        sections: Report sections by name (`findings`, `impression`, `indication`, `comparison`); a missing
            section has no key.
        observations: State of each observation that the source labels, by CheXpert name.
        prior: Id of the patient's latest usable study before this one, by date and time; None if there is
            none, or if the source does not state when its studies were made.
    """

    id: str
    patient_id: str
    views: tuple[View, ...]
    split: Split | None = None
    sections: Mapping[str, str] = field(default_factory=dict)
    observations: Mapping[str, ObservationState] = field(default_factory=dict)
    prior: str | None = None

    def report(self, section: str) -> str:
        """The text of a section, or of several, as in `findings + impression`; empty if the study has none of
        them.
        """
        return " ".join(self.sections[name] for name in section.split(" + ") if self.sections.get(name))
