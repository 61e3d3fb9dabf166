"""Writing drafts to a JSON Lines or CSV file, whole or not at all; an interrupted command can be resumed.

Drafts are collected in `FILE.partial`: a first line says what is drafted and how, then each draft is a line.
When all drafts are made, the final file is written and the partial file is removed. A resumed command must
have the same run, studies and decoding. It continues after the last complete batch, so the final file has the
same bytes as without the interruption.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from radscribe.errors import RadScribeError
from radscribe.files import check_place, read_json_lines, replace_file, writing
from radscribe.progress import Progress
from radscribe.studies.opening import DEFAULT_OPENING, Opening

if TYPE_CHECKING:
    from radscribe.runs.drafts import DraftReport
    from radscribe.runs.trained_system import TrainedSystem
    from radscribe.studies.rejection import Rejection
    from radscribe.studies.study import Study

SUFFIXES = (".jsonl", ".csv")
_ROOM = "Make room, or choose another --out; what is drafted is kept, and --resume goes on with it"
_NOT_OURS = "Remove it, or choose another --out"


@dataclass(slots=True)
class Written:
    """What was drafted, by this command and by one that it resumed.

    Attributes:
        drafts: Number of drafts.
        notes: Notes on the views of each study that has some, by its id.
        unlike: Share of the training studies that are less unlike, by id of each study that is flagged.
    """

    drafts: int = 0
    notes: dict[str, list[str]] = field(default_factory=dict)
    unlike: dict[str, float] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a draft, as `DraftReport.to_json` gives it."""
        self.drafts += 1
        if record.get("notes"):
            self.notes[record["id"]] = record["notes"]
        if record.get("unlike"):
            self.unlike[record["id"]] = record["unlike_share"]


