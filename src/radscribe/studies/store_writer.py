"""Writing a prepared store: studies are appended one by one, and a line in `studies.jsonl` commits each."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.studies.staleness import SOURCES, Fingerprint, fingerprint_of
from radscribe.studies.store_files import MASKS, PIXELS, STUDIES
from radscribe.studies.study import RenderedView, Split, Study

#: Errors of the operating system which mean that a store cannot be written at its path.
_UNUSABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EIO,
    errno.EINVAL,
)


class Committed(NamedTuple):
    """What the last step of a preparation needs to know of a study that is in the store.

    Attributes:
        split: Split that the source states, or None.
        views: Number of stored views.
        broken: File and reason of each view that could not be read.
    """

    patient_id: str
    split: Split | None
    views: int
    broken: list[list[str]]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Read it from a line of `studies.jsonl`."""
        return cls(record["patient_id"], record["split"], len(record["views"]), record["broken"])


@dataclass(frozen=True, slots=True)
class DecodedView:
    """A decoded view that is ready to be written to the store.

    Attributes:
        file, original_size, window, notes, box_counts: As in `StoredView`.
        shape: Height and width of `pixels`.
        pixels: The pixels as height * width bytes.
        masks: Packed bits of each mask, by observation.
        sha256: Hash of the pixels and the masks, in hexadecimal digits.
    """

    projection: str
    file: str
    original_size: tuple[int, int]
    shape: tuple[int, int]
    window: tuple[float, float] | None
    notes: tuple[str, ...]
    box_counts: dict[str, int]
    pixels: bytes
    masks: dict[str, bytes]
    sha256: str

    @classmethod
    def of(cls, view: RenderedView, projection: str, file: str, original_size: tuple[int, int]) -> Self:
        """Pack a view that has its final size."""
        pixels = view.pixels.tobytes()
        masks = {name: np.packbits(mask).tobytes() for name, mask in view.masks.items()}
        digest = hashlib.sha256(pixels + b"".join(masks.values())).hexdigest()
        height, width = view.pixels.shape
        shape = height, width
        return cls(
            projection=projection,
            file=file,
            original_size=original_size,
            shape=shape,
            window=view.window,
            notes=view.notes,
            box_counts=dict(view.box_counts),
            pixels=pixels,
            masks=masks,
            sha256=digest,
        )


