"""A table of your own in CSV, TSV or JSON Lines: an image, a report, and what else is known."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.files import SURPLUS_FIELDS, file_problem, parse_json, read_rows, read_text
from radscribe.studies.images import IMAGE_SUFFIXES
from radscribe.studies.readers.path_patterns import PathPattern
from radscribe.studies.readers.table_rows import (
    REPORTS,
    FoundImage,
    Row,
    own_names,
    studies_of,
    with_own_names,
)
from radscribe.studies.rejection import BAD_RECORD, Rejection
from radscribe.studies.study import Study

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")


def find_tables(folder: Path) -> list[Path]:
    """The table files that lie directly in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)


def read_table(
    source: Path,
    *,
    images: Path | str | None = None,
    columns: Mapping[str, str] | None = None,
    study_pattern: str | None = None,
    patient_pattern: str | None = None,
) -> Iterator[Study | Rejection]:
    """Read a table with one row per view, or with one row per study and a list `images`.

    These columns are read, in any order and any case:

    - `image`: a path relative to `images`. It is required, unless a column `images` has the paths of a study:
      a list in JSON Lines, and a list in JSON in the cell of another table. `view` may be such a list too. A
      name without suffix is searched for with the suffixes of images.
    - `report`, which is read as findings if the table has no column `findings`; or `findings`, `impression`,
      `indication`, `comparison`. A table without reports can be used for drafting, or for learning from
      observations.
    - `study`: rows of one study become its views, and must agree in everything else. Without this column each
      row is a study. Its id is the stem of its image, or a longer part of the image's path if other images
      have the same stem.
    - `patient` (the study's id if blank), `split`, and `view` (`PA`, `AP Supine`, `lateral`...).
    - the 14 observations by name: 1, 0, -1 or blank as in CheXpert, or `present`, `absent`, ...

    Args:
        source: The table, or a folder that holds exactly one table.
        images: Folder that image paths are relative to; by default the folder of the table.
        columns: The table's column names by RadScribe's column names, such as `{"report": "notes"}`.
        study_pattern: Regular expression whose one group finds the study in the image's name as the table has
            it; for tables without a column `study`.
        patient_pattern: Regular expression whose one group finds the patient in the image's name as the table
            has it; for tables without a column `patient`.

    Raises:
        RadScribeError: there is no table or more than one, it has no row, a column is missing, unknown or
            given twice, or a pattern is not valid or matches no image.
    """
    path = _table_file(source)
    names, rows = rows_of_table(path)
    found = own_names(path, names, columns or {})
    root = Path(images) if images else path.parent
    if not root.is_dir():
        raise RadScribeError(f"no folder {root}", "Name the folder of the images with --images")
    expressions = {"study": study_pattern, "patient": patient_pattern}
    patterns = _patterns(path, found, expressions)
    has_text = not found.keys().isdisjoint(REPORTS)
    yield from studies_of(path, with_own_names(rows, found), has_text, partial(image_file, root), patterns)


def _patterns(
    path: Path, columns: Mapping[str, str], expressions: Mapping[str, str | None]
) -> dict[str, PathPattern]:
    """The patterns that replace columns which the table does not have."""
    patterns = {}
    for own, expression in expressions.items():
        if expression is not None:
            if own in columns:
                raise RadScribeError(
                    f"{path} has a column '{columns[own]}', so --{own}_pattern is not needed",
                    f"Leave out --{own}_pattern, or rename the column",
                )
            patterns[own] = PathPattern(expression, own)
    return patterns


def _table_file(source: Path) -> Path:
    if source.is_file():
        return source
    tables = find_tables(source)
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables) or "none"
        example = f", such as {tables[0]}" if tables else ""
        raise RadScribeError(
            f"{source} should hold one table ({', '.join(TABLE_SUFFIXES)}), found: {found}",
            f"Name the table itself as the source{example}; or use --reader folder for the images alone",
        )
    return tables[0]


def rows_of_table(path: Path) -> tuple[list[str], list[Row | Rejection]]:
    """The names of a table's columns, and its rows by these names.

    Raises:
        RadScribeError: the file cannot be read, is no table, or has no row.
    """
    names, rows = _json_rows(path) if path.suffix.lower() == ".jsonl" else _delimited_rows(path)
    if not rows:
        raise RadScribeError(f"{path} has a header and no row" if names else f"{path} has no line of JSON")
    return names, rows


def _delimited_rows(path: Path) -> tuple[list[str], list[Row | Rejection]]:
    names, raw = read_rows(path)
    rows: list[Row | Rejection] = []
    for line, values in raw:
        if SURPLUS_FIELDS in values:
            reason = f"{BAD_RECORD}: more fields than the header has columns"
            rows.append(Rejection(f"line {line}", str(path), reason))
        else:
            rows.append(Row(f"line {line}", {str(name): value for name, value in values.items()}))
    return names, rows


def _json_rows(path: Path) -> tuple[list[str], list[Row | Rejection]]:
    names: dict[str, None] = {}
    rows: list[Row | Rejection] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = parse_json(line)
        except ValueError as error:
            rows.append(Rejection(f"line {number}", str(path), f"{BAD_RECORD}: {error}"))
            continue
        if not isinstance(values, dict):
            rows.append(Rejection(f"line {number}", str(path), f"{BAD_RECORD}: not a JSON object"))
            continue
        names.update(dict.fromkeys(values))
        rows.append(Row(f"line {number}", values))
    if rows and isinstance(rows[0], Rejection) and not names:
        raise RadScribeError(f"{path} is no JSON Lines: {rows[0].reason}", "Each line must be a JSON object")
    return list(names), rows


def image_file(root: Path, name: str) -> FoundImage:
    """The file that a table means by the name of an image.

    Args:
        root: Folder that names are relative to.
        name: Name as the table has it, with a suffix or without.
    """
    path = root / name
    problem = file_problem(path)
    if problem and os.sep == "/" and "\\" in name:  # tables made on Windows have backslashes
        path = root / name.replace("\\", "/")
        problem = file_problem(path)
    if problem and problem != "missing":
        return FoundImage(path, problem)
    if not problem or path.suffix.lower() in IMAGE_SUFFIXES:
        return FoundImage(path)
    for suffix in (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES)):
        file = path.with_name(path.name + suffix)
        if not file_problem(file):
            return FoundImage(file)
    return FoundImage(path, f"missing: also with {', '.join(IMAGE_SUFFIXES)} behind its name")
