"""A file of drafts: JSON Lines or CSV, whole or not at all, and how an interrupted one goes on.

Drafts are gathered in `FILE.partial`, a line for each as it is made, behind a line that says what is drafted
and how. Once all are there, the file is put in its place and the partial one is removed. An interrupted
command goes on with the same run, studies and decoding, and from a whole batch on, so that it ends with the
same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from radscribe.errors import RadScribeError
from radscribe.files import check_place, read_json_lines, replace_file, writing
from radscribe.progress import Progress

if TYPE_CHECKING:
    from radscribe.runs.drafts import DraftReport
    from radscribe.runs.trained_system import TrainedSystem
    from radscribe.studies.rejection import Rejection
    from radscribe.studies.study import Study

SUFFIXES = (".jsonl", ".csv")
_ROOM = "Make room, or choose another --out; what is drafted is kept, and --resume goes on with it"
_NOT_OURS = "Remove it, or choose another --out"


class DraftFile:
    """A file of drafts that is being made. Use it as a context manager.

    Args:
        path: the file, `.jsonl` or `.csv`.
        overwrite: replace it if it is there, and begin anew beside an interrupted one.
        resume: go on with an interrupted one.

    Raises:
        RadScribeError: the file is there, has another suffix or cannot be written, or nothing can be resumed.
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
                "Give such a name, or leave out --out to have JSON Lines on standard output",
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
            settings: what decides the drafts, as JSON values; a resumed file must have the same.
            studies: ids of what is to be drafted, in order.
            batch: studies that are decoded together.

        Returns:
            The ids of the studies that are drafted already: those of whole batches.

        Raises:
            RadScribeError: it was begun with other settings or studies, or another process is writing it.
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
        """Keep a draft; it survives the death of the process."""
        with writing(self.partial, _ROOM):
            self._write(draft.to_json())

    def finish(self) -> int:
        """Put the file in its place and remove the partial one; the number of drafts in it.

        Without a draft no file is written.

        Raises:
            RadScribeError: it cannot be written.
        """
        records = read_json_lines(self.partial, _NOT_OURS)[1:]
        if records:
            text = "".join(_lines(records, self.path.suffix.lower()))
            replace_file(self.path, text, _ROOM)
        self.partial.unlink()
        return len(records)

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
        """What the partial file says of how it was begun; empty where it was killed before it could."""
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
    progress: bool = True,
    **decoding: Any,
) -> int:
    """Draft studies into a file; the number of drafts in it.

    Args:
        file: which file, and whether it was begun before.
        trained: what drafts.
        studies: what is drafted.
        batch_size: see `TrainedSystem.generate`, as for the arguments that follow.
        on_rejection: likewise.
        progress: show how far it is.
        **decoding: likewise.

    Raises:
        RadScribeError: see `DraftFile`, and `TrainedSystem.generate`.
    """
    settings = {"run": trained.origin and trained.origin.sha256} | asdict(trained.decoding(**decoding))
    with file:
        done = file.begin(settings, [study.id for study in studies], batch_size)
        rest = [study for study in studies if study.id not in done]
        drafts = trained.generate(rest, batch_size=batch_size, on_rejection=on_rejection, **decoding)
        with Progress(len(studies), "drafting", "studies", done=len(done), show=progress) as shown:
            for draft in drafts:
                file.add(draft)
                shown.update()
        return file.finish()


def print_drafts(
    trained: TrainedSystem,
    studies: Sequence[Study],
    batch_size: int,
    on_rejection: Callable[[Rejection], None],
    **decoding: Any,
) -> int:
    """Draft studies to standard output as JSON Lines; the number of drafts. See `write_draft_file`."""
    if sys.stdout is None:
        raise RadScribeError("standard output is closed", "Write the drafts to a file: --out drafts.jsonl")
    written = 0
    try:
        for draft in trained.generate(studies, batch_size=batch_size, on_rejection=on_rejection, **decoding):
            print(json.dumps(draft.to_json()), flush=True)
            written += 1
    except BrokenPipeError:
        raise
    except OSError as error:
        # What could not be written would be tried again, and complained of, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise RadScribeError(
            f"cannot write to standard output: {error.strerror}", "Write the drafts to a file: --out"
        ) from error
    return written


def _lines(records: Sequence[dict[str, Any]], suffix: str) -> Iterator[str]:
    """The lines of a drafts file."""
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
    """A draft as a row: `text_2` and `logprob_2` are the second best, and images are joined by a bar."""
    row = record | {"images": " | ".join(record["images"])}
    for rank, alternative in enumerate(row.pop("alternatives", ()), start=2):
        row |= {f"{name}_{rank}": value for name, value in alternative.items()}
    return row
