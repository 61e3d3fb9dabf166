"""Rejections: what a reader yields in place of a study or a view that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rejection:
    """A study, or one view of it, that cannot be used.

    Attributes:
        study_id: Id of the study, or the place of the record if it has no id (`line 12`).
        source: File at fault.
        reason: Cause in a few words. Text after a colon is detail, which counts by reason ignore.
    """

    study_id: str
    source: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without its detail, which rejections are counted by."""
        return self.reason.split(":", 1)[0]


NO_VIEW = "no view"
NO_IMAGE_FILE = "no image file"
NO_REPORT = "no report"
EMPTY_REPORT = "empty report"
DUPLICATE_ID = "duplicate id"
BAD_RECORD = "bad record"
NO_IMAGE = "no image"

#: Words for a missing value, besides a blank: pandas, spreadsheets and people write them.
_NO_VALUES = frozenset({"nan", "n/a", "na", "<na>", "#n/a", "none", "null", "nil", "-", "--", "---"})


def stated(text: str) -> str:
    """The text without white space around it; empty if it only says that there is nothing (`N/A`, `-`)."""
    text = text.strip()
    return "" if text.lower() in _NO_VALUES else text


def has_report(sections: dict[str, str]) -> bool:
    """Whether the sections hold something to learn from: findings or an impression."""
    return bool(sections.get("findings") or sections.get("impression"))
