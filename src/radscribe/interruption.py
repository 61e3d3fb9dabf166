"""What can stop a training: another one in its directory, Ctrl-C, a full disk, and too little memory."""

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
    """Make a directory, and keep other trainings out of it as long as this one runs.

    The lock ends with the process, however the process ends. A directory that was made here and is still
    empty at the end is removed again.

    Raises:
        RadScribeError: the directory cannot be made, or another process trains in it.
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
                with suppress(OSError):  # it is not empty
                    out.rmdir()


def _locked(descriptor: int) -> bool:
    """Lock an open file for this process; False where another process has locked it."""
    try:
        import fcntl
    except ImportError:  # there is none on Windows
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
    """Turn an error of the file system, such as a full disk, into one line.

    Args:
        out: what is written.
        hint: what to do once there is room.

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
    """Turn a want of memory into one line.

    Args:
        option: sets how many studies, views or texts are in memory at the same time.

    Raises:
        RadScribeError: memory could not be had.
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
    """Turn what a data loading process raises, a traceback in a message, into its last line.

    Args:
        hint: what to do where such a process died.

    Raises:
        RadScribeError: a view could not be read there, or the process died.
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
            raise RadScribeError("a data loading process died, perhaps for want of memory", hint) from error
        raise


def check_new_directory(out: Path) -> None:
    """Check that a directory is not there yet and can be made.

    Raises:
        RadScribeError: it is there, or a part of its path is a file.
    """
    if out.exists():
        raise RadScribeError(f"'{out}' exists already", "Choose another --out")
    if any(path.is_file() for path in out.parents):
        raise _no_directory(out, NotADirectoryError())


def check_empty(out: Path, hint: str = "Choose another --out") -> None:
    """Check that nothing is in a directory but the lock.

    Raises:
        RadScribeError: there is something.
    """
    others = sorted(path.name for path in out.iterdir() if path.name != LOCK)
    if others:
        raise RadScribeError(f"there is something in '{out}' already, such as '{others[0]}'", hint)


def empty(out: Path) -> None:
    """Remove what a training wrote to a directory that was empty before, so that it can be begun again."""
    for path in out.iterdir():
        if path.name != LOCK:
            path.unlink()


class StopRequest:
    """Ctrl-C while a training runs; a context manager for the main thread.

    Outside of steps Ctrl-C stops at once. Within them the first Ctrl-C asks: the training looks at `asked`
    after each step, saves, and stops. The second one stops at once.

    Args:
        message: says what is saved and how to go on, when it is called.

    Attributes:
        stepping: the training takes steps, and looks at `asked`.
        asked: it shall save and stop.
    """

    def __init__(self, message: Callable[[], tuple[str, str]]):
        self.message = message
        self.stepping = False
        self.asked = False
        self._process = os.getpid()
        self._before: signal.Handlers | Callable[[int, FrameType | None], object] | int | None = None
        self._installed = False

    def __enter__(self) -> Self:
        with suppress(ValueError):  # another thread than the main one has no signals
            self._before = signal.signal(signal.SIGINT, self._on_signal)
            self._installed = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a data loading process: it ends with its parent
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
            InterruptionError: always; it says what is saved and how to go on.
        """
        raise InterruptionError(*self.message())
