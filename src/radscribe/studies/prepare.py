"""`radscribe prepare`: read a source once, decode its images in parallel, and write a prepared store."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from radscribe.about import VERSION
from radscribe.errors import RadScribeError
from radscribe.files import ENCODING, write_whole
from radscribe.progress import Progress
from radscribe.studies.burned_in_text import require_reader
from radscribe.studies.decoder import Decoder
from radscribe.studies.images import STORE_SHORT_SIDE
from radscribe.studies.pseudonyms import with_key
from radscribe.studies.readers.in_python import GIVEN, studies_in_python
from radscribe.studies.readers.registry import READERS, find_reader, open_source, without_duplicates
from radscribe.studies.rejection import NO_VIEW, Rejection
from radscribe.studies.splits import assign_splits, check_fractions
from radscribe.studies.staleness import (
    SOURCES,
    Changes,
    Fingerprint,
    SourceState,
    rejection_line,
)
from radscribe.studies.store import PreparedStore
from radscribe.studies.store_files import (
    FORMAT_VERSION,
    MANIFEST,
    REJECTED,
    SPLITS_FILE,
    STUDIES,
    content_hash,
    finish_update,
    read_manifest,
    read_rejections,
)
from radscribe.studies.store_summary import StoreSummary
from radscribe.studies.store_writer import StoreWriter, write_errors_explained
from radscribe.studies.study import Split, Study
from radscribe.studies.update import open_update, updated_splits

#: Smallest and largest short side of a view in pixels. Smaller views show nothing, and more pixels than a
#: detector has do not help.
SHORT_SIDES = (16, 4096)
MAX_WORKERS = 512


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """Result of `prepare`; `str()` gives a table.

    Attributes:
        store: What the store holds now.
        decoded: Number of studies that this call decoded; an earlier call decoded the others.
        seconds: Wall-clock time of this call in seconds.
        changes: What had changed in the source of a store that was complete before this call; None if it was
            not complete.
    """

    store: StoreSummary
    decoded: int
    seconds: float
    changes: Changes | None = None

    def __str__(self) -> str:
        total = sum(self.store.studies.values())
        earlier = total - self.decoded
        resumed = f" ({earlier:,} of {total:,} studies were there already)" if earlier else ""
        lines = [str(self.store), f"time       {self.seconds:,.1f} s{resumed}"]
        if self.changes is not None:
            lines.append(f"source     {self.changes} since the store was prepared")
        return "\n".join(lines)


def prepare(
    source: Path | str | Iterable[Study],
    out: Path | str,
    *,
    reader: str = "auto",
    short_side: int = STORE_SHORT_SIDE,
    reduced_jpeg: bool = False,
    split_fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    workers: int | None = None,
    limit: int | None = None,
    read_text: bool = False,
    update: bool = False,
    progress: bool = True,
    **reader_options: Any,
) -> PrepareSummary:
    """Read any source once and write a prepared store that training maps into memory.

    A study is committed when all its views are written. After an interruption at any time, the same call
    resumes behind the last committed study and ends with the same bytes. A view that cannot be read is listed
    in `rejected.csv`; a study is rejected if none of its views can be read. A complete store is left as it is
    if its source has not changed; otherwise see `update`.

    Args:
        source: A file, a folder, the word `phantom`, or studies made in Python, whose views are files or
            functions.
        out: Folder of the store: a new or empty folder, or a store with the same settings.
        reader: Name of a reader in `READERS`, or `auto`.
        short_side: Short side of each view in pixels, from 16 to 4096.
        reduced_jpeg: Decode a JPEG of at least four times this short side at half, a quarter or an eighth of
            its size: twice as fast, with slightly other pixels; see `read_file`.
        split_fractions: Shares of train, val and test for studies whose split the source does not state; see
            `assign_splits`.
        seed: Random seed of the splits, and of the source if its studies are drawn at random (the phantom).
        workers: Number of processes that decode; all cores by default. With 1, the calling process decodes.
        limit: Largest number of studies to take from the start of the source.
        read_text: Read text in the pixels of each view, and note it if it could identify a patient; see
            `burned_in_text`.
        update: Update a complete store if its source has changed. New studies of a known patient join the
            split of that patient, and unchanged studies stay as they are. Changed studies are decoded anew,
            and studies that the source no longer has are dropped.
        progress: Show progress on standard error.
        reader_options: Options of the reader, such as `images` and `columns`.

    Raises:
        RadScribeError: the source or an option cannot be used; `out` holds something else, or a store of
            other settings; the source has changed since the store was prepared, and `update` is false; no
            study is left; the disk is full (what is written is kept).
    """
    started = time.monotonic()
    out = Path(out)
    check_fractions(split_fractions)
    check_range("short_side", short_side, *SHORT_SIDES)
    processes = (os.cpu_count() or 1) if workers is None else check_range("workers", workers, 1, MAX_WORKERS)
    if limit is not None:
        check_range("limit", limit, 1)
    if read_text:
        require_reader()
    reader, root, records = _opened(source, out, reader, seed, reader_options)
    settings = {
        "source": reader if reader in ("phantom", GIVEN) else str(root),
        "reader": reader,
        "reader_options": json.loads(json.dumps(reader_options, default=_absolute)),
        "short_side": short_side,
        "split_fractions": list(split_fractions),
        "seed": seed,
        "limit": limit,
        "reduced_jpeg": reduced_jpeg,
        "read_text": read_text,
    }
    manifest = _earlier(out, settings)
    found = list(_limited(records, limit))
    decoder = Decoder(
        short_side,
        root,
        processes if processes > 1 else 0,
        reduced_jpeg,
        functions_here=reader == GIVEN,
        read_text=read_text,
    )
    decoded, changes = 0, None
    with write_errors_explained(out):
        if manifest is None:
            manifest = _begin(out, settings)
        now = SourceState.of(found)
        if not manifest["complete"]:
            with StoreWriter(out) as writer:
                _require_unchanged(writer, now)
                lines, decoded = _write_studies(writer, found, decoder, progress)
                _finish(writer, manifest, lines)
        elif changes := SourceState.read(out / SOURCES).changes(now):
            if not update:
                raise RadScribeError(
                    f"the source has changed since the store {out} was prepared: {changes}",
                    "Follow it with the same command and --update, or use another --out",
                )
            with open_update(out, manifest, now) as writer:
                lines, decoded = _write_studies(writer, found, decoder, progress, changes.removed)
                unchanged = set(writer.committed) - {*changes.added, *changes.changed}
                splits = updated_splits(out, writer.committed, unchanged, manifest)
                _finish(writer, manifest, lines, splits)
                finish_update(out)
    return PrepareSummary(PreparedStore(out).summary(), decoded, time.monotonic() - started, changes)


def _opened(
    source: Path | str | Iterable[Study], out: Path, reader: str, seed: int, reader_options: dict[str, Any]
) -> tuple[str, Path, Iterable[Study | Rejection]]:
    """The name of the reader, the folder that file names are relative to, and the records of a source.

    The seed becomes an option of a reader that draws its studies.
    """
    if isinstance(source, str | Path):
        reader = find_reader(source, reader)
        if "seed" in READERS[reader].options:
            reader_options.setdefault("seed", seed)
        root = Path(source).resolve()
        _check_places(root, out)
        if "pseudonym_key" in READERS[reader].options:
            reader_options = with_key(reader_options, out)
        records = open_source(source, reader, **reader_options)
        return reader, root, records
    if reader != "auto" or reader_options:
        raise RadScribeError(
            f"studies given in Python take no reader and no option {', '.join(reader_options)}".rstrip(),
            "Leave them out",
        )
    return GIVEN, Path.cwd(), without_duplicates(studies_in_python(source), GIVEN)


def check_range(name: str, value: int, low: int, high: int | None = None) -> int:
    """Return the value if it is a whole number in this range.

    Raises:
        RadScribeError: the value is not in this range; the message names the option.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise RadScribeError(f"{name} is {value!r}, not a whole number")
    if value < low or (high is not None and value > high):
        span = f"from {low:,} to {high:,}" if high is not None else f"of at least {low:,}"
        raise RadScribeError(f"{name} is {value:,}", f"Give a whole number {span}")
    return value


