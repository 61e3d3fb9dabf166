"""Files: reading text, tables and JSON, and writing files whole or not at all.

Files of users may have a byte order mark, Latin-1 encoding, semicolons or quoted newlines. `check_output`
protects files that RadScribe did not write from being replaced.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError

#: Encoding of text that holds ids. Ids made from file names that are not valid UTF-8 hold lone surrogates,
#: which must survive.
ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogatepass"}
#: Key under which `read_rows` leaves the fields of a row that has more fields than the header.
SURPLUS_FIELDS = None
#: Largest file that is read, in bytes. The reports of MIMIC-CXR take only some 300 MB.
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
_ELSEWHERE = "Choose another --out"


def file_problem(path: Path) -> str:
    """Why a path is not a regular file, in a few words; empty if it is one.

    The path is not opened: opening a named pipe waits for ever, and a device may never end.
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


def read_lines(file: str, hint: str) -> Iterator[str]:
    """The lines of a text file or of standard input, without line ends. Standard input is read as it arrives.

    Args:
        file: Path of the file; `-` stands for standard input.
        hint: What the error tells the user to do if there is no line.

    Raises:
        RadScribeError: see `read_text`; or standard input is closed, there is no line, or a line is no text.
    """
    if file == "-" and sys.stdin is None:
        raise RadScribeError("standard input is closed", "Give a file, or pipe texts into this command")
    name = "standard input" if file == "-" else f"'{file}'"
    lines = (
        (line.decode("utf-8", errors="replace") for line in sys.stdin.buffer)
        if file == "-"
        else io.StringIO(read_text(Path(file)))
    )
    number = 0
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise RadScribeError(f"{name} is no text file: line {number} holds a NUL byte")
        yield line.rstrip("\r\n")
    if not number:
        raise RadScribeError(f"{name} has no text", hint)


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
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' is given twice")
    return found


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str | None, str]]]]:
    """The column names and the rows of a CSV or TSV file with a header, each row with its last line number.

    A `.tsv` file is split at tabs. Any other file is split at commas; if its header has no comma, it is split
    at the semicolons or tabs that spreadsheets write. Missing trailing fields are blank.

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
    """Raise RadScribeError if two columns of a file have the same name; blank names do not count."""
    twice = [name for number, name in enumerate(columns) if name and name in columns[:number]]
    if twice:
        raise RadScribeError(f"{path} has two columns '{twice[0]}'", "Rename or remove one of them")


def require_columns(path: Path, columns: list[str], needed: tuple[str, ...]) -> None:
    """Raise RadScribeError if a file lacks a needed column; the error names the first missing one."""
    for name in needed:
        if name not in columns:
            raise RadScribeError(f"{path} has no column '{name}'", f"Its columns: {', '.join(columns)}")


def _printable(path: Path) -> str:
    return str(path).replace("\0", "\\0")


def read_json_object(path: Path, hint: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: The file to read.
        hint: What the error tells the user to do if the file is damaged.

    Raises:
        RadScribeError: the file cannot be read, or does not hold a JSON object.
    """
    return _json_object(_own_text(path, hint), f"'{path}'", hint)


def read_json_lines(path: Path, hint: str) -> list[dict[str, Any]]:
    """The objects in a JSON Lines file; blank lines are skipped.

    Args:
        path: The file to read.
        hint: What the error tells the user to do if the file is damaged.

    Raises:
        RadScribeError: the file cannot be read, or a line does not hold a JSON object; it names the line.
    """
    lines = enumerate(_own_text(path, hint).split("\n"), start=1)
    return [_json_object(line, f"'{path}', line {number},", hint) for number, line in lines if line.strip()]


def _own_text(path: Path, hint: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RadScribeError(f"cannot read '{path}': {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise RadScribeError(f"'{path}' is damaged: it is no text", hint) from error


def _json_object(text: str, where: str, hint: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RadScribeError(f"{where} is damaged: {reason}", hint) from error
    if not isinstance(value, dict):
        raise RadScribeError(f"{where} is damaged: it holds no JSON object", hint)
    return value


@contextmanager
def writing(path: Path, hint: str = _ELSEWHERE) -> Iterator[None]:
    """Turn an error of the operating system into one error that names the file which cannot be written.

    Args:
        path: The file that is written.
        hint: What the error tells the user to do.

    Raises:
        RadScribeError: the file could not be written.
    """
    try:
        yield
    except OSError as error:
        raise RadScribeError(f"cannot write '{path}': {error.strerror or error}", hint) from error


def check_place(path: Path, option: str = "--out") -> None:
    """Check that a file and its folders can be created; nothing is created yet.

    Args:
        path: The file that will be written.
        option: Option that names it.

    Raises:
        RadScribeError: the file cannot be created.
    """
    elsewhere = f"Choose another {option}"
    with writing(path, elsewhere):
        place = next(place for place in (path, *path.parents) if place.exists())
        if place != path and not place.is_dir():
            raise RadScribeError(f"cannot write '{path}': '{place}' is no folder", elsewhere)
        if not os.access(place, os.W_OK):
            raise RadScribeError(f"cannot write '{path}': '{place}' may not be written to", elsewhere)


def check_output(path: Path, mark: bytes, kind: str, option: str = "--out") -> None:
    """Check, before the work begins, that a file can be written and would replace only a file of RadScribe.

    Args:
        path: The file that will be written.
        mark: Bytes that RadScribe writes into every file of this kind; a file with the mark may be replaced.
        kind: Kind of the file in words, such as `a page`.
        option: Option that names it.

    Raises:
        RadScribeError: the path is a folder, is a file without the mark, or lies below something that is no
            folder.
    """
    check_place(path, option)
    if path.is_dir():
        raise RadScribeError(f"cannot write {kind} to '{path}': it is a folder", "Name a file in it")
    with writing(path, f"Choose another {option}"):
        foreign = path.exists() and not (path.is_file() and _is_marked(path.read_bytes(), mark))
    if foreign:
        raise RadScribeError(
            f"'{path}' is there already and is not {kind} that RadScribe wrote",
            f"Remove it, or choose another {option}",
        )


def _is_marked(content: bytes, mark: bytes) -> bool:
    """Whether RadScribe wrote a file. An empty file counts too, because nothing is lost with it."""
    return not content or mark in content


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; when it is written, it replaces `path`.

    Whatever happens, `path` has either its old or its new content.
    """
    partial = path.with_name(f"{path.name}.tmp")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file in one step: whatever happens, it has either its old or its new content.

    Args:
        path: The file to write.
        content: New content of the file; text is encoded as `ENCODING` says.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(content.encode(**ENCODING) if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: str | bytes, hint: str = _ELSEWHERE) -> None:
    """Write a file by `write_whole` after creating its folder; a failure becomes an error of one line.

    Args:
        path: The file to write; its folder is created.
        content: New content of the file.
        hint: What the error tells the user to do if the file cannot be written.

    Raises:
        RadScribeError: the file cannot be written.
    """
    with writing(path, hint):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)


def sha256_of(path: Path, hint: str = "") -> str:
    """The SHA-256 hash of a file's content, in hexadecimal digits.

    Args:
        path: The file to read.
        hint: What the error tells the user to do if the file cannot be read.

    Raises:
        RadScribeError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RadScribeError(f"cannot read '{path}': {error.strerror}", hint) from error
