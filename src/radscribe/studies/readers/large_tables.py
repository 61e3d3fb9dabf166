"""Large CSV tables, plain or packed, read row by row: those of whole archives fill the memory."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import IO, cast

from radscribe.errors import RadScribeError
from radscribe.files import file_problem, require_columns, require_different
from radscribe.studies.rejection import BAD_RECORD, Rejection

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"


def table_path(folder: Path, name: str) -> Path | None:
    """The file of a table in a folder, as it comes (`NAME.csv.gz`) or unpacked (`NAME.csv`); None if neither
    is there.

    Args:
        folder: Folder to look in.
        name: Name of the unpacked file, such as `table.csv`.
    """
    found = (path for path in (folder / f"{name}.gz", folder / name) if path.exists())
    return next(found, None)


def rows_of(
    path: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]] | Rejection]:
    """Every row of a CSV table: the number of its last line, and the cells of the columns asked for.

    The cells stand in the order of `needed` and then `optional`, without white space around them; those of an
    optional column that is not there are blank. A row with another number of fields than the header becomes
    a Rejection.

    Args:
        path: The table; its content, not its name, tells whether it is packed by gzip or zip.
        needed: Names of columns that the table must have.
        optional: Names of columns that it may have.

    Raises:
        RadScribeError: the file cannot be read, is truncated or damaged, is no table, or lacks a column.
    """
    columns = columns_of(path)
    require_different(path, columns)
    require_columns(path, columns, tuple(needed))
    # A column that is not there is taken from the blank behind the row's last cell.
    places = [columns.index(name) if name in columns else len(columns) for name in (*needed, *optional)]
    pick = itemgetter(*places, len(columns))
    with _opened(path) as file:
        reader = csv.reader(file, strict=True)
        next(reader)
        try:
            for row in reader:
                if len(row) == len(columns):
                    row.append("")
                    yield reader.line_num, [cell.strip() for cell in pick(row)[:-1]]
                elif row:
                    reason = f"{BAD_RECORD}: {len(row)} fields, and the header has {len(columns)} columns"
                    yield Rejection(f"line {reader.line_num}", str(path), reason)
        except csv.Error as error:
            raise RadScribeError(
                f"{path}, line {reader.line_num}: {error}", "Is it cut off there? Fetch the file again"
            ) from error


def columns_of(path: Path) -> list[str]:
    """The names of a table's columns.

    Raises:
        RadScribeError: the file cannot be read, is damaged, or is empty.
    """
    with _opened(path) as file:
        columns = [name.strip() for name in next(csv.reader(file), [])]
    if not columns:
        raise RadScribeError(f"{path} has no header line", "Fetch the file again")
    return columns


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """The text of a file, unpacked if it is packed by gzip or zip; damage becomes an error of one line."""
    if problem := file_problem(path):
        raise RadScribeError(f"cannot read {path}: {problem}")
    try:
        with open(path, "rb") as file, ExitStack() as stack:
            start = file.peek(4)
            unpacked: IO[bytes] = file
            if start.startswith(_GZIP):
                unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=file))
            elif start.startswith(_ZIP):
                archive = stack.enter_context(zipfile.ZipFile(file))
                unpacked = stack.enter_context(archive.open(_table_in(archive, path)))
            yield io.TextIOWrapper(unpacked, encoding="utf-8-sig", errors="replace", newline="")
    except EOFError as error:
        raise RadScribeError(f"{path} is truncated: its gzip data end early", "Fetch it again") from error
    except (zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise RadScribeError(f"{path} is damaged: {error}", "Fetch it again") from error


def _table_in(archive: zipfile.ZipFile, path: Path) -> str:
    """The name of the one table in an archive; macOS adds hidden copies in a folder of its own."""
    names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise RadScribeError(f"{path} should hold one CSV table, found: {found}", "Unpack the right one")
    return names[0]
