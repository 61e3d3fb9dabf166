"""Data sets of the Hugging Face hub: Parquet or Arrow files, or folders of images with metadata.

    data/train-00000-of-00002.parquet       as the hub has them; also <config>/<split>/0000.parquet
    train/data-00000-of-00001.arrow         as `save_to_disk` leaves them, with state.json
    train/metadata.jsonl, train/1.png       an image folder; its rows have `file_name` or `file_names`

Columns are those of a table of one's own. An image is bytes in a cell, or the path of a file. The split is
what a column `split` says, or else a word in the path of the file, such as `train` or `validation`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.files import file_problem, parse_json, read_text
from radscribe.studies.readers.arrow_files import ARROW, PARQUET, ArrowFile, EmbeddedImage, Place
from radscribe.studies.readers.folder import IMAGE, REPORT
from radscribe.studies.readers.image_tree import files_of_tree
from radscribe.studies.readers.table import image_file, rows_of_table
from radscribe.studies.readers.table_rows import (
    COLUMNS,
    REPORTS,
    FoundImage,
    Row,
    own_names,
    studies_of,
    with_own_names,
)
from radscribe.studies.rejection import NO_IMAGE, NO_REPORT, Rejection
from radscribe.studies.study import Study

_METADATA = ("metadata.jsonl", "metadata.csv")
#: Columns of an image folder by RadScribe's names, and those that an export adds.
_FILE_NAMES = {"image": "file_name", "images": "file_names"}
_NO_REPORTS = ("prior",)
_STATE = "state.json"
_SPLITS = {
    "train": ("train", "training"),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_HEAD = 65_536


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of a data set.

    Attributes:
        path: Path of the file.
        name: Path within the source, with slashes.
        arrow: The file, opened; None for metadata of an image folder.
        columns: Names of its columns.
        images: Columns whose cells are images.
        texts: Columns whose cells are or may be texts.
        rows: Rows of the metadata of an image folder.
    """

    path: Path
    name: str
    arrow: ArrowFile | None
    columns: list[str]
    images: list[str]
    texts: list[str]
    rows: list[Row | Rejection] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """Folder of the file within the source; empty for the source itself."""
        return "" if (parent := PurePosixPath(self.name).parent.as_posix()) == "." else parent


@dataclass(frozen=True, slots=True)
class _Images:
    """The images of a source.

    Attributes:
        root: Folder that paths are relative to.
        embedded: Images in cells, by their names.
        used: Paths of the files that rows name.
    """

    root: Path
    embedded: dict[str, EmbeddedImage] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def find(self, name: str) -> FoundImage:
        """The image of this name."""
        if name in self.embedded:
            return FoundImage(self.embedded[name])
        found = image_file(self.root, name)
        self.used.add(str(found.source))
        return found


def is_hugging_face(source: Path) -> bool:
    """Whether a source is a file of this form, or holds one, directly or in a folder that lies in it."""
    if source.is_file():
        return source.suffix.lower() in (PARQUET, ARROW)
    for parent, folders, names in os.walk(source):
        if any(_kind(Path(parent, name)) for name in names):
            return True
        if Path(parent) != source:
            folders.clear()
    return False


def read_hugging_face(
    source: Path, *, images: Path | str | None = None, columns: Mapping[str, str] | None = None
) -> Iterator[Study | Rejection]:
    """Read a data set of Hugging Face; its columns are those of `read_table`.

    A column of another name is taken for the image if it is the only one with images. Without a column
    `study`, the id of a study is the name of its file and the number of its row, from 0; in an image folder,
    it is that of its image.

    Args:
        source: Parquet or Arrow file, or a folder with such files or with metadata of an image folder.
        images: Folder that paths of images are relative to, if images are files that lie elsewhere.
        columns: The names of columns by RadScribe's names, such as `{"report": "text"}`.

    Raises:
        RadScribeError: there is no such file, or one of several forms; pyarrow is not installed; a file is
            damaged; a column is missing or unknown, or none is known to have reports.
    """
    root = Path(images) if images else source if source.is_dir() else source.parent
    if not root.is_dir():
        raise RadScribeError(f"no folder {root}", "Name the folder of the images with --images")
    parts = yield from _parts(source)
    named = [(part, own_names(part.path, part.columns, _renamed(part, columns or {}))) for part in parts]
    has_text = any(not names.keys().isdisjoint(REPORTS) for _, names in named)
    if not has_text:
        _require_no_text(source, parts)
    there = _Images(root)
    rows = (row for part, names in named for row in _rows(part, names, there))
    yield from studies_of(source, rows, has_text, there.find, {})
    yield from _unnamed([part for part in parts if part.arrow is None], there)


def _kind(path: Path) -> str:
    """The form of a file: its suffix, `metadata` of an image folder, or empty."""
    suffix = path.suffix.lower()
    if suffix in (PARQUET, ARROW):
        return suffix
    if path.name not in _METADATA or file_problem(path):
        return ""
    with path.open("rb") as file:
        line = file.read(_HEAD).partition(b"\n")[0].decode("utf-8-sig", "replace")
    words = re.findall(r"\w+", line)
    return "metadata" if not set(words).isdisjoint(_FILE_NAMES.values()) else ""


def _parts(source: Path) -> Generator[Rejection, None, list[_Part]]:
    """The files of a source, opened; those that `datasets` made for itself are rejected."""
    found: dict[str, list[Path]] = {}
    for path in _files_below(source):
        if kind := _kind(path):
            found.setdefault(kind, []).append(path)
    if len(found) != 1:
        forms = f"{PARQUET}, {ARROW}, or {_METADATA[0]} with a column file_name"
        kinds = f"several forms: {', '.join(sorted(found))}" if found else f"no file of Hugging Face: {forms}"
        raise RadScribeError(f"{source} holds {kinds}", "Name a file, or a folder with files of one form")
    parts = []
    for path in next(iter(found.values())):
        if reason := _own_file(path):
            yield Rejection(path.name, str(path), reason)
        else:
            parts.append(_opened(path, source))
    return parts


