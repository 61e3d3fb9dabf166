"""The `annotation.json` of R2Gen (Chen et al., EMNLP 2020), for IU X-Ray and for MIMIC-CXR.

    {"train" | "val" | "test": [{"id", "report", "image_path": [...], "split", ...}]}

The MIMIC-CXR file also has `subject_id` and `study_id`. Its entries are single images, and the benchmark
counts entries, so the id of an entry is the id of a study. The file does not state which of `0.png` and
`1.png` is frontal, so projections are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.files import parse_json, read_text
from radscribe.studies.rejection import BAD_RECORD, EMPTY_REPORT, NO_VIEW, Rejection, stated
from radscribe.studies.splits import split_of
from radscribe.studies.study import Study, View

ANNOTATION_FILE = "annotation.json"


def read_r2gen_annotation(source: Path, *, images: Path | str | None = None) -> Iterator[Study | Rejection]:
    """Read an R2Gen annotation with its splits. The images need not exist, so the texts can be used alone.

    Args:
        source: Folder that holds `annotation.json`, or the annotation file itself under any name.
        images: Folder that `image_path` is relative to; by default the folder `images` next to the annotation
            file.

    Raises:
        RadScribeError: the file is missing or has another form.
    """
    path = source / ANNOTATION_FILE if source.is_dir() else source
    try:
        annotation = parse_json(read_text(path))
    except ValueError as error:
        raise RadScribeError(f"{path} is not valid JSON: {error}", "Fetch the file again") from error
    if not isinstance(annotation, dict) or not all(isinstance(part, list) for part in annotation.values()):
        raise RadScribeError(f"{path} is no R2Gen annotation", "It must map train, val and test to lists")
    root = Path(images) if images else images_folder(source)
    for part, entries in annotation.items():
        for position, entry in enumerate(entries):
            yield _study(entry, part, f"{part}[{position}]", root, path)


def images_folder(source: Path) -> Path:
    """The folder that the image paths of an annotation are relative to, unless another is given."""
    return (source if source.is_dir() else source.parent) / "images"


def _study(entry: Any, part: str, place: str, root: Path, path: Path) -> Study | Rejection:
    if not isinstance(entry, dict) or "id" not in entry or "report" not in entry:
        return Rejection(place, str(path), f"{BAD_RECORD}: no 'id' or no 'report'")
    if not isinstance(entry["id"], (str, int)):
        return Rejection(place, str(path), f"{BAD_RECORD}: its 'id' is no text and no whole number")
    identifier = str(entry["id"])
    image_paths = entry.get("image_path") or []
    if isinstance(image_paths, str):
        image_paths = [image_paths]
    if not isinstance(image_paths, list) or not all(isinstance(name, str) for name in image_paths):
        return Rejection(identifier, str(path), f"{BAD_RECORD}: its 'image_path' is no list of names")
    if not image_paths:
        return Rejection(identifier, str(path), NO_VIEW)
    if not isinstance(entry["report"], str | None):
        return Rejection(identifier, str(path), f"{BAD_RECORD}: its 'report' is no text")
    report = stated(entry["report"] or "")
    if not report:
        return Rejection(identifier, str(path), EMPTY_REPORT)
    try:
        split = split_of(str(entry.get("split") or part))
    except ValueError as error:
        return Rejection(identifier, str(path), f"{BAD_RECORD}: {error}")
    return Study(
        id=identifier,
        patient_id=patient_of(identifier, entry.get("subject_id")),
        views=tuple(View(root / name) for name in image_paths),
        split=split,
        sections={"findings": report},
    )


def patient_of(identifier: str, subject: Any = None) -> str:
    """The patient of an entry: its `subject_id` if stated; the number of an IU X-Ray id; else the id.

    Args:
        identifier: Id of the entry; one of IU X-Ray is like `CXR2384_IM-0942`.
        subject: Its `subject_id`, or None.
    """
    if subject is not None:
        return str(subject)
    number = re.match(r"CXR(\d+)_IM", identifier)
    return number[1] if number else identifier
