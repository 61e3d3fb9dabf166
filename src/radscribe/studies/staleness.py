"""Whether a source has changed since a store was prepared: its records, and its files by size and time.

    sources.jsonl   one line per prepared study: its id, a hash of what the source says of it, and size and
                    modification time of its files; then a line of the same form for each study without
                    a readable view, and a line for each record that the reader rejected

The lines of prepared studies have the same order as in `studies.jsonl`. The content hash of a store does not
cover this file: the same images copied to another place give the same store.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from radscribe.errors import RadScribeError
from radscribe.studies.rejection import Rejection
from radscribe.studies.study import Study, View

SOURCES = "sources.jsonl"
#: Size in bytes and modification time in nanoseconds of a file; None if there is no such file.
FileState = tuple[int, int] | None
_EXAMPLES = 3


class Fingerprint(NamedTuple):
    """What the source said of a study, and the state of the study's files, when the source was read.

    Attributes:
        says: Hash of the study's text, observations, patient, split and prior, and of the names of its
            images and the boxes on them.
        files: State of each view's file; None also for a view that has no file.
    """

    says: str
    files: tuple[FileState, ...]

    @classmethod
    def of(cls, study: Study, files: Sequence[FileState] | None = None) -> Self:
        """The fingerprint of a study, with its files' states at decoding (`files`) or, without them, now."""
        boxes = [
            (getattr(view.source, "boxes", ()), getattr(view.source, "box_counts", {}))
            for view in study.views
        ]
        stated = [
            study.patient_id,
            study.split,
            dict(study.sections),
            dict(study.observations),
            [(Path(view.name).name, view.projection) for view in study.views],
            *([study.prior] if study.prior else []),
            *([boxes] if any(masked or counts for masked, counts in boxes) else []),
        ]
        says = hashlib.sha256(json.dumps(stated).encode()).hexdigest()[:32]
        return cls(says, tuple(file_states(study.views) if files is None else files))

    def line(self, identifier: str, **more: Any) -> str:
        """The line of this fingerprint in `sources.jsonl`."""
        return json.dumps({"id": identifier, "says": self.says, "files": self.files, **more}) + "\n"

    def difference(self, now: Self) -> str:
        """What has changed from this fingerprint to `now`, in a few words; empty if nothing has changed."""
        if self.says != now.says:
            return "what the source says of it"
        for before, after in zip(self.files, now.files, strict=True):
            if before != after:
                if before is None or after is None:
                    return "an image has come" if after else "an image has gone"
                return "size of an image" if before[0] != after[0] else "modification time of an image"
        return ""


def file_states(views: Iterable[View]) -> list[FileState]:
    """The state of each view's file, without opening it."""
    return [_joint_state(getattr(view.source, "archive_parts", ()) or [file_of(view)]) for view in views]


def file_of(view: View) -> Path | None:
    """The file that a view is read from; None if it is drawn by a function."""
    # A function that reads a file says which.
    path = view.source if isinstance(view.source, Path) else getattr(view.source, "path", None)
    return path if isinstance(path, Path) else None


def _joint_state(paths: Iterable[Path | None]) -> FileState:
    """The state of the files of one view: the size of all, and the latest time."""
    states = [_state(path) for path in paths]
    there = [state for state in states if state]
    if len(there) < len(states):
        return None
    return sum(size for size, _ in there), max(time for _, time in there)


def _state(path: Path | None) -> FileState:
    if path is None:
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


@dataclass
class SourceState:
    """The state of a source, now or when a store was prepared from it.

    Attributes:
        studies: Fingerprint of each study, by id.
        rejected: Number of records that the reader rejected, by id and reason.
    """

    studies: dict[str, Fingerprint] = field(default_factory=dict)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, records: Iterable[Study | Rejection]) -> Self:
        """The state of a source from the records that a reader has just read."""
        state = cls()
        for record in records:
            if isinstance(record, Study):
                state.studies[record.id] = Fingerprint.of(record)
            else:
                state.rejected[record.study_id, record.reason] += 1
        return state

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the state from `sources.jsonl`.

        Raises:
            RadScribeError: the file is missing or damaged.
        """
        state = cls()
        number = 0
        try:
            with open(file, "rb") as lines:
                for line in lines:
                    number += 1
                    entry = json.loads(line)
                    if "reason" in entry:
                        state.rejected[entry["id"], entry["reason"]] += 1
                    else:
                        state.studies[entry["id"]] = fingerprint_of(entry)
        except FileNotFoundError:
            raise RadScribeError(
                f"{file} is missing, so whether the source has changed is not known", "Use another --out"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RadScribeError(f"{file}, line {number} is damaged", "Use another --out") from error
        return state

    def changes(self, now: Self) -> Changes:
        """What has changed from this state to `now`."""
        differences = (
            (identifier, fingerprint.difference(now.studies[identifier]))
            for identifier, fingerprint in self.studies.items()
            if identifier in now.studies
        )
        return Changes(
            added=[identifier for identifier in now.studies if identifier not in self.studies],
            changed={identifier: difference for identifier, difference in differences if difference},
            removed=[identifier for identifier in self.studies if identifier not in now.studies],
            rejections=sorted(
                {record for record, _ in (self.rejected - now.rejected) + (now.rejected - self.rejected)}
            ),
        )


def fingerprint_of(entry: Mapping[str, Any]) -> Fingerprint:
    """The fingerprint in a line of `sources.jsonl`."""
    return Fingerprint(entry["says"], tuple(tuple(state) if state else None for state in entry["files"]))


def rejection_line(rejection: Rejection) -> str:
    """The line of `sources.jsonl` for a record that the reader rejected."""
    return json.dumps({"id": rejection.study_id, "reason": rejection.reason}) + "\n"


@dataclass(frozen=True)
class Changes:
    """What has changed in a source since a store was prepared from it; false if nothing has changed.

    Attributes:
        added, removed: Ids of the studies that were added, and of those that were removed.
        changed: What differs in each changed study, by id.
        rejections: Ids of records that are rejected now and were not before, or the other way round, or for
            another reason.
    """

    added: list[str]
    changed: dict[str, str]
    removed: list[str]
    rejections: list[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.rejections)

    def __str__(self) -> str:
        changed = [f"{identifier}: {difference}" for identifier, difference in self.changed.items()]
        parts = (
            _part(self.added, "added"),
            _part(changed, "changed"),
            _part(self.removed, "removed"),
            _part(self.rejections, "rejected differently"),
        )
        return ", ".join(part for part in parts if part) or "nothing has changed"


def _part(items: Sequence[str], what: str) -> str:
    if not items:
        return ""
    shown = "; ".join(item.encode("ascii", "backslashreplace").decode() for item in items[:_EXAMPLES])
    return f"{len(items):,} {what} ({shown.replace(chr(10), ' ')}{'; ...' if len(items) > _EXAMPLES else ''})"
