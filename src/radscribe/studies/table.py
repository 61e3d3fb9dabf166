"""A table of one's own: CSV, TSV or JSON Lines with an image, a report and what else is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError, unknown_name
from radscribe.observations import OBSERVATIONS, ObservationState, parse_state
from radscribe.studies.projections import frontal_first, projection_of
from radscribe.studies.rejection import BAD_RECORD, EMPTY_REPORT, NO_VIEW, Rejection, has_report
from radscribe.studies.splits import split_of
from radscribe.studies.study import SECTIONS, Study, View
from radscribe.studies.text_files import SURPLUS_FIELDS, read_rows, read_text

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
_FIELDS = ("image", "images", "report", "study", "patient", "view", "split")


@dataclass(frozen=True, slots=True)
class _Row:
    """A row under RadScribe's own column names; `place` names it in messages."""

    place: str
    values: Mapping[str, Any]

    def text(self, name: str) -> str:
        value = self.values.get(name)
        return "" if value is None else str(value).strip()

    def texts(self, name: str) -> list[str]:
        """The items of a JSON list, or the one value of a cell."""
        value = self.values.get(name)
        items = value if isinstance(value, list) else [value]
        return ["" if item is None else str(item).strip() for item in items]

    def images(self) -> list[str]:
        """The image paths that the row names."""
        return [path for name in ("images", "image") for path in self.texts(name) if path]

    def view_words(self) -> list[str]:
        """The words for each image's projection; one cell holds for all of them."""
        images, words = self.images(), self.texts("view")
        return words * len(images) if len(words) == 1 else [*words, *[""] * len(images)][: len(images)]


