"""Files that a command is told to write: a clear error where one cannot be, and no file of others is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from radscribe.errors import RadScribeError

_ELSEWHERE = "Choose another --out"


@contextmanager
def writing(path: Path, hint: str = _ELSEWHERE) -> Iterator[None]:
    """Turn what the system says where a file cannot be written into one error that names the file.

    Args:
        path: what is written.
        hint: what to do then.

    Raises:
        RadScribeError: it could not be written.
    """
    try:
        yield
    except OSError as error:
        raise RadScribeError(f"cannot write '{path}': {error.strerror or error}", hint) from error


def check_place(path: Path) -> None:
    """Check that a file can be made, and the folders that it is to stand in; nothing is made yet.

    Raises:
        RadScribeError: it cannot.
    """
    with writing(path):
        place = next(place for place in (path, *path.parents) if place.exists())
        if place != path and not place.is_dir():
            raise RadScribeError(f"cannot write '{path}': '{place}' is no folder", _ELSEWHERE)
        if not os.access(place, os.W_OK):
            raise RadScribeError(f"cannot write '{path}': '{place}' may not be written to", _ELSEWHERE)


def check_output(path: Path, mark: bytes, kind: str) -> None:
    """Check, before the work begins, that a file can be written and that no file of others is in its place.

    Args:
        path: where the file is to stand.
        mark: what stands in every file of this kind that RadScribe wrote; such a file may be replaced.
        kind: what the file is to be, in words, as in `a page`.

    Raises:
        RadScribeError: it is a folder, a file without the mark, or below what is no folder.
    """
    check_place(path)
    if path.is_dir():
        raise RadScribeError(f"cannot write {kind} to '{path}': it is a folder", "Name a file in it")
    with writing(path):
        foreign = path.exists() and not (path.is_file() and _is_marked(path.read_bytes(), mark))
    if foreign:
        raise RadScribeError(
            f"'{path}' is there already and is not {kind} that RadScribe wrote",
            "Remove it, or choose another --out",
        )


def _is_marked(content: bytes, mark: bytes) -> bool:
    """Whether a file is ours; nothing is lost with an empty one."""
    return not content or mark in content


def replace_file(path: Path, content: bytes, hint: str = _ELSEWHERE) -> None:
    """Write a file such that, whatever happens, either its old or its new content is there.

    Args:
        path: the file; its folder is made.
        content: its new content.
        hint: what to do where it cannot be written.

    Raises:
        RadScribeError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.tmp")
    try:
        with writing(path, hint):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    except RadScribeError:
        with suppress(OSError):
            partial.unlink()
        raise
