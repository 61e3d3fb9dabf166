"""Reading text and tables as people really save them: BOMs, Latin-1, semicolons, quoted newlines."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

from radscribe.errors import RadScribeError

#: Key under which `read_rows` leaves the fields of a row that has more fields than the header.
SURPLUS_FIELDS = None


def read_text(path: Path) -> str:
    """The text of a file: UTF-8 (with or without BOM), UTF-16 with BOM, else Latin-1.

    Raises:
        RadScribeError: the file is missing or may not be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RadScribeError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a NUL character in the path
        raise RadScribeError(f"cannot read {str(path)!r}: {error}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str | None, str]]]]:
    """The column names and the rows (with the line on which each ends) of a CSV or TSV file with a header.

    A `.tsv` file is split at tabs; others at commas, or at the semicolons or tabs that spreadsheets
    write where the header has no comma. Missing trailing fields are blank.

    Raises:
        RadScribeError: the file cannot be read, is empty, or is no table (an unclosed quote).
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
        reader.fieldnames = columns
        return columns, [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise RadScribeError(
            f"{path}, line {reader.line_num}: {error}", "Is a quotation mark left open there?"
        ) from error


def require_columns(path: Path, columns: list[str], needed: tuple[str, ...]) -> None:
    """Raise RadScribeError naming the first of the needed columns that a file does not have."""
    for name in needed:
        if name not in columns:
            raise RadScribeError(f"{path} has no column '{name}'", f"Its columns: {', '.join(columns)}")
