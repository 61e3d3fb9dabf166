"""What can stop a training: a second training in its directory, Ctrl-C, a full disk, or too little memory."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Self

from safetensors import SafetensorError

from radscribe.errors import InterruptionError, RadScribeError

LOCK = "training.lock"


@contextmanager
def only_training(out: Path) -> Iterator[None]:
    """Create a directory, and keep other trainings out of it while this training runs.

    The lock ends with the process, however the process ends. A directory that was created here is removed at
    the end if it is still empty.

    Raises:
        RadScribeError: the directory cannot be created, or another process trains in it.
    """
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / LOCK, "a")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise _no_directory(out, error) from error
    with lock:
        if not _locked(lock.fileno()):
            raise RadScribeError(
                f"another process is training in '{out}'", "Wait for its end, or choose another --out"
            )
        try:
            yield
        finally:
            (out / LOCK).unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # the directory is not empty
                    out.rmdir()


def _locked(descriptor: int) -> bool:
    """Lock an open file for this process; False where another process has locked it."""
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl
        return True
    try:
        # A lock of this process alone: data loading processes that outlive it for a moment do not hold it.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # File systems without locks give other errors.
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def _no_directory(out: Path, error: OSError) -> RadScribeError:
    files = [path for path in (out, *out.parents) if path.is_file()]
    if files:
        message = f"'{out}' cannot be a directory, for '{files[0]}' is a file"
    else:
        message = f"cannot write to '{out}': {error.strerror}"
    return RadScribeError(message, "Choose another --out")


@contextmanager
def disk_errors_explained(out: Path, hint: str) -> Iterator[None]:
    """Turn an error of the file system, such as a full disk, into an error of one line.

    Args:
        out: File or directory that is written.
        hint: What the error tells the user to do once the disk has room.

    Raises:
        RadScribeError: a file could not be written or read.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        place = getattr(error, "filename", None) or out
        reason = getattr(error, "strerror", None) or error
        raise RadScribeError(f"cannot read or write '{place}': {reason}", hint) from error


@contextmanager
def memory_errors_explained(option: str) -> Iterator[None]:
    """Turn an out-of-memory error into an error of one line.

    Args:
        option: Name of the option that sets how many studies, views or texts are in memory at the same time.

    Raises:
        RadScribeError: there was not enough memory.
    """
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError on the CPU
        wanting = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
        if not wanting:
            raise
        raise RadScribeError(
            f"there is not enough memory ({' '.join(str(error).split())[:150]})",
            f"Begin anew with a smaller {option}, or with a smaller network",
        ) from error


@contextmanager
def worker_errors_explained(hint: str) -> Iterator[None]:
    """Turn an error of a data loading process, whose message is a traceback, into the last line of that
    message.

    Args:
        hint: What the error tells the user to do if the process died.

    Raises:
        RadScribeError: the process could not read a view, or died.
    """
    try:
        yield
    except (RadScribeError, RuntimeError) as error:
        text = str(error).rstrip()
        if "Original Traceback" in text:
            raise RadScribeError(
                text.splitlines()[-1].partition(": ")[2] or "a view cannot be read"
            ) from error
        if "DataLoader worker" in text:
            raise RadScribeError(
                "a data loading process died, perhaps because memory ran out", hint
            ) from error
        raise


def check_new_directory(out: Path) -> None:
    """Check that a directory does not exist yet and can be created.

    Raises:
        RadScribeError: the directory exists, or a part of its path is a file.
    """
    if out.exists():
        raise RadScribeError(f"'{out}' exists already", "Choose another --out")
    if any(path.is_file() for path in out.parents):
        raise _no_directory(out, NotADirectoryError())


def check_empty(out: Path, hint: str = "Choose another --out", *, but: str = "") -> None:
    """Check that a directory holds nothing but the lock.

    Args:
        out: The directory.
        hint: What the error tells the user to do.
        but: Name of a file or directory that may be there too.

    Raises:
        RadScribeError: the directory holds something else.
    """
    others = sorted(path.name for path in out.iterdir() if path.name not in (LOCK, but))
    if others:
        raise RadScribeError(f"there is something in '{out}' already, such as '{others[0]}'", hint)


def empty(out: Path) -> None:
    """Remove what a training wrote to a directory that was empty before, so that it can be begun again."""
    for path in out.iterdir():
        if path.name != LOCK:
            path.unlink()


class StopRequest:
    """Handles Ctrl-C while a training runs; a context manager for the main thread.

    While `stepping` is false, Ctrl-C stops the training at once. While it is true, the first Ctrl-C only sets
    `asked`: the training reads it after each step, saves, and stops. A second Ctrl-C stops at once.

    Args:
        message: Function that returns the message and the hint of the error: what is saved, and how to go on.

    Attributes:
        stepping: Whether the training takes steps, and reads `asked` after each.
        asked: Whether the training shall save and stop.
    """

    def __init__(self, message: Callable[[], tuple[str, str]]):
        self.message = message
        self.stepping = False
        self.asked = False
        self._process = os.getpid()
        self._before: signal.Handlers | Callable[[int, FrameType | None], object] | int | None = None
        self._installed = False

    def __enter__(self) -> Self:
        with suppress(ValueError):  # only the main thread can handle signals
            self._before = signal.signal(signal.SIGINT, self._on_signal)
            self._installed = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # this is a data loading process, which ends with its parent
            return
        if self.stepping and not self.asked:
            self.asked = True
            print(
                "radscribe: stopping after this step, or after the validation that is under way; "
                "Ctrl-C again stops at once",
                file=sys.stderr,
                flush=True,
            )
            return
        self.stop()

    def stop(self) -> None:
        """End the training.

        Raises:
            InterruptionError: always; the message says what is saved and how to go on.
        """
        raise InterruptionError(*self.message())
