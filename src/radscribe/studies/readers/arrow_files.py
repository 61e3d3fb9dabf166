"""Parquet and Arrow files as Hugging Face `datasets` writes them: rows without images, and images one by one.

A Parquet file is read in order, some rows at a time, and an Arrow file is mapped into memory, so that neither
has to fit into it. pyarrow is imported only when such a file is met.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from radscribe.errors import RadScribeError
from radscribe.studies.image_error import unreadable
from radscribe.studies.images import bytes_of, read_content
from radscribe.studies.study import RenderedView

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

PARQUET = ".parquet"
ARROW = ".arrow"
INSTALL = "pip install 'radscribe[parquet]'"
#: Number of rows that are held at a time, without images and with them.
_ROWS = 1024
_ROWS_WITH_IMAGES = 8
#: Number of bytes that are read from a Parquet file at a time; otherwise a whole row group is read.
_BUFFER = 2**20
#: Name of the bytes in the cells of an image column.
_BYTES = "bytes"


#: Row groups, each with batches of its rows.
_Groups: TypeAlias = "Iterator[tuple[int, Iterator[pyarrow.RecordBatch]]]"


class Place(NamedTuple):
    """Where a row stands: in which row group (0 in an Arrow file), and at which place in it, from 0."""

    group: int
    row: int


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """The source of a view: an image in a cell of a Parquet or Arrow file, decoded when this is called.

    Attributes:
        path: Path of the file.
        file: Name of the image in messages and in a store.
        place: Its row.
        column: Its column.
        number: Its place in the cell, if the cell is a list.
        root: Folder that a path in the cell is relative to, where the cell has no bytes.
        chest_only: Refuse DICOM that is no radiograph of the chest.
    """

    path: Path
    file: str
    place: Place
    column: str
    number: int | None
    root: Path
    chest_only: bool = True

    def __call__(self) -> RenderedView:
        """Decode the image; see `read_content`."""
        return read_content(self._content(), self.file, chest_only=self.chest_only)

    def reduced(self, short_side: int) -> RenderedView:
        """Decode the image, a large JPEG at a reduced scale; see `read_file`."""
        return read_content(self._content(), self.file, chest_only=self.chest_only, reduced_to=short_side)

    def _content(self) -> bytes:
        try:
            status = os.stat(self.path)
            state = status.st_size, status.st_mtime_ns
            cell = _column(self.path, state, self.place.group, self.column)(self.place.row)
            image = cell if self.number is None else cell[self.number]
            content, name = (image[_BYTES], image.get("path")) if isinstance(image, dict) else (image, None)
        except FileNotFoundError:
            raise unreadable(self.file, "missing") from None
        except Exception as error:  # damaged files may raise anything
            raise unreadable(self.file, f"damaged: {error}", "Fetch the file again") from error
        if content is None:
            if not name:
                raise unreadable(self.file, "no image: its cell has neither bytes nor a path")
            content = bytes_of(self.root / name, self.file)
        return content


class ArrowFile:
    """A Parquet or an Arrow file. It is open only while its rows are read, for a data set may have thousands.

    Args:
        path: Path of the file; its suffix tells which of the two it is.

    Attributes:
        columns: Names of the columns.
        image_columns: Columns whose cells hold images, or lists of them, as bytes.
        text_columns: Columns whose cells are texts.

    Raises:
        RadScribeError: pyarrow is not installed, or the file cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        with _explained(path):
            if path.suffix.lower() == PARQUET:
                with _opened_parquet(path) as file:
                    schema = file.schema_arrow
            else:
                schema = _opened_arrow(path).schema
            self.columns: list[str] = list(schema.names)
            self.image_columns = [field.name for field in schema if _holds_bytes(field.type)]
            self.text_columns = [field.name for field in schema if _is_text(field.type)]

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Every row with the cells of some columns; images are left out where their paths stand beside them.

        The cell of an image is then `{"path": ...}`, whose path may be None; without a path beside it, it is
        the bytes.

        Raises:
            RadScribeError: the file is damaged.
        """
        read = self._of_parquet if self.path.suffix.lower() == PARQUET else self._of_arrow
        with _explained(self.path):
            for group, batches in read(columns):
                rows = (row for batch in batches for row in batch.to_pylist())
                for number, row in enumerate(rows):
                    yield Place(group, number), row

    def _of_parquet(self, columns: Sequence[str]) -> _Groups:
        with _opened_parquet(self.path) as file:
            leaves = [file.metadata.schema.column(leaf).path for leaf in range(file.metadata.num_columns)]
            wanted: list[str] = []
            rows = _ROWS
            for name in columns:
                own = [leaf for leaf in leaves if leaf == name or leaf.startswith(f"{name}.")]
                if name in self.image_columns:
                    paths = [leaf for leaf in own if leaf.endswith(".path")]
                    rows = rows if paths else _ROWS_WITH_IMAGES
                    own = paths or own
                wanted += own
            for group in range(file.metadata.num_row_groups):
                yield group, file.iter_batches(rows, row_groups=[group], columns=wanted, use_threads=False)

    def _of_arrow(self, columns: Sequence[str]) -> _Groups:
        table = _opened_arrow(self.path).select(columns)
        rows = _ROWS
        for name in columns:
            slim = _without_bytes(table.schema.field(name).type)
            if slim is not None:
                table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(slim))
            elif name in self.image_columns:
                rows = _ROWS_WITH_IMAGES
        yield 0, iter(table.to_batches(max_chunksize=rows))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises, or its absence, into one error that names the file."""
    try:
        yield
    except ImportError as error:
        raise RadScribeError(f"{path} needs pyarrow", INSTALL) from error
    except Exception as error:
        if not (type(error).__module__.startswith("pyarrow") or isinstance(error, OSError)):
            raise
        reason = " ".join(str(error).split())
        raise RadScribeError(f"{path} cannot be read: {reason}", "Fetch it again") from error


