"""Reading text and tables as people really save them: BOMs, Latin-1, semicolons, quoted newlines."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError

#: Key under which `read_rows` leaves the fields of a row that has more fields than the header.
SURPLUS_FIELDS = None
#: No table of reports is larger: the reports of MIMIC-CXR take some 300 MB.
MAX_BYTES = 2**31

A_FOLDER = "a folder, not a file"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x1f\x8b": "compressed by gzip",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word document",
}


def file_problem(path: Path) -> str:
    """Why a path is no file that can be read, in a few words; empty where it is one.

    The path is not opened: opening a named pipe waits for ever, and a device need not end.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        return "a link to a file that is not there" if path.is_symlink() else "missing"
    except OSError as error:
        return f"not readable: {error.strerror}"
    except ValueError:
        return "not readable: its name holds a NUL character"
    return "" if kind == stat.S_IFREG else f"{_KINDS.get(kind, 'something special')}, not a file"


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        RadScribeError: the file is missing, no regular file, larger than `limit` bytes, or may not be read.
    """
    if problem := file_problem(path):
        raise RadScribeError(f"cannot read {_printable(path)}: {problem}")
    try:
        if (size := path.stat().st_size) > limit:
            raise RadScribeError(f"cannot read {path}: its {size:,} bytes are more than {limit:,}")
        return path.read_bytes()
    except OSError as error:
        raise RadScribeError(f"cannot read {path}: {error.strerror}") from error


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """The text of a file: UTF-8 (with or without BOM), UTF-16 with BOM, else Latin-1.

    Raises:
        RadScribeError: see `read_bytes`; or the content is no text.
    """
    data = read_bytes(path, limit)
    for start, name in _FORMATS.items():
        if data.startswith(start):
            raise RadScribeError(f"{path} is {name}, not text", "Save it as text in UTF-8, tables as CSV")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise RadScribeError(
            f"{path}, line {line} holds a NUL character, so it is damaged or no text",
            "Save it as text in UTF-8",
        )
    return text


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: the text is no JSON, is nested too deeply, gives one name twice in an object, or holds a
            number that is too long.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' stands there twice")
    return found


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str | None, str]]]]:
    """The column names and the rows (with the line on which each ends) of a CSV or TSV file with a header.

    A `.tsv` file is split at tabs; others at commas, or at the semicolons or tabs that spreadsheets
    write where the header has no comma. Missing trailing fields are blank.

    Raises:
        RadScribeError: the file cannot be read, is empty, has two columns of one name, or is no table (an
            unclosed quote).
    """
    text = read_text(path)
    header = text.split("\n", 1)[0]
    if not header.strip():
        raise RadScribeError(f"{path} has no header line", "Its first line must name the columns")
    delimiters = "\t" if path.suffix.lower() == ".tsv" else ",;\t"
    delimiter = next((d for d in delimiters if d in header), ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="", strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        require_different(path, columns)
        reader.fieldnames = columns
        return columns, [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise RadScribeError(
            f"{path}, line {reader.line_num}: {error}", "Is a quotation mark left open there?"
        ) from error


def require_different(path: Path, columns: list[str]) -> None:
    """Raise RadScribeError where two columns of a file have one name; blank names are left out."""
    twice = [name for number, name in enumerate(columns) if name and name in columns[:number]]
    if twice:
        raise RadScribeError(f"{path} has two columns '{twice[0]}'", "Rename or remove one of them")


def require_columns(path: Path, columns: list[str], needed: tuple[str, ...]) -> None:
    """Raise RadScribeError naming the first of the needed columns that a file does not have."""
    for name in needed:
        if name not in columns:
            raise RadScribeError(f"{path} has no column '{name}'", f"Its columns: {', '.join(columns)}")


def _printable(path: Path) -> str:
    return str(path).replace("\0", "\\0")
