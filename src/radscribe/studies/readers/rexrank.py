"""The JSON files of ReXrank (Zhang et al., 2024), from which its leaderboard asks for drafts.

    {id: {"image_path": [...], "key_image_path", "frontal_lateral": [...], "section_findings",
          "section_impression", "context", "split", "subject_id", ...}}

`context` holds indication and comparison in one text. ReXrank writes `None` where a section is missing, so
that word is no text here. A file that states no split is a test set, as those of the leaderboard are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.files import file_problem, parse_json, read_text
from radscribe.studies.projections import frontal_first, projection_of
from radscribe.studies.readers.r2gen_annotation import patient_of
from radscribe.studies.rejection import BAD_RECORD, EMPTY_REPORT, NO_VIEW, Rejection, stated
from radscribe.studies.splits import split_of
from radscribe.studies.study import Study, View

#: Number of bytes at the start of a file in which its form is seen.
_HEAD = 65_536
_FIRST_STUDY = re.compile(rb'\A(?:\xef\xbb\xbf)?\s*\{\s*"[^"]*"\s*:\s*\{[^{}]*"(?:key_)?image_path"')
#: Folders beside a file in which ReXrank has the images of its data sets.
_IMAGE_FOLDERS = ("images", "PNG", "files")
_SPLIT_IN_NAME = re.compile(r"(?i)(?:^|[^a-z])(train|valid|val|test)(?:[^a-z]|$)")
_TAG = re.compile("</?context>")
_CHEXPERT_PLUS = re.compile(r"(patient\d+)_study\d+")


def rexrank_files(source: Path) -> list[Path]:
    """The files of this form: the source itself, or those that lie directly in it."""
    files = [source] if source.is_file() else sorted(source.glob("*.json")) if source.is_dir() else []
    return [path for path in files if path.suffix.lower() == ".json" and _is_rexrank(path)]


def _is_rexrank(path: Path) -> bool:
    if file_problem(path):
        return False
    with path.open("rb") as file:
        return bool(_FIRST_STUDY.search(file.read(_HEAD)))


def read_rexrank(source: Path, *, images: Path | str | None = None) -> Iterator[Study | Rejection]:
    """Read JSON files of ReXrank. If no study of theirs has a report, all can be used for drafting.

    Args:
        source: File, or folder that directly holds files of this form.
        images: Folder that image paths are relative to; by default the first of the folders `images`, `PNG`
            and `files` beside the file, or else the folder of the file.

    Raises:
        RadScribeError: there is no such file, it is damaged, or the folder of the images is not there.
    """
    paths = [source] if source.is_file() else rexrank_files(source)
    if not paths:
        raise RadScribeError(
            f"{source} holds no JSON file of ReXrank", "It must map ids to studies with an 'image_path'"
        )
    root = Path(images) if images else _image_folder(paths[0].parent)
    if not root.is_dir():
        raise RadScribeError(f"no folder {root}", "Name the folder of the images with --images")
    found = [
        (path, _record(identifier, entry, path, root))
        for path in paths
        for identifier, entry in _entries(path).items()
    ]
    with_reports = any(isinstance(record, Study) and _has_report(record) for _, record in found)
    for path, record in found:
        if with_reports and isinstance(record, Study) and not _has_report(record):
            yield Rejection(record.id, str(path), EMPTY_REPORT)
        else:
            yield record


def _has_report(study: Study) -> bool:
    return bool(study.report("findings + impression"))


def _image_folder(folder: Path) -> Path:
    return next((folder / name for name in _IMAGE_FOLDERS if (folder / name).is_dir()), folder)


def _entries(path: Path) -> dict[str, Any]:
    try:
        entries = parse_json(read_text(path))
    except ValueError as error:
        raise RadScribeError(f"{path} is not valid JSON: {error}", "Fetch the file again") from error
    if not isinstance(entries, dict):
        raise RadScribeError(
            f"{path} is no JSON file of ReXrank", "It must map ids to studies with an 'image_path'"
        )
    return entries


def _record(identifier: str, entry: Any, path: Path, root: Path) -> Study | Rejection:
    try:
        if not isinstance(entry, dict):
            raise ValueError("not a JSON object")
        names = _names(entry)
        if not names:
            return Rejection(identifier, str(path), NO_VIEW)
        named = _SPLIT_IN_NAME.search(path.stem)
        return Study(
            id=identifier,
            patient_id=_patient(identifier, entry.get("subject_id")),
            views=frontal_first(_views(entry, names, root)),
            split=split_of(_text(entry, "split") or (named[1] if named else "test")),
            sections=_sections(entry),
        )
    except ValueError as error:
        return Rejection(identifier, str(path), f"{BAD_RECORD}: {error}")


def _names(entry: dict[str, Any]) -> list[str]:
    """The paths of the images of a study."""
    names = entry.get("image_path") or entry.get("key_image_path") or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(name and isinstance(name, str) for name in names):
        raise ValueError("its 'image_path' is no list of paths")
    return names


def _views(entry: dict[str, Any], names: list[str], root: Path) -> list[View]:
    """The views of a study.

    Some studies of IU X-Ray have projections of more or fewer images than they name. Which is whose is not
    known then: only the key image is, which is frontal.
    """
    words = entry.get("frontal_lateral")
    if not isinstance(words, list) or len(words) != len(names):
        words = ["Frontal" if name == entry.get("key_image_path") else "" for name in names]
    return [
        View(_file(root, name), projection_of(word if isinstance(word, str) else ""))
        for name, word in zip(names, words, strict=True)
    ]


def _file(root: Path, name: str) -> Path:
    """The file of an image. A path that begins with a slash is absolute if it leads to something."""
    path = root / name
    return root / name.lstrip("/") if name.startswith("/") and not path.exists() else path


def _patient(identifier: str, subject: Any) -> str:
    match = _CHEXPERT_PLUS.fullmatch(identifier) if subject is None else None
    return match[1] if match else patient_of(identifier, subject)


def _sections(entry: dict[str, Any]) -> dict[str, str]:
    before, _, comparison = _TAG.sub("", _text(entry, "context")).partition("Comparison:")
    sections = {
        "findings": _text(entry, "section_findings"),
        "impression": _text(entry, "section_impression"),
        "indication": before.partition("Indication:")[2],
        "comparison": comparison,
    }
    return {name: text.strip() for name, text in sections.items() if _states_something(text)}


def _states_something(text: str) -> bool:
    """Whether a section is more than a word for a missing one, with or without a full stop."""
    return bool(stated(text.strip().removesuffix(".")))


def _text(entry: dict[str, Any], name: str) -> str:
    """A text of an entry; empty if it is null, or NaN as pandas writes a missing value."""
    value = entry.get(name)
    if value is None or value != value:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"its '{name}' is no text")
    return value
