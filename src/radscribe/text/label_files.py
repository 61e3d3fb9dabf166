"""Label files of CheXpert and CheXbert, read by column name: the order of labels differs between codes."""

from __future__ import annotations

import csv
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS, ObservationState, parse_state

#: Columns that name a study, the first that a file has counts.
ID_COLUMNS = ("id", "study_id", "study", "dicom_id", "Path")


def read_label_file(
    path: Path | str, *, id_column: str | None = None
) -> dict[str, dict[str, ObservationState]]:
    """Read a CSV with one row per study: 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned).

    Args:
        path: as CheXpert, MIMIC-CXR-JPG or the CheXbert labeller write it.
        id_column: names the studies; unless given the first of `ID_COLUMNS` that is there, and in a file with
            none, as CheXbert writes it, the row's number from 0.

    Returns:
        States of the observations that the file has columns for, by study.

    Raises:
        RadScribeError: no such file, no table, a column missing or twice, a row of another length than the
            header, an unknown value, no id, or a study twice.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = next(reader, [])
            rows = [(reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise RadScribeError(f"cannot read label file {path}: {error.strerror}") from error
    except (csv.Error, ValueError) as error:  # ValueError: not UTF-8, or a NUL character in the path
        raise RadScribeError(f"label file {str(path)!r} is no CSV table: {error}") from error
    observations = [name for name in OBSERVATIONS if name in columns]
    existing = f"Its columns: {', '.join(columns) or 'none'}"
    if not observations:
        raise RadScribeError(f"label file {path} has no column named as a CheXpert observation", existing)
    if id_column is not None and id_column not in columns:
        raise RadScribeError(f"label file {path} has no column '{id_column}'", existing)
    id_column = id_column or next((name for name in ID_COLUMNS if name in columns), None)
    for name in (*observations, *([id_column] if id_column else [])):
        if columns.count(name) > 1:
            raise RadScribeError(f"label file {path} has the column '{name}' twice", "Delete one of them")
    labels: dict[str, dict[str, ObservationState]] = {}
    for number, (line, cells) in enumerate(rows):
        if len(cells) != len(columns):
            raise RadScribeError(
                f"label file {path}, line {line}: it has {len(cells)} fields, and the header has "
                f"{len(columns)}",
                "Write a blank where an observation is not mentioned",
            )
        row = dict(zip(columns, cells, strict=True))
        study = row[id_column] if id_column else str(number)
        if not study.strip():
            raise RadScribeError(f"label file {path}, line {line}: the column '{id_column}' is blank")
        if study in labels:
            raise RadScribeError(f"label file {path}, line {line}: study '{study}' stands there twice")
        labels[study] = {}
        for name in observations:
            try:
                labels[study][name] = parse_state(row[name])
            except ValueError as error:
                raise RadScribeError(f"label file {path}, line {line}: '{name}' {error}") from None
    return labels
