"""Label files: CSV as CheXpert and CheXbert write it, and JSON as CAMANet's authors released it.

The order of labels differs between published codes. A CSV file names its columns. A JSON file does not; it is
read in the order of the released file, which is alphabetical.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS, ObservationState, parse_state

#: Columns that name a study; the first of them that a file has is used.
ID_COLUMNS = ("id", "study_id", "study", "dicom_id", "Path")

#: Observations that the values of one study in a JSON file stand for, in this order.
JSON_ORDER = tuple(sorted(OBSERVATIONS))

#: Some study ids in R2Gen's annotation of IU X-Ray end in the number of an image, which the JSON leaves out.
_WITH_IMAGE_NUMBER = re.compile(r"(CXR\d+_IM-\d+)-\d+")


def read_label_file(
    path: Path | str, *, id_column: str | None = None
) -> dict[str, dict[str, ObservationState]]:
    """Read the labels of studies: 1 (present), 0 (absent), -1 (uncertain), blank or null (not mentioned).

    Args:
        path: A CSV file with one row per study, as CheXpert, MIMIC-CXR-JPG or the CheXbert labeller write it;
            or a `.json` file with an object that maps each study's id to a list of 14 values in `JSON_ORDER`.
        id_column: Column that names the studies. Without it, the first of `ID_COLUMNS` that the file has; in
            a file with none of these, as CheXbert writes it, the number of the row from 0. A JSON file has no
            columns.

    Returns:
        The states of the observations that the file has columns for, by study.

    Raises:
        RadScribeError: there is no such file, it is neither a table nor JSON of that form, a column is
            missing or there twice, a row has another length than the header, a value is unknown, an id is
            blank, or a study is listed twice.
    """
    if Path(path).suffix.lower() == ".json":
        return _read_json(Path(path))
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
            raise RadScribeError(f"label file {path}, line {line}: study '{study}' is listed twice")
        labels[study] = {}
        for name in observations:
            try:
                labels[study][name] = parse_state(row[name])
            except ValueError as error:
                raise RadScribeError(f"label file {path}, line {line}: '{name}' {error}") from None
    return labels


def find_labels(
    labels: Mapping[str, Mapping[str, ObservationState]], study: str
) -> Mapping[str, ObservationState] | None:
    """The labels of a study, or None; the image number at the end of an IU X-Ray id may be left out."""
    if study not in labels and (match := _WITH_IMAGE_NUMBER.fullmatch(study)):
        return labels.get(match[1])
    return labels.get(study)


def _read_json(path: Path) -> dict[str, dict[str, ObservationState]]:
    form = f"It maps each study's id to {len(JSON_ORDER)} values, for {', '.join(JSON_ORDER)}"
    try:
        # Objects become tuples of pairs, so that a study that is listed twice is seen.
        studies = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=tuple)
    except OSError as error:
        raise RadScribeError(f"cannot read label file {path}: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RadScribeError(f"label file {path} is not valid JSON: {error}") from error
    if not isinstance(studies, tuple) or not studies:
        raise RadScribeError(f"label file {path} is no object of studies", form)
    labels: dict[str, dict[str, ObservationState]] = {}
    for study, values in studies:
        if study in labels:
            raise RadScribeError(f"label file {path}: study '{study}' is listed twice")
        if not isinstance(values, list) or len(values) != len(JSON_ORDER):
            found = f"{len(values)} values" if isinstance(values, list) else "no list of values"
            raise RadScribeError(f"label file {path}: study '{study}' has {found}", form)
        labels[study] = {
            name: _json_state(value, f"label file {path}: study '{study}': '{name}'")
            for name, value in zip(JSON_ORDER, values, strict=True)
        }
    return labels


def _json_state(value: Any, place: str) -> ObservationState:
    if value is None:
        return "not_mentioned"
    if type(value) in (int, float) and value in (1, 0, -1):  # true is no label, though it equals 1
        return parse_state(str(value))
    raise RadScribeError(f"{place} is {json.dumps(value)}, not 1, 0, -1 or null")