def _files_below(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    for parent, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names))


def _own_file(path: Path) -> str:
    """Why an Arrow file is no part of the data set; empty if it is one."""
    if path.suffix.lower() != ARROW:
        return ""
    if path.name.startswith("cache-"):
        return f"{NO_IMAGE}: a cache that datasets made for itself"
    try:
        state = parse_json(read_text(path.with_name(_STATE)))
        files = [file["filename"] for file in state["_data_files"]]
    except (RadScribeError, ValueError, KeyError, TypeError):
        return ""
    return "" if path.name in files else f"{NO_IMAGE}: {_STATE} does not name this file"


def _opened(path: Path, source: Path) -> _Part:
    name = path.relative_to(source).as_posix() if source.is_dir() else path.name
    if path.name in _METADATA:
        columns, rows = rows_of_table(path)
        return _Part(path, name, None, columns, [], columns, rows)
    arrow = ArrowFile(path)
    return _Part(path, name, arrow, arrow.columns, arrow.image_columns, arrow.text_columns)


def _renamed(part: _Part, columns: Mapping[str, str]) -> dict[str, str]:
    """The user's names of columns, and the column of images where its name is not `image` or `images`."""
    renamed = dict(columns)
    lower = {name.lower() for name in part.columns}
    if {"image", "images"} & (renamed.keys() | lower):
        return renamed
    own = {name: theirs for name, theirs in _FILE_NAMES.items() if theirs in part.columns}
    return renamed | (own or ({"image": part.images[0]} if len(part.images) == 1 else {}))


def _require_no_text(source: Path, parts: Iterable[_Part]) -> None:
    """Raise RadScribeError if a column may have reports under another name."""
    known = {name.lower() for name in (*COLUMNS, *_FILE_NAMES.values(), *_NO_REPORTS)}
    texts = dict.fromkeys(name for part in parts for name in part.texts if name.lower() not in known)
    if texts:
        columns = ", ".join(dict.fromkeys(name for part in parts for name in part.columns))
        example = json.dumps({"report": next(iter(texts))})
        raise RadScribeError(
            f"{source} has no column 'findings', 'impression' or 'report'",
            f"Its columns: {columns}. Say which has the reports, as in --columns '{example}'",
        )


def _rows(part: _Part, names: Mapping[str, str], images: _Images) -> Iterator[Row | Rejection]:
    """The rows of a file by RadScribe's names, each with its split."""
    split = _split_of(part.name)
    if part.arrow is None:
        rows = with_own_names(part.rows, names)
    else:
        rows = _arrow_rows(part, part.arrow, names, images)
    for row in rows:
        if isinstance(row, Row):
            values = dict(row.values)
            if part.arrow is None and not row.problem():
                for name in _FILE_NAMES:
                    values[name] = [str(PurePosixPath(part.folder, file)) for file in row.texts(name) if file]
            values["split"] = row.text("split") or split
            row = Row(f"{part.name}, {row.place}", values)
        yield row


def _arrow_rows(part: _Part, arrow: ArrowFile, names: Mapping[str, str], images: _Images) -> Iterator[Row]:
    embedded = [own for own in _FILE_NAMES if names.get(own) in part.images]
    for number, (place, cells) in enumerate(arrow.rows(list(dict.fromkeys(names.values())))):
        values = {own: cells[name] for own, name in names.items()}
        for own in embedded:
            values[own] = [
                _embedded(part, names[own], number, place, item, images)
                for item, cell in _items(values[own])
                if cell is not None
            ]
        if "study" not in names:
            values["study"] = f"{PurePosixPath(part.name).with_suffix('')}/{number}"
        yield Row(f"row {number}", values)


def _items(cell: Any) -> list[tuple[int | None, Any]]:
    """What a cell holds: the items of a list with their places, or itself."""
    return list(enumerate(cell)) if isinstance(cell, list) else [(None, cell)]


def _embedded(part: _Part, column: str, row: int, place: Place, item: int | None, images: _Images) -> str:
    """The name of an image in a cell, by which it is found."""
    name = f"{part.name}, row {row}, {column}" + ("" if item is None else f" {item}")
    images.embedded[name] = EmbeddedImage(part.path, name, place, column, item, images.root)
    return name


def _split_of(name: str) -> str:
    """The split that a word in the path of a file states, as `datasets` looks for it; empty if there is none.

    The name of the file counts first, then its folder, and so on.
    """
    for part in reversed(PurePosixPath(name).with_suffix("").parts):
        words = re.split(r"[^a-z]+", part.lower())
        for split, known in _SPLITS.items():
            if not set(words).isdisjoint(known):
                return split
    return ""


def _unnamed(parts: Iterable[_Part], images: _Images) -> Iterator[Rejection]:
    """The files of image folders that no row names."""
    listed = set()
    for part in parts:
        for file in files_of_tree(images.root / part.folder, dicom=True):
            name = file.stem + file.suffix
            if file.path in images.used or file.path in listed or name in _METADATA:
                continue
            listed.add(file.path)
            reason = file.kind
            if reason in (IMAGE, REPORT):
                reason = (
                    f"{NO_REPORT}: {part.name} does not name it" if reason == IMAGE else f"{NO_IMAGE}: a text"
                )
            yield Rejection(file.path[len(f"{images.root}/") :], file.path, reason)
