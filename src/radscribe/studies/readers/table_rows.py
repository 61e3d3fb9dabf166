"""Rows of tables as studies: rows are grouped, and become ids, sections, observations and views."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from radscribe.errors import RadScribeError, unknown_name
from radscribe.files import parse_json, require_different
from radscribe.observations import OBSERVATIONS, ObservationState, parse_state
from radscribe.studies.images import view_of
from radscribe.studies.projections import frontal_first, projection_of
from radscribe.studies.readers.path_patterns import PathPattern
from radscribe.studies.rejection import BAD_RECORD, EMPTY_REPORT, NO_VIEW, Rejection, has_report, stated
from radscribe.studies.splits import split_of
from radscribe.studies.study import SECTIONS, RenderedView, Study, View

FIELDS = ("image", "images", "report", "study", "patient", "view", "split")
REPORTS = ("report", "findings", "impression")
#: Columns that are read.
COLUMNS = (*FIELDS, *SECTIONS, *OBSERVATIONS)


class FoundImage(NamedTuple):
    """What a row means by the name of an image.

    Attributes:
        source: Its file, or a function that decodes it.
        problem: Why it cannot be used; empty if it can.
    """

    source: Path | Callable[[], RenderedView]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Row:
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
                if isinstance(item, (bool, int, float)) and name in (*REPORTS, *SECTIONS, "image", "images"):
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


def own_names(
    path: Path,
    names: Sequence[str],
    renamed: Mapping[str, str],
    named_by: tuple[str, ...] = ("image", "images"),
) -> dict[str, str]:
    """The table's own name of each column that it has, by RadScribe's name.

    Args:
        path: Name of the table in messages.
        names: Names of its columns.
        renamed: Names of its columns by RadScribe's names, where the user says so.
        named_by: Columns that name what a row is about; the table must have one of them.

    Raises:
        RadScribeError: two columns have one name, a renamed column is not there or unknown, or no column
            names what a row is about.
    """
    existing = f"Its columns: {', '.join(names)}"
    require_different(path, [name.lower() for name in names if name.lower() in map(str.lower, COLUMNS)])
    by_lower = {name.lower(): name for name in names}
    found = {name: by_lower[name.lower()] for name in COLUMNS if name.lower() in by_lower}
    for own, name in renamed.items():
        if own not in COLUMNS:
            raise unknown_name("column", own, COLUMNS)
        if name not in names:
            raise RadScribeError(f"{path} has no column '{name}' to take as '{own}'", existing)
        found[own] = name
    if "findings" in found:
        found.pop("report", None)
    if found.keys().isdisjoint(named_by):
        needed = named_by[0]
        holds = {"image": "image paths", "study": "ids of studies"}[needed]
        how = f"""Say which holds the {holds}: --columns '{{"{needed}": "ITS NAME"}}'"""
        raise RadScribeError(f"{path} has no column '{needed}'", f"{existing}. {how}")
    return found


def with_own_names(
    rows: Iterable[Row | Rejection], own_names: Mapping[str, str]
) -> Iterator[Row | Rejection]:
    """The rows by RadScribe's column names; other columns are left out."""
    for row in rows:
        if isinstance(row, Row):
            row = Row(row.place, {own: row.values.get(name) for own, name in own_names.items()})
        yield row


def studies_of(
    path: Path,
    rows: Iterable[Row | Rejection],
    has_text: bool,
    find_image: Callable[[str], FoundImage],
    patterns: Mapping[str, PathPattern],
) -> Iterator[Study | Rejection]:
    """The studies of the rows of a table, which have RadScribe's column names.

    Args:
        path: Name of the table in messages.
        rows: Rows, or rejections of what is none.
        has_text: Whether the table has reports; if so, a study without one is rejected.
        find_image: Function that finds an image by its name in the table.
        patterns: Patterns that find what the table has no column for: `study` or `patient`.

    Raises:
        RadScribeError: a pattern matches no image.
    """
    groups = yield from _grouped(path, rows, patterns)
    for group, identifier in zip(groups, _identifiers(groups), strict=True):
        yield from _records(group, identifier, path, has_text, find_image)


def _grouped(
    path: Path, rows: Iterable[Row | Rejection], patterns: Mapping[str, PathPattern]
) -> Generator[Rejection, None, list[list[Row]]]:
    """Group the rows by study."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        if problem := row.problem():
            yield Rejection(row.place, str(path), f"{BAD_RECORD}: {problem}")
            continue
        if patterns and row.images():
            found = {own: pattern.find(row.images()[0]) for own, pattern in patterns.items()}
            if blank := [own for own, value in found.items() if not value]:
                yield Rejection(row.place, str(path), patterns[blank[0]].reason)
                continue
            row = Row(row.place, {**row.values, **found})
        if row.text("study") and not row.values.get("images"):
            groups.setdefault(row.text("study"), []).append(row)
        else:
            # No study id is such a key, so the row is not grouped.
            groups[f"\n{row.place}"] = [row]
    for pattern in patterns.values():
        pattern.require_match()
    return list(groups.values())


def _identifiers(groups: list[list[Row]]) -> list[str]:
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


def _records(
    rows: list[Row],
    identifier: str,
    path: Path,
    has_text: bool,
    find_image: Callable[[str], FoundImage],
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
        source, problem = find_image(name)
        if problem:
            yield Rejection(identifier, str(source), problem)
        elif isinstance(source, Path):
            views.append(view_of(source, projection_of(word)))
        else:
            views.append(View(source, projection_of(word)))
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
