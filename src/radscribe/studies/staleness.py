"""Whether a source is still what a store was prepared from: its records, and its files by size and time.

    sources.jsonl   one line per study that was prepared: id, hash of what the source says of it, and size
                    and modification time of its files; then, likewise, one line for each study without a
                    readable view, and one for each record that the reader rejected

The lines of prepared studies stand in the order of `studies.jsonl`. The file is no part of a store's content
hash: the same images copied to another place give the same store.
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
#: Size and modification time in nanoseconds; None where there is no such file.
FileState = tuple[int, int] | None
_EXAMPLES = 3


class Fingerprint(NamedTuple):
    """What the source held of a study when it was read.

    Attributes:
        says: hash of its text, observations, patient, split, and the names of its images.
        files: the state of each view's file; None too for a view that has no file.
    """

    says: str
    files: tuple[FileState, ...]

    @classmethod
    def of(cls, study: Study, files: Sequence[FileState] | None = None) -> Self:
        """Of a study as it is now, or with the states that its files had when they were decoded."""
        stated = [
            study.patient_id,
            study.split,
            dict(study.sections),
            dict(study.observations),
            [(Path(view.name).name, view.projection) for view in study.views],
        ]
        says = hashlib.sha256(json.dumps(stated).encode()).hexdigest()[:32]
        return cls(says, tuple(file_states(study.views) if files is None else files))

    def line(self, identifier: str, **more: Any) -> str:
        """Its line in `sources.jsonl`."""
        return json.dumps({"id": identifier, "says": self.says, "files": self.files, **more}) + "\n"

    def difference(self, now: Self) -> str:
        """What has changed until now, in a few words; empty where nothing has."""
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
    return [_state(view.source) if isinstance(view.source, Path) else None for view in views]


def _state(path: Path) -> FileState:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


@dataclass
class SourceState:
    """What a source held, or holds.

    Attributes:
        studies: fingerprint of each study, by id.
        rejected: id and reason of each record that the reader rejected, counted.
    """

    studies: dict[str, Fingerprint] = field(default_factory=dict)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, records: Iterable[Study | Rejection]) -> Self:
        """Of records that a reader has just read."""
        state = cls()
        for record in records:
            if isinstance(record, Study):
                state.studies[record.id] = Fingerprint.of(record)
            else:
                state.rejected[record.study_id, record.reason] += 1
        return state

    @classmethod
    def read(cls, file: Path) -> Self:
        """From `sources.jsonl`.

        Raises:
            RadScribeError: it is missing or damaged.
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
        """What has changed until now."""
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
    """From a line of `sources.jsonl`."""
    return Fingerprint(entry["says"], tuple(tuple(state) if state else None for state in entry["files"]))


def rejection_line(rejection: Rejection) -> str:
    """The line in `sources.jsonl` of a record that the reader rejected."""
    return json.dumps({"id": rejection.study_id, "reason": rejection.reason}) + "\n"


@dataclass(frozen=True)
class Changes:
    """What has changed in a source since it was prepared; false where nothing has.

    Attributes:
        added, removed: ids of studies.
        changed: what differs in a study, by id.
        rejections: ids of records that cannot be read and were not so before, or the other way round.
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
            _part(self.rejections, "otherwise rejected"),
        )
        return ", ".join(part for part in parts if part) or "nothing has changed"


def _part(items: Sequence[str], what: str) -> str:
    if not items:
        return ""
    shown = "; ".join(item.encode("ascii", "backslashreplace").decode() for item in items[:_EXAMPLES])
    return f"{len(items):,} {what} ({shown.replace(chr(10), ' ')}{'; ...' if len(items) > _EXAMPLES else ''})"
