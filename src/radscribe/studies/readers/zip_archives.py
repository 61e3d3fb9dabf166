"""Zip archives that stay packed: whole, or cut into parts `NAME.zip.001`, `NAME.zip.002` and so on.

Such parts are one archive that was cut into pieces of bytes, as for a download. What `zip -s` writes is
another form, `NAME.z01` and so on beside `NAME.zip`, which is not read.
"""

from __future__ import annotations

import io
import re
import zipfile
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from radscribe.errors import RadScribeError
from radscribe.studies.image_error import MAX_BYTES, unreadable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PART = re.compile(r"(.+)\.(\d{3})")
_NUMBER = "[0-9]" * 3


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive to read from.

    Args:
        path: The archive, or any of its parts.

    Raises:
        OSError, zipfile.BadZipFile: it cannot be read.
    """
    parts = parts_of(path)
    if len(parts) == 1:
        with zipfile.ZipFile(path) as archive:
            yield archive
    else:
        with io.BufferedReader(_Joined(parts)) as file, zipfile.ZipFile(file) as archive:
            yield archive


def joined_path(path: Path) -> Path:
    """The path that an archive would have if its parts were joined, by the path of one of them."""
    part = _PART.fullmatch(path.name)
    return path.with_name(part[1]) if part else path


def parts_of(path: Path) -> list[Path]:
    """The parts of an archive in order, by the path of one of them; the path itself if it is no part."""
    whole = joined_path(path)
    return [path] if whole == path else sorted(path.parent.glob(f"{escape(whole.name)}.{_NUMBER}"))


def members_of(path: Path) -> list[tuple[zipfile.ZipInfo, tuple[Path, ...]]]:
    """The files in an archive, each with the parts in which it lies; a whole archive is one part.

    Args:
        path: The archive, or any of its parts.

    Raises:
        RadScribeError: a part is not there, or the archive is of a form that is not read, or damaged.
    """
    parts, whole = parts_of(path), joined_path(path)
    advice = "Fetch it again"
    if whole != path:
        _require_all(parts, whole.name)
        advice = f"Fetch its parts again; {parts[-1].name} is the last one that is there"
    first = path.with_suffix(".z01")
    if first.exists():
        joined = path.with_name(f"joined-{path.name}")
        raise RadScribeError(
            f"{path} is only the end of an archive that begins in {first.name}",
            f"Join it with: zip -s 0 {path} --out {joined}; and name that: --images {joined}",
        )
    try:
        with opened_archive(path) as archive:
            members = sorted(archive.infolist(), key=lambda member: member.header_offset)
            ends = [*(member.header_offset for member in members[1:]), archive.start_dir]
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise RadScribeError(f"cannot read the archive {whole}: {error}", advice) from error
    # A file ends where the next one or the directory of the archive begins.
    sizes = list(accumulate(part.stat().st_size for part in parts))
    return [
        (
            member,
            tuple(parts[bisect_right(sizes, member.header_offset) : bisect_right(sizes, end - 1) + 1]),
        )
        for member, end in zip(members, ends, strict=True)
        if not member.is_dir()
    ]


def _require_all(parts: list[Path], name: str) -> None:
    for number, part in enumerate(parts, start=1):
        if part.name != f"{name}.{number:03}":
            raise RadScribeError(
                f"the part {name}.{number:03} is not in {part.parent}",
                f"Fetch it: {part.name} and the other parts are pieces of one archive",
            )


def content_of(path: Path, member: str, name: str) -> bytes:
    """The bytes of a file in an archive.

    Args:
        path: The archive, or any of its parts.
        member: Name in the archive.
        name: Name of the file in messages.

    Raises:
        ImageError: they cannot be read, or are too many.
    """
    try:
        with opened_archive(path) as archive, archive.open(member) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise unreadable(name, f"not readable: {error.strerror}") from error
    except Exception as error:  # damaged compressed bytes may raise anything
        raise unreadable(name, f"damaged: {error}") from error
    if len(content) > MAX_BYTES:
        raise unreadable(name, "too large", f"The limit is {MAX_BYTES:,} bytes")
    return content


class _Joined(io.RawIOBase):
    """Files as one file, whose bytes are those of the files in order; at most one of them is open."""

    def __init__(self, paths: list[Path]):
        self._paths = paths
        #: Where each file begins, and at the end the size of all.
        self._starts = [0, *accumulate(path.stat().st_size for path in paths)]
        self._place = 0
        self._number = 0
        self._file = paths[0].open("rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = (0, self._place, self._starts[-1])[whence] + offset
        if place < 0:
            raise OSError("a place before the beginning")
        self._place = place
        return place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read at most to the end of the file in which the place lies, as raw files may."""
        number = bisect_right(self._starts, self._place) - 1
        if number == len(self._paths):
            return 0
        if number != self._number:
            self._file.close()
            self._number, self._file = number, self._paths[number].open("rb")
        self._file.seek(self._place - self._starts[number])
        read = self._file.readinto(buffer)
        self._place += read
        return read

    def close(self) -> None:
        self._file.close()
        super().close()
