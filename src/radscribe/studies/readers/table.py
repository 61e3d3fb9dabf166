"""A table of your own in CSV, TSV or JSON Lines: an image, a report, and what else is known."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from radscribe.errors import RadScribeError, unknown_name
from radscribe.files import (
    SURPLUS_FIELDS,
    file_problem,
    parse_json,
    read_rows,
    read_text,
    require_different,
)
from radscribe.observations import OBSERVATIONS, ObservationState, parse_state
from radscribe.studies.images import IMAGE_SUFFIXES, view_of
from radscribe.studies.projections import frontal_first, projection_of
from radscribe.studies.readers.path_patterns import PathPattern
from radscribe.studies.rejection import BAD_RECORD, EMPTY_REPORT, NO_VIEW, Rejection, has_report, stated
from radscribe.studies.splits import split_of
from radscribe.studies.study import SECTIONS, Study

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
_FIELDS = ("image", "images", "report", "study", "patient", "view", "split")
_REPORTS = ("report", "findings", "impression")


@dataclass(frozen=True, slots=True)
class _Row:
    """A row by column name; `place` says in messages where it is."""

    place: str
    values: Mapping[str, Any]

    def text(self, name: str) -> str:
        """The text of a cell, empty if it states nothing. In `indication` and `comparison`, `None` counts as
        text.
        """
        value = self.values.get(name)
        text = "" if value is None else str(value).strip()
        return text if name in ("indication", "comparison") else stated(text)

    def texts(self, name: str) -> list[str]:
        """The items of a list, in JSON Lines or as JSON in a cell, or the one value of a cell."""
        value = self.values.get(name)
        items = value if isinstance(value, list) else _listed(value)
        return ["" if item is None else stated(str(item)) for item in items]

    def images(self) -> list[str]:
        """The image paths that the row names."""
        return [path for name in ("images", "image") for path in self.texts(name) if path]

    def view_words(self) -> list[str]:
        """The words for each image's projection; one value in the cell applies to all images."""
        images, words = self.images(), self.texts("view")
        return words * len(images) if len(words) == 1 else [*words, *[""] * len(images)][: len(images)]

    def problem(self) -> str:
        """What is wrong with the types of the values, which only JSON Lines can have; else empty."""
        for name, value in self.values.items():
            items = value if isinstance(value, list) and name in ("image", "images", "view") else [value]
            for item in items:
                if item != item:  # NaN, as Python writes a missing value
                    continue
                if isinstance(item, (list, dict)):
                    return f"'{name}' is {'a list' if isinstance(item, list) else 'an object'}, not text"
                if isinstance(item, (bool, int, float)) and name in (*_REPORTS, *SECTIONS, "image", "images"):
                    return f"'{name}' is {json.dumps(item)}, not text"
        for name in self.images():
            if "\0" in name or not PurePosixPath(name).name:
                return f"{json.dumps(name)} is no name of an image"
        return ""


def _listed(value: Any) -> list[Any]:
    """The texts of a JSON list that stands in a cell; otherwise the value alone."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            items = parse_json(value)
        except ValueError:  # a name may begin with a bracket
            return [value]
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return items
    return [value]


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
    names, rows = _json_rows(path) if path.suffix.lower() == ".jsonl" else _delimited_rows(path)
    if not rows:
        raise RadScribeError(f"{path} has a header and no row" if names else f"{path} has no line of JSON")
    own_names = _own_names(path, names, columns or {})
    root = Path(images) if images else path.parent
    if not root.is_dir():
        raise RadScribeError(f"no folder {root}", "Name the folder of the images with --images")
    expressions = {"study": study_pattern, "patient": patient_pattern}
    groups = yield from _grouped(path, rows, own_names, _patterns(path, own_names, expressions))
    identifiers = _identifiers(groups)
    has_text = not own_names.keys().isdisjoint(_REPORTS)
    for group, identifier in zip(groups, identifiers, strict=True):
        yield from _records(group, identifier, path, root, has_text)


def _patterns(
    path: Path, own_names: Mapping[str, str], expressions: Mapping[str, str | None]
) -> dict[str, PathPattern]:
    """The patterns that replace columns which the table does not have."""
    patterns = {}
    for own, expression in expressions.items():
        if expression is not None:
            if own in own_names:
                raise RadScribeError(
                    f"{path} has a column '{own_names[own]}', so --{own}_pattern is not needed",
                    f"Leave out --{own}_pattern, or rename the column",
                )
            patterns[own] = PathPattern(expression, own)
    return patterns


def _grouped(
    path: Path,
    rows: Iterable[_Row | Rejection],
    own_names: Mapping[str, str],
    patterns: Mapping[str, PathPattern],
) -> Generator[Rejection, None, list[list[_Row]]]:
    """Group the rows by study, and use RadScribe's column names."""
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        row = _Row(row.place, {own: row.values.get(name) for own, name in own_names.items()})
        if problem := row.problem():
            yield Rejection(row.place, str(path), f"{BAD_RECORD}: {problem}")
            continue
        if patterns and row.images():
            found = {own: pattern.find(row.images()[0]) for own, pattern in patterns.items()}
            if blank := [own for own, value in found.items() if not value]:
                yield Rejection(row.place, str(path), patterns[blank[0]].reason)
                continue
            row = _Row(row.place, {**row.values, **found})
        if row.text("study") and not row.values.get("images"):
            groups.setdefault(row.text("study"), []).append(row)
        else:
            # No study id is such a key, so the row is not grouped.
            groups[f"\n{row.place}"] = [row]
    for pattern in patterns.values():
        pattern.require_match()
    return list(groups.values())


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
            values = parse_json(line)
        except ValueError as error:
            rows.append(Rejection(f"line {number}", str(path), f"{BAD_RECORD}: {error}"))
            continue
        if not isinstance(values, dict):
            rows.append(Rejection(f"line {number}", str(path), f"{BAD_RECORD}: not a JSON object"))
            continue
        names.update(dict.fromkeys(values))
        rows.append(_Row(f"line {number}", values))
    if rows and isinstance(rows[0], Rejection) and not names:
        raise RadScribeError(f"{path} is no JSON Lines: {rows[0].reason}", "Each line must be a JSON object")
    return list(names), rows


