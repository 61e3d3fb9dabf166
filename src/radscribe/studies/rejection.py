"""What a reader yields in place of a study that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rejection:
    """A study, or one view of it, that cannot be used.

    Attributes:
        study_id: the study, or where the record stands if it has no id (`line 12`).
        source: the file at fault.
        reason: the cause in a few words. Text after a colon is detail: counts by reason ignore it.
    """

    study_id: str
    source: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without its detail, to count by."""
        return self.reason.split(":", 1)[0]


NO_VIEW = "no view"
NO_IMAGE_FILE = "no image file"
NO_REPORT = "no report"
EMPTY_REPORT = "empty report"
DUPLICATE_ID = "duplicate id"
BAD_RECORD = "bad record"
NO_IMAGE = "no image"

#: What tables hold where there is nothing, besides a blank: pandas, spreadsheets and people write these.
_NO_VALUES = frozenset({"nan", "n/a", "na", "<na>", "#n/a", "none", "null", "nil", "-", "--", "---"})


def stated(text: str) -> str:
    """The text without white space around it; empty where it only says that there is none (`N/A`, `-`)."""
    text = text.strip()
    return "" if text.lower() in _NO_VALUES else text


def has_report(sections: dict[str, str]) -> bool:
    """Whether there is anything to learn from: findings or an impression."""
    return bool(sections.get("findings") or sections.get("impression"))