class StoreWriter:
    """Appends studies to a store that is not complete yet, after cutting off what was not committed.

    Use it as a context manager. It holds a lock, so that two processes cannot write the same store.

    Attributes:
        path: Folder of pixels and masks.
        index: Folder of all other files: the same folder, or that of an update.
        committed: Studies in the store by id, in order.
        fingerprints: What each committed study was prepared from, by id.

    Raises:
        RadScribeError: another process is preparing this store.
    """

    def __init__(self, path: Path, index: Path | None = None, keep: Mapping[str, int] | None = None):
        """Open a store to write.

        Args:
            path: Folder of the store.
            index: Folder of the update, if the store is updated.
            keep: Number of bytes of pixels and of masks that are never cut off, because other processes read
                them.
        """
        self.path = path
        self.index = index or path
        self._keep = keep or {PIXELS: 0, MASKS: 0}
        self.committed: dict[str, Committed] = {}
        self.fingerprints: dict[str, Fingerprint] = {}
        # Unbuffered: what is written survives the death of the process, in the order of writing.
        self._files = {
            name: FileIO(folder / name, "a")
            for folder, names in ((path, (PIXELS, MASKS)), (self.index, (SOURCES, STUDIES)))
            for name in names
        }
        try:
            self._lock()
            self._recover()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and give up the lock."""
        for file in self._files.values():
            file.close()

    def _lock(self) -> None:
        with suppress(ImportError):  # not on Windows
            import fcntl

            try:
                # An update has its own studies.jsonl, but writes to the same file of pixels as everybody.
                for name in (PIXELS, STUDIES):
                    fcntl.flock(self._files[name], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RadScribeError(
                    f"another process is preparing {self.path}", "Wait for it, or use another --out"
                ) from None

    def _recover(self) -> None:
        """Keep the whole lines whose pixels, masks and sources are there; cut off everything after them."""
        there = {name: (self.path / name).stat().st_size for name in (PIXELS, MASKS)}
        ends = {PIXELS: 0, MASKS: 0, STUDIES: 0, SOURCES: 0}
        with open(self.index / STUDIES, "rb") as lines, open(self.index / SOURCES, "rb") as sources:
            for line, source in zip(lines, sources, strict=False):
                if not (line.endswith(b"\n") and source.endswith(b"\n")):
                    break
                try:
                    record, origin = json.loads(line), json.loads(source)
                    if origin["id"] != record["id"] or any(
                        record["ends"][name] > there[name] for name in there
                    ):
                        break
                    committed, fingerprint = Committed.of(record), fingerprint_of(origin)
                    written = {name: record["ends"][name] for name in there}
                except (ValueError, KeyError, TypeError, RecursionError):
                    break
                self.committed[record["id"]] = committed
                self.fingerprints[record["id"]] = fingerprint
                ends = {
                    **written,
                    STUDIES: ends[STUDIES] + len(line),
                    SOURCES: ends[SOURCES] + len(source),
                }
        self._cut(ends)

    def _cut(self, ends: dict[str, int]) -> None:
        self._ends = {name: max(ends[name], self._keep[name]) for name in (PIXELS, MASKS)}
        for name, size in (ends | self._ends).items():
            self._files[name].truncate(size)

    def begin_again(self) -> None:
        """Forget all studies that were committed."""
        self.committed.clear()
        self.fingerprints.clear()
        self._cut(dict.fromkeys(self._files, 0))

    def adopt(self, line: bytes, origin: Fingerprint) -> None:
        """Commit a study by its line of `studies.jsonl`; its pixels are among the bytes that are kept."""
        record = json.loads(line)
        self._write(SOURCES, origin.line(record["id"]).encode())
        self._write(STUDIES, line)
        self.committed[record["id"]] = Committed.of(record)
        self.fingerprints[record["id"]] = origin

    def append(
        self, study: Study, views: Sequence[DecodedView], broken: list[list[str]], origin: Fingerprint
    ) -> None:
        """Commit a study with the views that could be read.

        Args:
            study: Study whose id, text and observations are taken; its split is that of the source, or None.
            views: Readable views in order.
            broken: File and reason of each view that could not be read.
            origin: What the study was prepared from.
        """
        lines = []
        for view in views:
            pixels_at = self._ends[PIXELS]
            self._write(PIXELS, view.pixels)
            masks_at = {}
            for observation, bits in view.masks.items():
                masks_at[observation] = self._ends[MASKS]
                self._write(MASKS, bits)
            line = asdict(view) | {"pixels_at": pixels_at, "masks_at": masks_at}
            del line["pixels"], line["masks"]
            for name in ("notes", "box_counts"):
                if not line[name]:
                    del line[name]
            lines.append(line)
        record = {
            "id": study.id,
            "patient_id": study.patient_id,
            "split": study.split,
            "sections": dict(study.sections),
            "observations": dict(study.observations),
            **({"prior": study.prior} if study.prior else {}),
            "views": lines,
            "broken": broken,
            "ends": self._ends,
        }
        self._write(SOURCES, origin.line(study.id).encode())
        self._write(STUDIES, json.dumps(record).encode() + b"\n")
        self.committed[study.id] = Committed.of(record)
        self.fingerprints[study.id] = origin

    def list_sources(self, lines: Iterable[str]) -> None:
        """Add lines for records that are not in the store to `sources.jsonl`; they come after all studies."""
        self._write(SOURCES, "".join(lines).encode())

    def _write(self, name: str, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._files[name].write(rest) :]
        if name in self._ends:
            self._ends[name] += len(data)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        for file in self._files.values():
            os.fsync(file.fileno())

    @property
    def sizes(self) -> dict[str, int]:
        """Number of bytes that are in the files of pixels and of masks so far."""
        return dict(self._ends)


@contextmanager
def write_errors_explained(out: Path) -> Iterator[None]:
    """Turn an error of the operating system in writing a store into one that says what to do.

    Raises:
        RadScribeError: the disk is full, or `out` cannot be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise RadScribeError(
                f"no space left for {out} ({error.strerror})",
                "Free some and run the same command again: it resumes",
            ) from error
        if error.errno in _UNUSABLE:
            raise RadScribeError(f"cannot write to {out}: {error.strerror}", "Use another --out") from error
        raise
