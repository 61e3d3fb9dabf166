"""Decoding the views of studies in several processes; the order of the studies is kept."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence, Set
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.studies.burned_in_text import with_text_read
from radscribe.studies.image_error import ImageError
from radscribe.studies.images import original_view, resize_view
from radscribe.studies.rejection import Rejection
from radscribe.studies.staleness import FileState, file_of, file_states
from radscribe.studies.store_writer import DecodedView
from radscribe.studies.study import Study, View

#: Number of studies per process that wait to be written: enough that no process idles behind one slow image.
_IN_FLIGHT = 4
#: Readable views, file and reason of each broken view, and the states of the files before they were read.
_Decoded = tuple[list[DecodedView], list[list[str]], list[FileState]]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes studies in the order in which they come.

    Attributes:
        short_side: Short side in pixels of the decoded views.
        root: Folder that file names are kept relative to.
        processes: Number of processes that decode; 0 decodes in the calling process.
        reduced_jpeg: Whether a large JPEG is decoded at a reduced scale; see `read_file`.
        functions_here: Whether views that are functions are called in the calling process. Functions given in
            Python need not be picklable, so other processes may not be able to call them.
        read_text: Read text in the pixels of each view; see `burned_in_text`.
    """

    short_side: int
    root: Path
    processes: int
    reduced_jpeg: bool = False
    functions_here: bool = False
    read_text: bool = False

    def decode(
        self, records: Iterable[Study | Rejection], skip: Set[str]
    ) -> Generator[tuple[Study | Rejection, _Decoded | None]]:
        """Every record with its decoded views; None for rejections and for studies whose id is in `skip`."""
        # Each record with the views to decode, or with None.
        tasks = (
            (record, record.views if isinstance(record, Study) and record.id not in skip else None)
            for record in records
        )
        if not self.processes:
            for record, views in tasks:
                yield record, None if views is None else self.decode_views(views)
            return
        pool = ProcessPoolExecutor(self.processes, initializer=_start_process)

        def submitted(views: Sequence[View]) -> Future[_Decoded]:
            if self.functions_here and any(callable(view.source) for view in views):
                done: Future[_Decoded] = Future()
                done.set_result(self.decode_views(views))
                return done
            return pool.submit(self.decode_views, views)

        waiting: deque[tuple[Study | Rejection, Future[_Decoded] | None]] = deque()
        try:
            for record, views in tasks:
                waiting.append((record, None if views is None else submitted(views)))
                if len(waiting) > _IN_FLIGHT * self.processes:
                    record, future = waiting.popleft()
                    yield record, future.result() if future else None
            for record, future in waiting:
                yield record, future.result() if future else None
        except BrokenProcessPool as error:
            raise RadScribeError(
                "a decoding process died, perhaps because memory ran out",
                "Run the same command again with fewer workers: it resumes",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    def decode_views(self, views: Sequence[View]) -> _Decoded:
        """Read and pack the views of one study."""
        decoded, broken = [], []
        files = file_states(views)
        for view in views:
            try:
                original = original_view(view, self.short_side if self.reduced_jpeg else None)
                if self.read_text:
                    original = with_text_read(original)
                resized = resize_view(original, self.short_side, view.name)
            except ImageError as error:
                broken.append([view.name, error.reason])
                continue
            except Exception as error:  # a function given in Python may raise anything
                if not self.functions_here:
                    raise
                broken.append([view.name, f"not readable: {type(error).__name__}: {error}"])
                continue
            height, width = original.original_size or original.pixels.shape
            decoded.append(DecodedView.of(resized, view.projection, self._file(view), (height, width)))
        return decoded, broken, files

    def _file(self, view: View) -> str:
        path = file_of(view)
        # What reads a file may have given it another name, such as a pseudonym.
        if path and str(path) == view.name and path.absolute().is_relative_to(self.root):
            return path.absolute().relative_to(self.root).as_posix()
        return view.name


def _start_process() -> None:
    """Leave Ctrl-C to the parent, and end when the parent ends: a killed parent cannot end its processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