def _absolute(value: object) -> str:
    """A setting as text. A path becomes absolute, so that it means the same in every folder."""
    return str(value.absolute()) if isinstance(value, Path) else str(value)


def _check_places(source: Path, out: Path) -> None:
    """Raise RadScribeError if the store would replace its source or contain it."""
    try:
        place = out.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise RadScribeError(f"cannot write to {str(out)!r}: {error}", "Use another --out") from error
    if source == place or source.is_relative_to(place):
        raise RadScribeError(f"the source {source} lies in the store {place}", "Use another --out")


def _earlier(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of the store at `out` if its settings are the same; None if a store may be begun there."""
    try:
        if (out / MANIFEST).is_file():
            finish_update(out)
            manifest = read_manifest(out)
            manifest.setdefault("read_text", False)  # as in earlier versions, which could not
            differing = [name for name in settings if manifest[name] != settings[name]]
            holds_studies = (out / STUDIES).is_file() and (out / STUDIES).stat().st_size > 0
            if not differing:
                return manifest
            if holds_studies:
                changes = ", ".join(
                    f"{name} {manifest[name]!r}, not {settings[name]!r}" for name in differing
                )
                raise RadScribeError(f"the store {out} was prepared with {changes}", "Use another --out")
        elif os.path.lexists(out) and not out.is_dir():
            raise RadScribeError(f"{out} is there already, and is no folder", "Use another --out")
        elif out.is_dir() and any(path.suffix != ".tmp" for path in out.iterdir()):
            raise RadScribeError(f"{out} is there already and holds no prepared store", "Use another --out")
    except OSError as error:
        raise RadScribeError(f"cannot write to {out}: {error.strerror}", "Use another --out") from error
    return None


def _begin(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Create a new store, and return its manifest."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = {
        "format": FORMAT_VERSION,
        "complete": False,
        "radscribe": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **settings,
    }
    write_whole(out / MANIFEST, json.dumps(manifest, indent=2))
    return manifest


def _require_unchanged(writer: StoreWriter, now: SourceState) -> None:
    """Raise RadScribeError if committed studies of an interrupted preparation changed or left the source."""
    changes = SourceState(writer.fingerprints).changes(now)
    if changes.changed or changes.removed:
        changes = Changes([], changes.changed, changes.removed, [])
        raise RadScribeError(
            f"the source has changed since the preparation of {writer.path} was interrupted: {changes}",
            f"Use another --out, or remove {writer.path}",
        )


def _limited(records: Iterable[Study | Rejection], limit: int | None) -> Iterator[Study | Rejection]:
    """The records up to and including study number `limit`; all records without a limit."""
    studies = 0
    for record in records:
        if studies == limit:
            return
        studies += isinstance(record, Study)
        yield record


def _write_studies(
    writer: StoreWriter,
    records: Sequence[Study | Rejection],
    decoder: Decoder,
    progress: bool,
    removed: Sequence[str] = (),
) -> tuple[list[str], int]:
    """Append the studies that are not in the store yet, and list the rejections.

    Returns:
        The lines of `sources.jsonl` for records that are not in the store, and the number of studies that
        were added.
    """
    earlier = frozenset(writer.committed)
    studies = sum(isinstance(record, Study) for record in records)
    lines = []
    with (
        open(writer.index / REJECTED, "w", newline="", buffering=1, **ENCODING) as file,
        Progress(studies, "preparing", "studies", show=progress and studies > 0) as bar,
        closing(decoder.decode(records, earlier)) as results,
    ):
        rejected = csv.writer(file, lineterminator="\n")
        rejected.writerow(("study", "source", "reason"))
        for record, decoded in results:
            if isinstance(record, Rejection):
                rejected.writerow((record.study_id, record.source, record.reason))
                lines.append(rejection_line(record))
                continue
            bar.update()
            if decoded is None:
                broken = writer.committed[record.id].broken
            else:
                views, broken, files = decoded
                origin = Fingerprint.of(record, files)
                if views:
                    writer.append(record, views, broken, origin)
                else:
                    lines.append(origin.line(record.id))
                    if not broken:
                        rejected.writerow((record.id, "", NO_VIEW))
            for name, reason in broken:
                rejected.writerow((record.id, name, reason))
        rejected.writerows((identifier, "", "removed: the source no longer has it") for identifier in removed)
    return lines, len(writer.committed) - len(earlier)


def _finish(
    writer: StoreWriter, manifest: dict[str, Any], lines: Iterable[str], splits: Sequence[Split] | None = None
) -> None:
    """Assign the splits unless they are given, and mark the store as complete."""
    out, committed = writer.index, writer.committed
    rejections = read_rejections(out)
    if not committed:
        reasons = Counter(rejection.kind for rejection in rejections).most_common()
        found = ", ".join(f"{reason} {count:,}" for reason, count in reasons) or "it is empty"
        example = next((r for r in rejections if reasons and r.kind == reasons[0][0]), None)
        raise RadScribeError(
            f"no study of {manifest['source']} can be used: {found}",
            f"The first: {' '.join(f'{example.source}, {example.reason}'.split())}. See {out / REJECTED}"
            if example
            else "",
            exit_code=1,
        )
    writer.list_sources(lines)
    writer.sync()
    if splits is None:
        splits = assign_splits(
            [(study.patient_id, study.split) for study in committed.values()],
            manifest["split_fractions"],
            manifest["seed"],
        )
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("study", "patient", "split"))
    rows.writerows(
        (identifier, study.patient_id, split)
        for (identifier, study), split in zip(committed.items(), splits, strict=True)
    )
    write_whole(out / SPLITS_FILE, table.getvalue())
    counts = {
        "studies": len(committed),
        "views": sum(study.views for study in committed.values()),
        "rejected": len(rejections),
    }
    finished = {
        **manifest,
        "complete": True,
        "counts": counts,
        "bytes": writer.sizes,
        "content_hash": content_hash(out),
    }
    write_whole(out / MANIFEST, json.dumps(finished, indent=2))