def find_tables(folder: Path) -> list[Path]:
    """The table files that lie directly in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)


def read_table(
    source: Path, *, images: Path | str | None = None, columns: Mapping[str, str] | None = None
) -> Iterator[Study | Rejection]:
    """Read a table with one row per view, or (JSON Lines with a list `images`) per study.

    Columns, in any order and any case:

    - `image`: a path relative to `images`. Required (in JSON Lines, `images` may stand for it).
    - `report`, read as findings where the table has no column `findings`; or `findings`, `impression`,
      `indication`, `comparison`. Required: one that reports, or at least one observation.
    - `study`: rows of one study become its views, and must agree in all else. Without the column each
      row is a study, named by its image's stem.
    - `patient` (the study's id if blank), `split`, and `view` (`PA`, `AP Supine`, `lateral`...).
    - the 14 observations by name: 1, 0, -1 or blank as in CheXpert, or `present`, `absent`, ...

    Args:
        source: the table, or a folder that holds just one.
        images: the folder that image paths are relative to; the table's own by default.
        columns: RadScribe's column names to the table's, such as `{"report": "notes"}`.

    Raises:
        RadScribeError: there is no table, or a column is missing or unknown.
    """
    path = _table_file(source)
    names, rows = _json_rows(path) if path.suffix.lower() == ".jsonl" else _delimited_rows(path)
    own_names = _own_names(path, names, columns or {})
    has_text = bool({"report", "findings", "impression"} & own_names.keys())
    root = Path(images) if images else path.parent

    groups: dict[str, list[_Row]] = {}
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        row = _Row(row.place, {own: row.values.get(name) for own, name in own_names.items()})
        if row.text("study") and not row.values.get("images"):
            groups.setdefault(row.text("study"), []).append(row)
        else:
            # Not grouped: a key that no study id can have.
            groups[f"\n{row.place}"] = [row]
    for group in groups.values():
        yield _study(group, path, root, has_text)


def _table_file(source: Path) -> Path:
    if source.is_file():
        return source
    tables = find_tables(source)
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables) or "none"
        raise RadScribeError(
            f"{source} should hold one table ({', '.join(TABLE_SUFFIXES)}), found: {found}",
            "Name the table file itself",
        )
    return tables[0]


def _delimited_rows(path: Path) -> tuple[list[str], list[_Row | Rejection]]:
    names, raw = read_rows(path)
    rows: list[_Row | Rejection] = []
    for line, values in raw:
        if SURPLUS_FIELDS in values:
            reason = f"{BAD_RECORD}: more fields than the header has columns"
            rows.append(Rejection(f"line {line}", str(path), reason))
        else:
            rows.append(_Row(f"line {line}", {str(name): value for name, value in values.items()}))
    return names, rows


def _json_rows(path: Path) -> tuple[list[str], list[_Row | Rejection]]:
    names: dict[str, None] = {}
    rows: list[_Row | Rejection] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            rows.append(Rejection(f"line {number}", str(path), f"{BAD_RECORD}: {error}"))
            continue
        if not isinstance(values, dict):
            rows.append(Rejection(f"line {number}", str(path), f"{BAD_RECORD}: not a JSON object"))
            continue
        names.update(dict.fromkeys(values))
        rows.append(_Row(f"line {number}", values))
    return list(names), rows


def _own_names(path: Path, names: list[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """RadScribe's names of the columns that the table has, to the table's own names."""
    known = (*_FIELDS, *SECTIONS, *OBSERVATIONS)
    existing = f"Its columns: {', '.join(names)}"
    by_lower = {name.lower(): name for name in names}
    own_names = {name: by_lower[name.lower()] for name in known if name.lower() in by_lower}
    for own, name in renamed.items():
        if own not in known:
            raise unknown_name("column", own, known)
        if name not in names:
            raise RadScribeError(f"{path} has no column '{name}' to take as '{own}'", existing)
        own_names[own] = name
    if "findings" in own_names:
        own_names.pop("report", None)
    if not {"image", "images"} & own_names.keys():
        how = "Say which holds the image paths: columns={'image': 'ITS NAME'}"
        raise RadScribeError(f"{path} has no column 'image'", f"{existing}. {how}")
    if not {"report", "findings", "impression", *OBSERVATIONS} & own_names.keys():
        how = "Say which holds the report: columns={'report': 'ITS NAME'}"
        raise RadScribeError(
            f"{path} has no column 'report', 'findings' or 'impression', and no observation",
            f"{existing}. {how}",
        )
    return own_names


def _study(rows: list[_Row], path: Path, root: Path, has_text: bool) -> Study | Rejection:
    first = rows[0]
    named = [name for row in rows for name in row.images()]
    identifier = first.text("study") or (Path(named[0]).stem if named else first.place)

    def reject(reason: str) -> Rejection:
        return Rejection(identifier, str(path), reason)

    if not named:
        return reject(NO_VIEW)
    words = [word for row in rows for word in row.view_words()]
    views = frontal_first(
        View(root / name, projection_of(word)) for name, word in zip(named, words, strict=True)
    )
    merged: dict[str, str] = {}
    for name in ("patient", "split", "report", *SECTIONS, *OBSERVATIONS):
        values = {row.text(name) for row in rows} - {""}
        if len(values) > 1:
            return reject(f"{BAD_RECORD}: its rows differ in '{name}'")
        merged[name] = values.pop() if values else ""

    sections = {name: merged[name] for name in SECTIONS if merged[name]}
    if merged["report"]:
        sections["findings"] = merged["report"]
    if has_text and not has_report(sections):
        return reject(EMPTY_REPORT)
    try:
        return Study(
            id=identifier,
            patient_id=merged["patient"] or identifier,
            views=views,
            split=split_of(merged["split"]),
            sections=sections,
            observations={
                name: _observation_state(name, merged[name]) for name in OBSERVATIONS if name in first.values
            },
        )
    except ValueError as error:
        return reject(f"{BAD_RECORD}: {error}")


def _observation_state(name: str, value: str) -> ObservationState:
    try:
        return parse_state(value)
    except ValueError as error:
        raise ValueError(f"'{name}' {error}") from None
