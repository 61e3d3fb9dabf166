"""Reading files of drafts that any system wrote, in the forms in which groups publish them.

The form is seen from the content, not from the name of the file:

- JSON Lines: `{"id": ..., "text": ...}` in each line, as `radscribe generate` writes it;
- CSV or TSV with a header: a column of ids and a column of drafts, and perhaps one of references;
- a JSON list of such objects: `[{"image_id": ..., "ground_truth": ..., "prediction": ...}, ...]`;
- JSON of ReXrank: `{id: {"model_prediction": ..., "section_findings": ..., ...}}`;
- JSON by id, as R2GenGPT writes `test_result.json`: `{id: ["..."]}` or `{id: "..."}`;
- JSON with drafts and references by id, named as `pycocoevalcap` names them: `{"res": {...}, "gts": {...}}`.

R2Gen and R2GenCMN write `res.csv` and `gts.csv` without ids. Such files are refused, because nothing in them
says which draft belongs to which study.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.files import parse_json, read_rows, read_text

#: Names of the field that holds the id of a study, in the order in which they are looked for.
ID_FIELDS = ("id", "study_id", "image_id", "study", "uid")
#: Names of the field that holds a draft.
DRAFT_FIELDS = (
    "text", "draft", "prediction", "predicted", "pred", "generated", "generated_report", "model_prediction",
    "hypothesis", "hypo", "res", "report",
)  # fmt: skip
#: Names of the field that holds a reference report.
REFERENCE_FIELDS = ("reference", "ground_truth", "groundtruth", "gt", "gts", "ref", "target")
#: Names of the two halves of a file that holds drafts and references apart.
_DRAFT_HALVES = ("res", "predictions", "hypotheses", "hypo", "generated")
_REFERENCE_HALVES = ("gts", "ground_truths", "ground_truth", "references", "refs", "ref")
_REXRANK = "model_prediction"
_SECTIONS = ("findings", "impression")
_FORMS = (
    'Give JSON Lines with {"id": "...", "text": "..."} in each line, a CSV file with the columns id and '
    "text, or the JSON that ReXrank or R2GenGPT writes"
)
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class PublishedDrafts:
    """The drafts of a file.

    Attributes:
        path: The file.
        form: The form of the file, in words.
        drafts: Text of each draft by study id.
        references: What the file itself holds as references, by study id; more than one version if the form
            leaves open which sections the drafts are to be compared with; empty if it holds none.
    """

    path: Path
    form: str
    drafts: Mapping[str, str]
    references: Sequence[Mapping[str, str]] = ()


def read_published_drafts(path: Path | str) -> PublishedDrafts:
    """Read a file of drafts.

    Raises:
        RadScribeError: the file cannot be read, has no form that is known, holds an id twice, or an entry
            lacks its id or its text; the message names the file, the entry, and the form that is needed.
    """
    path = Path(path)
    start = (text := read_text(path)).lstrip()
    if not start:
        raise RadScribeError(f"'{path}' has no drafts", _FORMS)
    if start[0] not in "{[":
        return _of_table(path)
    try:
        value = parse_json(text)
    except ValueError as error:
        if "\n" in start.rstrip() and start[0] == "{":
            return _of_lines(path, text)
        raise RadScribeError(f"'{path}' is not valid JSON: {error}", _FORMS) from error
    if isinstance(value, list):
        return _of_entries(path, "a JSON list", list(enumerate(value, start=1)), "entry")
    return _of_object(path, value)


def read_published_texts(path: Path | str) -> dict[str, str]:
    """Read reference reports from a file in one of the forms of drafts, which then holds their texts."""
    found = read_published_drafts(path)
    return dict(found.references[0] if found.references else found.drafts)


def _of_lines(path: Path, text: str) -> PublishedDrafts:
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entries.append((number, parse_json(line)))
            except ValueError as error:
                raise RadScribeError(
                    f"'{path}', line {number}, is not valid JSON: {error}", _FORMS
                ) from error
    return _of_entries(path, "JSON Lines", entries, "line")


def _of_table(path: Path) -> PublishedDrafts:
    columns, rows = read_rows(path)
    lower = {name.lower(): name for name in columns}
    if not any(name in lower for name in ID_FIELDS) or not any(name in lower for name in DRAFT_FIELDS):
        raise RadScribeError(
            f"'{path}' has no column of ids and one of drafts; its first line is "
            f"'{', '.join(columns)[:_SHOWN]}'",
            f"Name the columns in the first line, id and text; known names are {', '.join(ID_FIELDS)} and "
            f"{', '.join(DRAFT_FIELDS)}. Texts without ids, as in R2Gen's res.csv, cannot be matched",
        )
    entries = [(number, {(name or "").lower(): value for name, value in row.items()}) for number, row in rows]
    return _of_entries(path, "a table", entries, "line")


def _of_entries(path: Path, form: str, entries: Sequence[tuple[int, Any]], unit: str) -> PublishedDrafts:
    """Drafts of entries that each have fields for the id, the draft, and perhaps the reference."""
    drafts: dict[str, str] = {}
    references: dict[str, str] = {}
    for number, entry in entries:
        where = f"'{path}', {unit} {number},"
        if not isinstance(entry, dict):
            raise RadScribeError(f"{where} is no object: {_shown(entry)}", _FORMS)
        study = _id(where, entry)
        if study in drafts:
            raise RadScribeError(f"{where} repeats the id '{study}'", "Keep one draft of each study")
        drafts[study] = _field(where, entry, DRAFT_FIELDS, "draft")
        if any(name in entry for name in REFERENCE_FIELDS):
            references[study] = _field(where, entry, REFERENCE_FIELDS, "reference")
    if not drafts:
        raise RadScribeError(f"'{path}' has no drafts", _FORMS)
    if references and len(references) < len(drafts):
        raise RadScribeError(
            f"'{path}' has a reference for {len(references)} of its {len(drafts)} drafts",
            "Give a reference with every draft, or with none",
        )
    return PublishedDrafts(path, form, drafts, (references,) if references else ())


def _of_object(path: Path, value: Mapping[str, Any]) -> PublishedDrafts:
    if not value:
        raise RadScribeError(f"'{path}' has no drafts", _FORMS)
    if isinstance(value.get("id"), str) and any(isinstance(value.get(name), str) for name in DRAFT_FIELDS):
        return _of_entries(path, "JSON Lines", [(1, value)], "line")  # a file of one line
    drafts = next((value[name] for name in _DRAFT_HALVES if isinstance(value.get(name), dict)), None)
    references = next((value[name] for name in _REFERENCE_HALVES if isinstance(value.get(name), dict)), None)
    if drafts is not None:
        versions = () if references is None else (_by_id(path, references),)
        return PublishedDrafts(path, "JSON with drafts and references by id", _by_id(path, drafts), versions)
    if any(isinstance(value.get(name), list) for name in _DRAFT_HALVES):
        raise RadScribeError(
            f"'{path}' has drafts in a list without ids, so nothing says which study each belongs to",
            'Write them by id: {"res": {"ID": "..."}, "gts": {"ID": "..."}}',
        )
    if any(isinstance(entry, dict) for entry in value.values()):
        return _of_rexrank(path, value)
    return PublishedDrafts(path, "JSON by id", _by_id(path, value))


def _of_rexrank(path: Path, value: Mapping[str, Any]) -> PublishedDrafts:
    drafts: dict[str, str] = {}
    sections: dict[str, tuple[str, str]] = {}
    for study, entry in value.items():
        where = f"'{path}', study '{study}',"
        if not isinstance(entry, dict):
            raise RadScribeError(f"{where} is no object: {_shown(entry)}", _FORMS)
        if _REXRANK not in entry:
            raise RadScribeError(
                f"{where} has no '{_REXRANK}'",
                "Give the file that the inference script wrote, with the drafts",
            )
        drafts[study] = _text(where, entry[_REXRANK], _REXRANK)
        findings, impression = (entry.get(f"section_{name}", entry.get(name)) for name in _SECTIONS)
        if isinstance(findings, str) or isinstance(impression, str):
            sections[study] = (findings or "", impression or "")
    if len(sections) < len(drafts):
        return PublishedDrafts(path, "JSON of ReXrank", drafts)
    whole = {  # as ReXrank's evaluation script joins them
        study: f"Findings: {findings or None} Impression: {impression or None}"
        for study, (findings, impression) in sections.items()
    }
    findings_alone = {study: findings for study, (findings, _) in sections.items()}
    together = {study: " ".join(filter(None, both)) for study, both in sections.items()}
    return PublishedDrafts(path, "JSON of ReXrank", drafts, (whole, findings_alone, together))


def _by_id(path: Path, texts: Mapping[str, Any]) -> dict[str, str]:
    return {study: _text(f"'{path}', study '{study}',", text, "text") for study, text in texts.items()}


def _id(where: str, entry: Mapping[str, Any]) -> str:
    for name in ID_FIELDS:
        value = entry.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    raise RadScribeError(f"{where} has no id", f"Name the study in a field '{ID_FIELDS[0]}'. {_FORMS}")


def _field(where: str, entry: Mapping[str, Any], names: Sequence[str], what: str) -> str:
    for name in names:
        if name in entry:
            return _text(where, entry[name], name)
    raise RadScribeError(f"{where} has no {what}", f"Name it '{names[0]}'. {_FORMS}")


def _text(where: str, value: Any, name: str) -> str:
    """A text, or the only text of a list, which is how `pycocoevalcap` takes them."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise RadScribeError(f"{where} has no text in '{name}': {_shown(value)}", "Give one text per study")
    return value


def _shown(value: Any) -> str:
    return json.dumps(value)[:_SHOWN]
