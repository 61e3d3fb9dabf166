"""A table of reports without images, in CSV, TSV or JSON Lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.studies.readers.table import rows_of_table
from radscribe.studies.readers.table_rows import (
    REPORTS,
    FoundImage,
    Row,
    own_names,
    studies_of,
    with_own_names,
)
from radscribe.studies.rejection import Rejection
from radscribe.studies.study import Study


def read_report_table(path: Path, columns: Mapping[str, str] | None = None) -> Iterator[Study | Rejection]:
    """Read the reports of a table, with their patients and splits; images are neither needed nor read.

    The columns are those of `read_table`, but that a column `study` is enough, and takes the place of the
    images.

    Args:
        path: The table.
        columns: The table's column names by RadScribe's column names, such as `{"study": "uid"}`.

    Raises:
        RadScribeError: the table has no row, or a column is missing, unknown or given twice.
    """
    names, rows = rows_of_table(path)
    found = own_names(path, names, columns or {}, named_by=("study", "image", "images"))
    if found.keys().isdisjoint(REPORTS):
        raise RadScribeError(
            f"{path} has no column 'report', 'findings' or 'impression'",
            f"Its columns: {', '.join(names)}. Say which holds the reports: "
            """--columns '{"report": "ITS NAME"}'""",
        )
    named = (_named_by_study(row) for row in with_own_names(rows, found))
    yield from studies_of(path, named, True, lambda name: FoundImage(Path(name)), {})


def _named_by_study(row: Row | Rejection) -> Row | Rejection:
    """The row with its study in the place of its image, if it names one."""
    if isinstance(row, Rejection) or not row.text("study"):
        return row
    return Row(row.place, {**row.values, "image": row.text("study"), "images": None})
