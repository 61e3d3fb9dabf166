"""What all workers of a test run share: the first worker that needs it makes it, and the others wait."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

#: Names the folder that a test run shares, for its workers inherit the environment.
FOLDER = "RADSCRIBE_TESTS_SHARE"


def begin() -> None:
    """Make the folder of this test run."""
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="radscribe-tests-")


def end() -> None:
    """Remove the folder of this test run."""
    shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True)


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The file or folder `name` in the folder of this test run, which `make` writes if it is not there."""
    path = Path(os.environ[FOLDER]) / name
    with FileLock(f"{path}.lock"):
        done = Path(f"{path}.done")
        if not done.exists():
            make(path)
            done.touch()
    return path
