"""`radscribe prepare`: read a source once, decode its images in parallel, and leave a prepared store."""

from __future__ import annotations

import csv
import errno
import io
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from radscribe.errors import RadScribeError
from radscribe.studies.images import STORE_SHORT_SIDE, ImageError, original_view, resize_view
from radscribe.studies.readers import READERS, find_reader, open_source
from radscribe.studies.rejection import NO_VIEW, Rejection
from radscribe.studies.splits import assign_splits, check_fractions
from radscribe.studies.store import (
    ENCODING,
    FORMAT_VERSION,
    MANIFEST,
    REJECTED,
    SPLITS_FILE,
    STUDIES,
    DecodedView,
    PreparedStore,
    StoreSummary,
    StoreWriter,
    content_hash,
    read_manifest,
    write_whole,
)
from radscribe.studies.study import Study, View

#: Studies that wait to be written, per process: enough that none idles behind one slow image.
_IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """What `prepare` made; `str()` gives a table.

    Attributes:
        store: what the store holds now.
        decoded: studies decoded by this call; the others were there from an earlier one.
        seconds: wall-clock time of this call.
    """

    store: StoreSummary
    decoded: int
    seconds: float

    def __str__(self) -> str:
        total = sum(self.store.studies.values())
        earlier = total - self.decoded
        resumed = f" ({earlier:,} of {total:,} studies were there already)" if earlier else ""
        return f"{self.store}\ntime       {self.seconds:,.1f} s{resumed}"


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    reader: str = "auto",
    short_side: int = STORE_SHORT_SIDE,
    split_fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    workers: int | None = None,
    limit: int | None = None,
    progress: bool = True,
    **reader_options: Any,
) -> PrepareSummary:
    """Read any source once and write a prepared store that training maps into memory.

    A study is committed when all its views are written; killed at any time, the same call resumes behind
    the last committed study and ends with the same bytes. A view that cannot be read is listed in
    `rejected.csv`; a study is rejected if none of its views can be read. A complete store is left as it is.

    Args:
        source: a file, a folder, or the word `phantom`.
        out: the folder of the store: new, empty, or an interrupted store of the same settings.
        reader: a name of `READERS`, or `auto`.
        short_side: pixels of each view's short side.
        split_fractions: shares of train, val and test where the source does not say; see `assign_splits`.
        seed: of the splits, and of the source if it is drawn at random (the phantom).
        workers: processes that decode; all cores by default, within this process if 1.
        limit: take only that many studies from the start of the source.
        progress: show a progress bar on standard error.
        reader_options: options of the reader, such as `images` and `columns`.

    Raises:
        RadScribeError: the source or an option cannot be used; `out` holds something else, or a store of
            other settings; no study is left; the disk is full (what is written is kept).
    """
    started = time.monotonic()
    out = Path(out)
    check_fractions(split_fractions)
    if short_side < 1:
        raise RadScribeError(f"short_side is {short_side}, not a number of pixels above 0")
    reader = find_reader(source, reader)
    if "seed" in READERS[reader].options:
        reader_options.setdefault("seed", seed)
    settings = {
        "source": str(source) if reader == "phantom" else str(Path(source).resolve()),
        "reader": reader,
        "reader_options": json.loads(json.dumps(reader_options, default=str)),
        "short_side": short_side,
        "split_fractions": list(split_fractions),
        "seed": seed,
        "limit": limit,
    }
    records = open_source(source, reader, **reader_options)
    processes = (os.cpu_count() or 1) if workers is None else workers
    decoded = 0
    with _write_errors_explained(out):
        manifest = _begin(out, settings)
        if not manifest["complete"]:
            with StoreWriter(out) as writer:
                decoder = _Decoder(short_side, Path(settings["source"]), processes if processes > 1 else 0)
                decoded = _write_studies(writer, list(_limited(records, limit)), decoder, progress)
                _finish(writer, manifest)
    return PrepareSummary(PreparedStore(out).summary(), decoded, time.monotonic() - started)