def _own_names(path: Path, names: list[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """The table's own name of each column that it has, by RadScribe's name."""
    known = (*_FIELDS, *SECTIONS, *OBSERVATIONS)
    existing = f"Its columns: {', '.join(names)}"
    require_different(path, [name.lower() for name in names if name.lower() in map(str.lower, known)])
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
        how = """Say which holds the image paths: --columns '{"image": "ITS NAME"}'"""
        raise RadScribeError(f"{path} has no column 'image'", f"{existing}. {how}")
    return own_names


def _identifiers(groups: list[list[_Row]]) -> list[str]:
    """The id of each study: stated by the table, or the shortest unique part of its image's path.

    This part is the stem if no other image has it, else the path without suffix if no other image has it,
    else the whole path. Rows without an image are named by their line.
    """
    stated_ids = [group[0].text("study") for group in groups]
    paths = [
        "" if identifier else next(iter(group[0].images()), "").replace("\\", "/")
        for group, identifier in zip(groups, stated_ids, strict=True)
    ]
    candidates = [
        (PurePosixPath(path).stem, str(PurePosixPath(path).with_suffix("")), path) if path else ("",)
        for path in paths
    ]
    of_candidate: dict[str, set[str]] = {}
    for path, names in zip(paths, candidates, strict=True):
        for name in names:
            of_candidate.setdefault(name, set()).add(path)
    return [
        identifier or next((name for name in names if len(of_candidate[name]) == 1), path) or group[0].place
        for group, identifier, path, names in zip(groups, stated_ids, paths, candidates, strict=True)
    ]


def _image_file(root: Path, name: str) -> tuple[Path, str]:
    """The file that a table means by an image's name, and why it cannot be used (empty if it can)."""
    path = root / name
    problem = file_problem(path)
    if problem and os.sep == "/" and "\\" in name:  # tables made on Windows have backslashes
        path = root / name.replace("\\", "/")
        problem = file_problem(path)
    if problem and problem != "missing":
        return path, problem
    if not problem or path.suffix.lower() in IMAGE_SUFFIXES:
        return path, ""
    for suffix in (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES)):
        file = path.with_name(path.name + suffix)
        if not file_problem(file):
            return file, ""
    return path, f"missing: also with {', '.join(IMAGE_SUFFIXES)} behind its name"


def _records(
    rows: list[_Row], identifier: str, path: Path, root: Path, has_text: bool
) -> Iterator[Study | Rejection]:
    """The study of some rows, or its rejection; and a rejection of each image that is missing."""
    first = rows[0]
    named = [name for row in rows for name in row.images()]

    def reject(reason: str) -> Rejection:
        return Rejection(identifier, f"{path}, {first.place}", reason)

    if not named:
        yield reject(NO_VIEW)
        return
    merged: dict[str, str] = {}
    for name in ("patient", "split", "report", *SECTIONS, *OBSERVATIONS):
        values = {row.text(name) for row in rows} - {""}
        if len(values) > 1:
            yield reject(f"{BAD_RECORD}: its rows differ in '{name}'")
            return
        merged[name] = values.pop() if values else ""

    sections = {name: merged[name] for name in SECTIONS if merged[name]}
    if merged["report"]:
        sections["findings"] = merged["report"]
    if has_text and not has_report(sections):
        yield reject(EMPTY_REPORT)
        return
    views = []
    words = [word for row in rows for word in row.view_words()]
    for name, word in zip(named, words, strict=True):
        file, missing = _image_file(root, name)
        if missing:
            yield Rejection(identifier, str(file), missing)
        else:
            views.append(view_of(file, projection_of(word)))
    if not views:
        return
    try:
        yield Study(
            id=identifier,
            patient_id=merged["patient"] or identifier,
            views=frontal_first(views),
            split=split_of(merged["split"]),
            sections=sections,
            observations={
                name: _observation_state(name, merged[name]) for name in OBSERVATIONS if name in first.values
            },
        )
    except ValueError as error:
        yield reject(f"{BAD_RECORD}: {error}")


def _observation_state(name: str, value: str) -> ObservationState:
    try:
        return parse_state(value)
    except ValueError as error:
        raise ValueError(f"'{name}' {error}") from None