class DraftFile:
    """A file of drafts that is being written. Use it as a context manager.

    Args:
        path: File to write; its name ends in `.jsonl` or `.csv`.
        overwrite: Replace an existing file, and start anew even if an interrupted command left a partial
            file.
        resume: Continue an interrupted command.

    Raises:
        RadScribeError: the file exists, has another suffix or cannot be written, or there is nothing to
        resume.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, resume: bool = False):
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.overwrite = overwrite
        self.resume = resume
        self._file: FileIO | None = None
        if path.suffix.lower() not in SUFFIXES:
            raise RadScribeError(
                f"drafts cannot be written to '{path}': its name ends in neither .jsonl nor .csv",
                "Give such a name, or leave out --out to print JSON Lines",
            )
        check_place(path)
        check_place(self.partial)
        if path.is_dir():
            raise RadScribeError(f"'{path}' is a folder", f"Name a file in it: --out {path}/drafts.jsonl")
        interrupted = self.partial.exists()
        if resume and not interrupted:
            done = f"'{path}' is there already" if path.exists() else f"there is no '{self.partial}'"
            raise RadScribeError(f"nothing is left to resume: {done}", "Leave out --resume to draft anew")
        if interrupted and not resume and not overwrite:
            raise RadScribeError(
                f"'{self.partial}' was left by a command that was interrupted",
                "Go on with it by --resume, or begin anew with --overwrite",
            )
        if path.exists() and not overwrite and not (resume and self._header().get("overwrite")):
            raise RadScribeError(
                f"'{path}' is there already", "Replace it with --overwrite, or choose another --out"
            )

    def begin(self, settings: dict[str, Any], studies: Sequence[str], batch: int) -> set[str]:
        """Open the partial file.

        Args:
            settings: Everything that decides what the drafts are, as JSON values; a resumed file must have
                the same.
            studies: Ids of the studies to draft, in order.
            batch: Number of studies that are decoded together.

        Returns:
            The ids of the studies that are already drafted, in complete batches.

        Raises:
            RadScribeError: the file was begun with other settings or studies, or another process is writing
            it.
        """
        names = hashlib.sha256("\n".join(studies).encode(errors="surrogatepass")).hexdigest()
        header = {"settings": settings, "studies": names, "batch": batch, "overwrite": self.overwrite}
        with writing(self.partial, _ROOM):
            self.partial.parent.mkdir(parents=True, exist_ok=True)
            self.partial.touch()
            self._file = self.partial.open("r+b", buffering=0)
            self._lock(self._file)
            if not self.resume:
                self._file.truncate(0)
            lines = [line for line in self._file.read().splitlines(True) if line.endswith(b"\n")]
            if not lines:
                self._file.truncate(0)
                self._file.seek(0)
                self._write(header)
                return set()
            self._check_same(header)
            kept = lines[: 1 + (len(lines) - 1) // batch * batch]
            self._file.truncate(sum(map(len, kept)))
            self._file.seek(0, os.SEEK_END)
        try:
            return {json.loads(line)["id"] for line in kept[1:]}
        except (ValueError, LookupError, TypeError) as error:
            raise RadScribeError(f"'{self.partial}' is damaged", _NOT_OURS) from error

    def add(self, draft: DraftReport) -> None:
        """Write a draft to the partial file, where it is kept even if the process is killed."""
        with writing(self.partial, _ROOM):
            self._write(draft.to_json())

    def finish(self) -> list[dict[str, Any]]:
        """Write the final file, remove the partial file, and return the drafts as `DraftReport.to_json`.

        If there is no draft, no final file is written.

        Raises:
            RadScribeError: the file cannot be written.
        """
        records = read_json_lines(self.partial, _NOT_OURS)[1:]
        if records:
            text = "".join(_lines(records, self.path.suffix.lower()))
            replace_file(self.path, text, _ROOM)
        self.partial.unlink()
        return records

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            if kind is KeyboardInterrupt:
                print(f"what is drafted is kept in '{self.partial}'; go on with --resume", file=sys.stderr)

    def _write(self, record: dict[str, Any]) -> None:
        assert self._file is not None
        rest = memoryview(json.dumps(record).encode() + b"\n")
        while rest:
            rest = rest[self._file.write(rest) :]

    def _header(self) -> dict[str, Any]:
        """The first line of the partial file, which says how it was begun; empty if it was never written."""
        with writing(self.partial, _NOT_OURS), self.partial.open("rb") as file:
            line = file.readline()
        try:
            header = json.loads(line) if line.endswith(b"\n") else {}
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            raise RadScribeError(f"'{self.partial}' is not what radscribe generate leaves", _NOT_OURS)
        return header

    def _check_same(self, header: dict[str, Any]) -> None:
        before = self._header()
        words = {
            "settings": "another run or decoding",
            "studies": "other studies",
            "batch": "another --batch",
        }
        for name, what in words.items():
            if before.get(name) != header[name]:
                raise RadScribeError(
                    f"'{self.partial}' was begun with {what}",
                    "Resume it with the command that began it, or begin anew with --overwrite",
                )

    def _lock(self, file: FileIO) -> None:
        with suppress(ImportError):  # not on Windows
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RadScribeError(
                    f"another process is writing '{self.partial}'", "Wait for it, or choose another --out"
                ) from None


def write_draft_file(
    file: DraftFile,
    trained: TrainedSystem,
    studies: Sequence[Study],
    batch_size: int,
    on_rejection: Callable[[Rejection], None],
    *,
    opening: Opening = DEFAULT_OPENING,
    progress: bool = True,
    **decoding: Any,
) -> Written:
    """Draft studies into a file, and return what was written.

    Args:
        file: File to write, which an interrupted command may have begun.
        trained: Trained system that drafts the studies.
        studies: Studies to draft.
        batch_size: Number of studies that are decoded together.
        on_rejection: Called with each study that cannot be drafted.
        opening: How the images of the studies are opened; a resumed file must have the same.
        progress: Show the progress.
        **decoding: Fields of the run's decoding to change; see `TrainedSystem.generate`.

    Raises:
        RadScribeError: see `DraftFile`, and `TrainedSystem.generate`.
    """
    settings = {
        "run": trained.origin and trained.origin.sha256,
        **asdict(trained.decoding(**decoding)),
        **asdict(opening),
    }
    with file:
        done = file.begin(settings, [study.id for study in studies], batch_size)
        rest = [study for study in studies if study.id not in done]
        drafts = trained.generate(rest, batch_size=batch_size, on_rejection=on_rejection, **decoding)
        with Progress(len(studies), "drafting", "studies", done=len(done), show=progress) as shown:
            for draft in drafts:
                file.add(draft)
                shown.update()
        written = Written()
        for record in file.finish():
            written.add(record)
        return written


def print_drafts(
    trained: TrainedSystem,
    studies: Sequence[Study],
    batch_size: int,
    on_rejection: Callable[[Rejection], None],
    **decoding: Any,
) -> Written:
    """Draft studies to standard output as JSON Lines, and return what was written.

    The arguments are those of `write_draft_file`.
    """
    if sys.stdout is None:
        raise RadScribeError("standard output is closed", "Write the drafts to a file: --out drafts.jsonl")
    written = Written()
    try:
        for draft in trained.generate(studies, batch_size=batch_size, on_rejection=on_rejection, **decoding):
            record = draft.to_json()
            print(json.dumps(record), flush=True)
            written.add(record)
    except BrokenPipeError:
        raise
    except OSError as error:
        # Otherwise Python would try to write the rest at its end, and complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise RadScribeError(
            f"cannot write to standard output: {error.strerror}", "Write the drafts to a file: --out"
        ) from error
    return written


def _lines(records: Sequence[dict[str, Any]], suffix: str) -> Iterator[str]:
    """The lines of the final file."""
    if suffix == ".jsonl":
        yield from (json.dumps(record) + "\n" for record in records)
        return
    most = max(len(record.get("alternatives", ())) for record in records)
    rows = [_row(record) for record in records]
    ranks = range(2, most + 2)
    columns = [*_row(records[0] | {"alternatives": []})]
    columns[3:3] = [f"{name}_{rank}" for rank in ranks for name in ("text", "logprob")]
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _row(record: dict[str, Any]) -> dict[str, Any]:
    """A draft as a table row: `text_2` and `logprob_2` are the second best; a bar joins images and notes."""
    row = record | {name: " | ".join(record[name]) for name in ("images", "notes") if name in record}
    for rank, alternative in enumerate(row.pop("alternatives", ()), start=2):
        row |= {f"{name}_{rank}": value for name, value in alternative.items()}
    return row