def _begin(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the store at `out`: an earlier call's if its settings are the same, or a new one."""
    if (out / MANIFEST).is_file():
        manifest = read_manifest(out)
        differing = [name for name in settings if manifest[name] != settings[name]]
        holds_studies = (out / STUDIES).is_file() and (out / STUDIES).stat().st_size > 0
        if not differing:
            return manifest
        if holds_studies:
            changes = ", ".join(f"{name} {manifest[name]!r}, not {settings[name]!r}" for name in differing)
            raise RadScribeError(f"the store {out} was prepared with {changes}", "Use another --out")
    elif out.is_file() or (out.is_dir() and any(path.suffix != ".tmp" for path in out.iterdir())):
        raise RadScribeError(f"{out} is there already and holds no prepared store", "Use another --out")
    out.mkdir(parents=True, exist_ok=True)
    manifest = {
        "format": FORMAT_VERSION,
        "complete": False,
        "radscribe": version("radscribe"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **settings,
    }
    write_whole(out / MANIFEST, json.dumps(manifest, indent=2))
    return manifest


def _limited(records: Iterable[Study | Rejection], limit: int | None) -> Iterator[Study | Rejection]:
    """The records up to and including the study number `limit`."""
    studies = 0
    for record in records:
        if studies == limit:
            return
        studies += isinstance(record, Study)
        yield record


def _write_studies(
    writer: StoreWriter, records: Sequence[Study | Rejection], decoder: _Decoder, progress: bool
) -> int:
    """Append what is not in the store yet, list what is rejected; return how many studies were added."""
    earlier = frozenset(writer.committed)
    studies = sum(isinstance(record, Study) for record in records)
    with (
        open(writer.path / REJECTED, "w", newline="", buffering=1, **ENCODING) as file,
        tqdm(total=studies, unit=" studies", file=sys.stderr, disable=not progress) as bar,
        closing(decoder.decode(records, earlier)) as results,
    ):
        rejected = csv.writer(file, lineterminator="\n")
        rejected.writerow(("study", "source", "reason"))
        for record, decoded in results:
            if isinstance(record, Rejection):
                rejected.writerow((record.study_id, record.source, record.reason))
                continue
            bar.update()
            if decoded is None:
                broken = writer.committed[record.id].broken
            else:
                views, broken = decoded
                if views:
                    writer.append(record, views, broken)
                elif not broken:
                    rejected.writerow((record.id, "", NO_VIEW))
            for name, reason in broken:
                rejected.writerow((record.id, name, reason))
    vanished = earlier - {record.id for record in records if isinstance(record, Study)}
    if vanished:
        raise RadScribeError(
            f"the source no longer has study '{min(vanished)}', which {writer.path} holds",
            "Use another --out",
        )
    return len(writer.committed) - len(earlier)


def _finish(writer: StoreWriter, manifest: dict[str, Any]) -> None:
    """Assign the splits and mark the store as complete."""
    out, committed = writer.path, writer.committed
    with open(out / REJECTED, newline="", **ENCODING) as file:
        rejections = [Rejection(*row) for row in list(csv.reader(file))[1:]]
    if not committed:
        reasons = Counter(rejection.kind for rejection in rejections).most_common()
        found = ", ".join(f"{reason} {count:,}" for reason, count in reasons) or "it is empty"
        raise RadScribeError(
            f"no study of {manifest['source']} can be used: {found}",
            f"See {out / REJECTED}" if reasons else "",
        )
    writer.sync()
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


#: Readable views, and file and reason of each broken one.
_Decoded = tuple[list[DecodedView], list[list[str]]]


@dataclass(frozen=True, slots=True)
class _Decoder:
    """Decodes studies in the order in which they come.

    Attributes:
        root: file names are kept relative to it.
        processes: 0 to decode in this one.
    """

    short_side: int
    root: Path
    processes: int

    def decode(
        self, records: Iterable[Study | Rejection], skip: Set[str]
    ) -> Generator[tuple[Study | Rejection, _Decoded | None]]:
        """Every record, with None for rejections and for studies whose id is to be skipped."""
        # What each record asks for: its views, or None.
        tasks = (
            (record, record.views if isinstance(record, Study) and record.id not in skip else None)
            for record in records
        )
        if not self.processes:
            for record, views in tasks:
                yield record, None if views is None else self.decode_views(views)
            return
        pool = ProcessPoolExecutor(self.processes, initializer=_start_process)
        waiting: deque[tuple[Study | Rejection, Future[_Decoded] | None]] = deque()
        try:
            for record, views in tasks:
                waiting.append((record, None if views is None else pool.submit(self.decode_views, views)))
                if len(waiting) > _IN_FLIGHT * self.processes:
                    record, future = waiting.popleft()
                    yield record, future.result() if future else None
            for record, future in waiting:
                yield record, future.result() if future else None
        except BrokenProcessPool as error:
            raise RadScribeError(
                "a decoding process died, perhaps for want of memory",
                "Run the same command again with fewer workers: it resumes",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    def decode_views(self, views: Sequence[View]) -> _Decoded:
        """Read and pack the views of one study."""
        decoded, broken = [], []
        for view in views:
            try:
                original = original_view(view)
                resized = resize_view(original, self.short_side, view.name)
            except ImageError as error:
                broken.append([view.name, error.reason])
                continue
            height, width = original.pixels.shape
            decoded.append(DecodedView.of(resized, view.projection, self._file(view), (height, width)))
        return decoded, broken

    def _file(self, view: View) -> str:
        if isinstance(view.source, Path):
            absolute = view.source.absolute()
            if absolute.is_relative_to(self.root):
                return absolute.relative_to(self.root).as_posix()
        return view.name


def _start_process() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it: a killed parent cannot end its processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _write_errors_explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise RadScribeError(
                f"no space left for {out} ({error.strerror})",
                "Free some and run the same command again: it resumes",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RadScribeError(f"cannot write to {out}: {error.strerror}", "Use another --out") from error
        raise