def _opened_parquet(path: Path) -> parquet.ParquetFile:
    from pyarrow import parquet

    return parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)


def _opened_arrow(path: Path) -> pyarrow.Table:
    """An Arrow file as a table whose data stay on the disk until they are looked at."""
    import pyarrow

    try:
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
    except pyarrow.ArrowInvalid:  # the other of the two forms
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()


def _cell_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type of the items, for a list; else the type itself."""
    from pyarrow import types

    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return kind.value_type if lists else kind


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    item = _cell_type(kind)
    if types.is_struct(item):
        return item.get_field_index(_BYTES) >= 0
    return types.is_binary(item) or types.is_large_binary(item)


def _without_bytes(kind: pyarrow.DataType) -> pyarrow.DataType | None:
    """The type of a column of images without their bytes; None if it has nothing else, or no images."""
    import pyarrow

    item = _cell_type(kind)
    if not _holds_bytes(kind) or not pyarrow.types.is_struct(item) or item.get_field_index("path") < 0:
        return None
    slim = pyarrow.struct([item.field("path")])
    return slim if item is kind else pyarrow.list_(slim)


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


@lru_cache(maxsize=2)
def _column(path: Path, state: tuple[int, int], group: int, column: str) -> Callable[[int], Any]:
    """A function that gives the cell of a row. It is quick if rows are asked for in order.

    `state` tells a file from another that took its place.
    """
    if path.suffix.lower() == PARQUET:
        return _ParquetColumn(path, group, column).cell
    cells = _opened_arrow(path).column(column)
    return lambda row: cells[row].as_py()


class _ParquetColumn:
    """A column of one row group, of which a few rows are held at a time."""

    def __init__(self, path: Path, group: int, column: str):
        self._file = _opened_parquet(path)
        self._group = group
        self._column = column
        self._begin()

    def _begin(self) -> None:
        self._batches = self._file.iter_batches(
            _ROWS_WITH_IMAGES, row_groups=[self._group], columns=[self._column], use_threads=False
        )
        self._first = 0
        self._cells: list[Any] = []

    def cell(self, row: int) -> Any:
        """The cell of a row of the group."""
        if row < self._first:
            self._begin()
        while row >= self._first + len(self._cells):
            self._first += len(self._cells)
            self._cells = next(self._batches).column(0).to_pylist()
        return self._cells[row - self._first]
