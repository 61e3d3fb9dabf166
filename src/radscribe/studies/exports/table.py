"""An export as a table, with one row for each study; `radscribe prepare` reads it again."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.studies.exports.images import ExportedStudy
from radscribe.studies.study import SECTIONS


def study_rows(studies: Sequence[ExportedStudy]) -> list[dict[str, Any]]:
    """A row for each study: ids, split, images and their projections, sections, observations by state.

    All rows have the same columns: the sections and observations that any study has. What a study lacks is
    blank.
    """
    sections = [name for name in SECTIONS if any(name in study.sections for study, _ in studies)]
    observed = [name for name in OBSERVATIONS if any(name in study.observations for study, _ in studies)]
    priors = any(study.prior for study, _ in studies)
    return [
        {
            "study": study.id,
            "patient": study.patient_id,
            "split": study.split,
            "images": images,
            "view": [view.projection for view in study.views],
            **{name: study.sections.get(name, "") for name in sections},
            **{name: study.observations.get(name, "") for name in observed},
            **({"prior": study.prior or ""} if priors else {}),
        }
        for study, images in studies
    ]


def write_csv(studies: Sequence[ExportedStudy], out: Path) -> list[Path]:
    """Write `studies.csv` and return its path. Images and projections of a study are lists in JSON.

    Raises:
        RadScribeError: an id has bytes that are no text.
    """
    rows = study_rows(studies)
    path = out / "studies.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        # The line end of RFC 4180: with it, a carriage return within a report is quoted too.
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        for row in rows:
            try:
                table.writerow(
                    {name: json.dumps(cell) if isinstance(cell, list) else cell for name, cell in row.items()}
                )
            except UnicodeEncodeError:
                raise RadScribeError(
                    f"the id of study {row['study']!r} has bytes that are no text, and CSV is text",
                    "Choose --format jsonl",
                ) from None
    return [path]


def write_json_lines(studies: Sequence[ExportedStudy], out: Path) -> list[Path]:
    """Write `studies.jsonl` and return its path."""
    path = out / "studies.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in study_rows(studies))
    return [path]
