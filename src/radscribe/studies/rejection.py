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


def has_report(sections: dict[str, str]) -> bool:
    """Whether there is anything to learn from: findings or an impression."""
    return bool(sections.get("findings") or sections.get("impression"))
