"""The prepared store: a data set decoded once, in files that any number of processes map into memory.

    manifest.json   format version, settings, counts, content hash; `complete` once all else is written
    pixels.bin      uint8 [height, width] of every view, one after the other
    masks.bin       bits of every finding's mask [height, width], each mask padded to whole bytes
    studies.jsonl   one line per study: text, observations, and where its views' pixels and masks stand
    splits.csv      study, patient, split
    rejected.csv    study, source, reason
    sources.jsonl   what each study was prepared from; see `staleness`
    update/         while an update runs: what will replace the files of the same names; see `update`

A line in `studies.jsonl` is what commits a study: it is written after its pixels and masks, so that what
a killed process leaves behind its last whole line is cut off and prepared again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from radscribe.errors import RadScribeError, unknown_name
from radscribe.files import ENCODING, read_json_object
from radscribe.observations import OBSERVATION_STATES
from radscribe.studies.rejection import Rejection
from radscribe.studies.staleness import SOURCES, Fingerprint, fingerprint_of
from radscribe.studies.study import PROJECTIONS, SPLITS, RenderedView, Split, Study, View

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
PIXELS = "pixels.bin"
MASKS = "masks.bin"
STUDIES = "studies.jsonl"
SPLITS_FILE = "splits.csv"
REJECTED = "rejected.csv"
#: How many views are checked whenever a store is opened; `radscribe check` checks all views.
VIEWS_CHECKED_ON_OPENING = 8
#: Fields of a manifest, with their types: how a store is made, and what a complete store has too.
_SETTINGS: dict[str, tuple[type, ...]] = {
    "complete": (bool,),
    "source": (str,),
    "reader": (str,),
    "reader_options": (dict,),
    "short_side": (int,),
    "split_fractions": (list,),
    "seed": (int,),
    "limit": (int, type(None)),
}
_FINISHED: dict[str, tuple[type, ...]] = {"counts": (dict,), "bytes": (dict,), "content_hash": (str,)}
#: Folder within a store.
UPDATE = "update"
#: The files that an update replaces, in this order; the others only grow.
_REPLACED = (STUDIES, SPLITS_FILE, REJECTED, SOURCES, MANIFEST)


class _MappedFile:
    """A read-only memory map that each process opens for itself when it first reads."""

    def __init__(self, path: Path):
        self.path = path
        self._bytes: np.ndarray | None = None

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.__init__(path)  # type: ignore[misc]

    def read(self, offset: int, length: int) -> np.ndarray:
        """A copy of uint8 [length] from `offset` on."""
        if self._bytes is None:
            try:
                self._bytes = np.memmap(self.path, np.uint8, mode="r")
            except (OSError, ValueError) as error:
                raise RadScribeError(f"cannot read {self.path}: {error}") from error
        found = np.array(self._bytes[offset : offset + length])
        if len(found) < length:
            raise RadScribeError(f"{self.path} is cut short", _again(self.path.parent))
        return found


@dataclass(frozen=True)
class StoredView:
    """A view's `source`: called, it reads the view from the store. Cheap to pickle.

    Attributes:
        file: the original image file, relative to the source where it lay in it.
        original_size: height and width in pixels before it was resized.
        shape: height and width in the store.
        sha256: of its pixels and masks as they stand in the store.
        window: of a file deeper than 8 bits, the two values in it that became the ends of 0..255; else None.
    """

    file: str
    original_size: tuple[int, int]
    shape: tuple[int, int]
    sha256: str
    window: tuple[float, float] | None
    pixels_at: int
    masks_at: Mapping[str, int]
    _pixels: _MappedFile = field(repr=False)
    _masks: _MappedFile = field(repr=False)

    @property
    def store(self) -> Path:
        """The folder of the store that the view stands in."""
        return self._pixels.path.parent

    def __call__(self) -> RenderedView:
        """Copy this view, and no more, out of the store."""
        height, width = self.shape
        pixels, masks = self._stored()
        return RenderedView(
            pixels.reshape(height, width),
            {
                observation: np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
                for observation, bits in masks.items()
            },
            self.window,
        )

    @property
    def whole(self) -> bool:
        """Whether its pixels and masks are those that were prepared."""
        pixels, masks = self._stored()
        stored = b"".join(part.tobytes() for part in (pixels, *masks.values()))
        return hashlib.sha256(stored).hexdigest() == self.sha256

    def _stored(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Its pixels `[height * width]`, and the packed bits of each mask."""
        size = self.shape[0] * self.shape[1]
        masks = {name: self._masks.read(offset, -(-size // 8)) for name, offset in self.masks_at.items()}
        return self._pixels.read(self.pixels_at, size), masks


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """What a store holds; `str()` gives a table.

    Attributes:
        path: the store.
        reader: how its source was read.
        projections: number of views by projection.
        studies, patients: numbers by split.
        words_mean: mean number of words in findings and impression together, over studies that have any.
        words_distinct: number of distinct words in these, ignoring case and punctuation.
        labels: number of observations that a source with labels states, by state, over all studies.
        shared_patients: patients whom the source itself put into more than one split.
        rejected: number of rejected records by kind of reason.
        size: bytes on disk.
    """

    path: Path
    reader: str
    projections: dict[str, int]
    studies: dict[str, int]
    patients: dict[str, int]
    words_mean: float
    words_distinct: int
    labels: dict[str, int]
    shared_patients: int
    rejected: dict[str, int]
    size: int

    def __str__(self) -> str:
        views = " · ".join(f"{name} {count:,}" for name, count in self.projections.items() if count)
        lines = [
            f"studies    {sum(self.studies.values()):,}",
            f"views      {sum(self.projections.values()):,}: {views}",
            f"splits     {'':8}{'studies':>10}{'patients':>10}",
        ]
        for split in SPLITS:
            lines.append(f"           {split:8}{self.studies[split]:>10,}{self.patients[split]:>10,}")
        if self.shared_patients:
            lines.append(
                f"           CAUTION: the source has {self.shared_patients:,} patients in several splits"
            )
        if self.words_distinct:
            lines.append(
                f"reports    {self.words_mean:.1f} words on average, {self.words_distinct:,} distinct"
            )
        else:
            lines.append("reports    none: this store serves drafting; no report can be learned from it")
            if self.reader == "table":
                lines.append(
                    "           If a column of your table holds them, say which, with another --out:"
                )
                lines.append("""           --columns '{"report": "ITS NAME"}'""")
        if self.labels:
            states = " · ".join(f"{state} {count:,}" for state, count in self.labels.items())
            lines.append(f"labels     {sum(self.labels.values()):,} observations: {states}")
        lines.append(f"rejected   {sum(self.rejected.values()):,}")
        for reason, count in self.rejected.items():
            lines.append(f"           {reason}: {count:,}")
        if self.rejected:
            lines.append(f"           listed in {self.path / REJECTED}")
        lines.append(f"size       {self.size / 1e6:,.1f} MB in {self.path}")
        return "\n".join(lines)


class PreparedStore:
    """A complete prepared store, opened for reading.

    Picklable, and safe in data loaders with several processes: each maps the files for itself.

    Args:
        path: its folder.
        sampled: compare the hashes of some views, drawn at random, with those of the preparation.

    Attributes:
        path: its folder.
        manifest: how it was made and what it holds; see `prepare`.

    Raises:
        RadScribeError: there is no store, its preparation did not finish, it was written in another
            format, or a file of it is missing or damaged.
    """

    def __init__(self, path: Path | str, *, sampled: bool = True):
        self.path = Path(path)
        finish_update(self.path)
        self.manifest = read_manifest(self.path)
        if not self.manifest["complete"]:
            raise RadScribeError(
                f"the store {self.path} is incomplete: its preparation was interrupted",
                f"Run the same command again to resume it: radscribe prepare {self.manifest['source']} "
                f"--out {self.path}",
            )
        self._load()
        if sampled:
            self._check_some_views()

    def _load(self) -> None:
        for name in (PIXELS, MASKS):
            expected = self.manifest["bytes"][name]
            # More bytes are what an update has written so far.
            if not (self.path / name).is_file() or (self.path / name).stat().st_size < expected:
                raise RadScribeError(
                    f"{self.path / name} is missing or has not its {expected:,} bytes", _again(self.path)
                )
        try:
            found = content_hash(self.path)
        except OSError as error:
            raise RadScribeError(
                f"cannot read {error.filename}: {error.strerror}", _again(self.path)
            ) from error
        if found != self.manifest["content_hash"]:
            raise RadScribeError(
                f"{STUDIES} or {SPLITS_FILE} in {self.path} was changed after preparation", _again(self.path)
            )
        splits = read_splits(self.path)
        pixels, masks = _MappedFile(self.path / PIXELS), _MappedFile(self.path / MASKS)
        self._studies: dict[str, Study] = {}
        with open(self.path / STUDIES, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = json.loads(line)
                    self._studies[record["id"]] = _study(record, splits[record["id"]], pixels, masks)
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise RadScribeError(
                        f"{self.path / STUDIES}, line {number} is damaged: {type(error).__name__} {error}",
                        _again(self.path),
                    ) from error

    def _check_some_views(self) -> None:
        views = self.views()
        for study, view in random.Random().sample(views, min(VIEWS_CHECKED_ON_OPENING, len(views))):
            if not view.whole:
                raise RadScribeError(
                    f"the store {self.path} is damaged: pixels or masks of study '{study.id}' have changed",
                    f"Say which others have: radscribe check {self.path}; then prepare it again",
                )

    def views(self) -> list[tuple[Study, StoredView]]:
        """All views with their studies, in the order of the source."""
        return [
            (study, view.source)
            for study in self._studies.values()
            for view in study.views
            if isinstance(view.source, StoredView)
        ]

    def __len__(self) -> int:
        return len(self._studies)

    def studies(self, split: str = "all") -> list[Study]:
        """The studies of `train`, `val`, `test`, or `all`, in the order of the source."""
        if split != "all" and split not in SPLITS:
            raise unknown_name("split", split, ("all", *SPLITS))
        return [study for study in self._studies.values() if split in ("all", study.split)]

    def study(self, identifier: str) -> Study:
        """The study of that id.

        Raises:
            RadScribeError: there is none.
        """
        if identifier not in self._studies:
            example = next(iter(self._studies), "")
            raise RadScribeError(f"no study '{identifier}' in {self.path}", f"Ids look like '{example}'")
        return self._studies[identifier]

    def rejections(self) -> list[Rejection]:
        """What `rejected.csv` lists, in the order of the source.

        Raises:
            RadScribeError: the file is missing or damaged.
        """
        return read_rejections(self.path)

    def summary(self) -> StoreSummary:
        """Count what the store holds."""
        studies = self.studies()
        splits_of_patient: dict[str, set[str]] = {}
        for study in studies:
            splits_of_patient.setdefault(study.patient_id, set()).add(str(study.split))
        projections = Counter(view.projection for study in studies for view in study.views)
        reports = [_words(study) for study in studies]
        reports = [words for words in reports if words]
        labels = Counter(state for study in studies for state in study.observations.values())
        return StoreSummary(
            path=self.path,
            reader=self.manifest["reader"],
            projections={name: projections[name] for name in PROJECTIONS},
            studies={split: sum(study.split == split for study in studies) for split in SPLITS},
            patients={split: sum(split in found for found in splits_of_patient.values()) for split in SPLITS},
            words_mean=sum(map(len, reports)) / max(len(reports), 1),
            words_distinct=len({word for words in reports for word in words}),
            labels={
                state: labels[state]
                for state in OBSERVATION_STATES
                if state != "not_mentioned" and labels[state]
            },
            shared_patients=sum(len(found) > 1 for found in splits_of_patient.values()),
            rejected=dict(Counter(rejection.kind for rejection in self.rejections()).most_common()),
            size=sum(path.stat().st_size for path in self.path.iterdir() if path.is_file()),
        )


def _words(study: Study) -> list[str]:
    text = " ".join(study.sections.get(name, "") for name in ("findings", "impression"))
    words = (word.strip(".,;:!?()[]\"'").lower() for word in text.split())
    return [word for word in words if word]


def _study(record: dict[str, Any], split: Split, pixels: _MappedFile, masks: _MappedFile) -> Study:
    views = []
    for view in record["views"]:
        stored = StoredView(
            file=view["file"],
            original_size=tuple(view["original_size"]),
            shape=tuple(view["shape"]),
            sha256=view["sha256"],
            window=tuple(view["window"]) if view["window"] else None,
            pixels_at=view["pixels_at"],
            masks_at=view["masks_at"],
            _pixels=pixels,
            _masks=masks,
        )
        views.append(View(stored, view["projection"]))
    return Study(
        id=record["id"],
        patient_id=record["patient_id"],
        views=tuple(views),
        split=split,
        sections=record["sections"],
        observations=record["observations"],
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a store, complete or not.

    Raises:
        RadScribeError: there is no store, it was written in another format, or the manifest is damaged.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise RadScribeError(
            f"no prepared store at {path}", f"Make one: radscribe prepare SOURCE --out {path}"
        )
    manifest = read_json_object(file, f"Remove {path} and prepare it again")
    version = manifest.get("format")
    if version != FORMAT_VERSION:
        raise RadScribeError(
            f"the store {path} has format {version}; this RadScribe reads format {FORMAT_VERSION}",
            f"Prepare it again from {manifest.get('source')}",
        )
    needed = _SETTINGS | (_FINISHED if manifest.get("complete") else {})
    wrong = [
        name
        for name, types in needed.items()
        if name not in manifest or not isinstance(manifest[name], types)
    ]
    if not wrong and manifest["complete"]:
        wrong = [name for name in (PIXELS, MASKS) if not isinstance(manifest["bytes"].get(name), int)]
    if wrong:
        raise RadScribeError(
            f"{file} is damaged: it has no valid field '{wrong[0]}'", f"Remove {path} and prepare it again"
        )
    return manifest


def _again(path: Path) -> str:
    """What to do about a damaged store."""
    return f"Remove {path} and prepare it again from {read_manifest(path)['source']}"


def is_store(path: Path) -> bool:
    """Whether a folder holds a prepared store, complete or not."""
    return (path / MANIFEST).is_file() and (path / STUDIES).is_file() and (path / PIXELS).is_file()


def finish_update(path: Path) -> None:
    """Put the files of an update that is whole in the place of the store's; see `update`.

    Killed at any moment, the next call goes on: the folder has its manifest until all else has moved.

    Raises:
        RadScribeError: the store cannot be written to.
    """
    new = path / UPDATE
    if not (new / MANIFEST).is_file():
        return
    for name in _REPLACED:
        try:
            os.replace(new / name, path / name)
        except FileNotFoundError:
            continue  # moved before, or by another process at this moment
        except OSError as error:
            raise RadScribeError(
                f"an update of the store {path} is whole but cannot take its place: {error.strerror}",
                f"Run any command on {path} from where it can be written to",
            ) from error
    shutil.rmtree(new, ignore_errors=True)


def read_splits(path: Path) -> dict[str, Split]:
    """The split of every study of a store, by study id.

    Raises:
        RadScribeError: the file is missing or damaged.
    """
    try:
        with open(path / SPLITS_FILE, newline="", **ENCODING) as file:
            return {row["study"]: row["split"] for row in csv.DictReader(file)}  # type: ignore[misc]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise RadScribeError(f"{path / SPLITS_FILE} is missing or damaged", _again(path)) from error


def read_rejections(path: Path) -> list[Rejection]:
    """What `rejected.csv` in this folder lists.

    Raises:
        RadScribeError: the file is missing or damaged.
    """
    try:
        with open(path / REJECTED, newline="", **ENCODING) as file:
            return [Rejection(*row) for row in list(csv.reader(file))[1:]]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RadScribeError(f"{path / REJECTED} is missing or damaged", _again(path)) from error


def content_hash(path: Path) -> str:
    """SHA-256 over studies.jsonl, whose lines hold the hash of each view's pixels, and splits.csv.

    Raises:
        RadScribeError: one of the two cannot be read.
    """
    digest = hashlib.sha256()
    for name in (STUDIES, SPLITS_FILE):
        try:
            with open(path / name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise RadScribeError(f"cannot read {path / name}: {error.strerror}", _again(path)) from error
    return digest.hexdigest()


class Committed(NamedTuple):
    """What the end of a preparation needs to know of a study that is in the store.

    Attributes:
        split: the source's own, or None.
        views: how many are stored.
        broken: file and reason of each view that could not be read.
    """

    patient_id: str
    split: Split | None
    views: int
    broken: list[list[str]]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """From a line of studies.jsonl."""
        return cls(record["patient_id"], record["split"], len(record["views"]), record["broken"])


@dataclass(frozen=True, slots=True)
class DecodedView:
    """A view on its way into the store.

    Attributes:
        file, original_size, window: see `StoredView`.
        shape: height and width of `pixels`.
        pixels: height * width bytes.
        masks: packed bits by observation.
        sha256: of the pixels and the masks, in hexadecimal.
    """

    projection: str
    file: str
    original_size: tuple[int, int]
    shape: tuple[int, int]
    window: tuple[float, float] | None
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
        return cls(projection, file, original_size, shape, view.window, pixels, masks, digest)


class StoreWriter:
    """Appends studies to a store that is not complete yet, after cutting off what was not committed.

    Use it as a context manager; it holds a lock, so that two processes cannot write one store.

    Attributes:
        path: the folder of pixels and masks.
        index: the folder of all other files: the same, or that of an update.
        committed: the studies in the store by id, in order.
        fingerprints: what each of them was prepared from.

    Raises:
        RadScribeError: another process is preparing this store.
    """

    def __init__(self, path: Path, index: Path | None = None, keep: Mapping[str, int] | None = None):
        """Open a store to write.

        Args:
            path: its folder.
            index: the folder of its update, if it is one.
            keep: bytes of pixels and of masks that are never cut off, because others read them.
        """
        self.path = path
        self.index = index or path
        self._keep = keep or {PIXELS: 0, MASKS: 0}
        self.committed: dict[str, Committed] = {}
        self.fingerprints: dict[str, Fingerprint] = {}
        # Unbuffered: what is written survives the death of the process, in the order of writing.
        self._files = {
            name: open(folder / name, "ab", buffering=0)  # noqa: SIM115
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
                # An update has a studies.jsonl of its own, and pixels that are everybody's.
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
        """Commit a study whose pixels are among the bytes that are kept, by its line of `studies.jsonl`."""
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
            study: its id, text and observations are taken; its split is the source's own, or None.
            views: the readable views in order.
            broken: file and reason of each view that could not be read.
            origin: what the study was prepared from.
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
            lines.append(line)
        record = {
            "id": study.id,
            "patient_id": study.patient_id,
            "split": study.split,
            "sections": dict(study.sections),
            "observations": dict(study.observations),
            "views": lines,
            "broken": broken,
            "ends": self._ends,
        }
        self._write(SOURCES, origin.line(study.id).encode())
        self._write(STUDIES, json.dumps(record).encode() + b"\n")
        self.committed[study.id] = Committed.of(record)
        self.fingerprints[study.id] = origin

    def list_sources(self, lines: Iterable[str]) -> None:
        """Add the lines of what is not in the store to `sources.jsonl`, after all studies."""
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
        """Bytes of each file of pixels and masks so far."""
        return dict(self._ends)
