"""PadChest-GR (de Castro et al., 2024): reports sentence by sentence, with boxes that radiologists drew.

    grounded_reports_20240819.json      studies: their image, and sentences with boxes and labels
    master_table.csv                    rows of a study and a label; also packed as a zip archive
    Padchest_GR_files/PadChest_GR/<ImageID>     one frontal PNG of 16 bits for each study

The English sentences of a study are its findings. The boxes of a sentence become masks of the observations
that the observation labeller finds in the sentence, or else in the sentence's PadChest labels. Boxes of what
is none of the 14 observations, such as scoliosis, become no mask; a note on the view says so. A second reader
drew `extra_boxes`, which are not used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from radscribe.errors import RadScribeError
from radscribe.files import parse_json, read_text
from radscribe.observations import OBSERVATIONS
from radscribe.studies.images import IMAGE_SUFFIXES
from radscribe.studies.readers.boxes import Box, BoxedImage, box_of
from radscribe.studies.readers.folder import IMAGE, REPORT
from radscribe.studies.readers.image_tree import files_of_tree
from radscribe.studies.readers.large_tables import rows_of
from radscribe.studies.rejection import (
    BAD_RECORD,
    DUPLICATE_ID,
    EMPTY_REPORT,
    NO_IMAGE,
    NO_IMAGE_FILE,
    NO_REPORT,
    Rejection,
    stated,
)
from radscribe.studies.splits import split_of
from radscribe.studies.study import Study, View

REPORTS = "grounded_reports_*.json"
_TABLES = ("master_table.csv", "master_table.csv.zip", "master_table.zip", "master_table.csv.gz")
_IMAGE_FOLDERS = ("Padchest_GR_files/PadChest_GR", "PadChest_GR", "Padchest_GR_files")
_UNPACK = "cat PadChest_GR.zip.* > PadChest_GR.zip, unpack that"
#: Note on a view that has boxes of what is none of the observations.
UNNAMED_BOXES = "boxes of no observation"


class _Row(NamedTuple):
    """What the master table says of a study: where, its patient, and the word for its split."""

    line: int
    patient: str
    split: str


class _Finding(NamedTuple):
    """A sentence, its boxes, and its PadChest labels."""

    sentence: str
    boxes: list[Box]
    labels: list[str]


def read_padchest_gr(source: Path, *, images: Path | str | None = None) -> Iterator[Study | Rejection]:
    """Read PadChest-GR with its splits; every study, row and image is used or rejected.

    Args:
        source: Folder with `grounded_reports_20240819.json` and `master_table.csv`.
        images: Folder of the images, with its sub-folders; by default `Padchest_GR_files/PadChest_GR`,
            `PadChest_GR` or `Padchest_GR_files` in the source.

    Raises:
        RadScribeError: the reports, the table, one of its columns, or the images are not there or damaged.
    """
    path = _reports_file(source)
    studies = _studies(path)
    table = next((source / name for name in _TABLES if (source / name).exists()), None)
    if table is None:
        raise RadScribeError(
            f"{source} has no master_table.csv", "Put it beside the reports: it has the patients and splits"
        )
    rows = yield from _rows(table)
    files = yield from _walked(_image_folder(source, images))
    for place, entry in enumerate(studies):
        yield _study(entry, f"study {place + 1}", path, rows, files, source)
    for identifier, row in rows.items():
        yield Rejection(identifier, f"{table}, line {row.line}", f"{NO_REPORT}: {path.name} does not list it")
    for name, file in files.items():
        yield Rejection(name, file, f"{NO_REPORT}: {path.name} does not list it")


def _reports_file(source: Path) -> Path:
    found = sorted(source.glob(REPORTS))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise RadScribeError(
            f"{source} should hold one {REPORTS}, found: {names}", "Give the folder of PadChest-GR that does"
        )
    return found[0]


def _studies(path: Path) -> list[Any]:
    try:
        studies = parse_json(read_text(path))
    except ValueError as error:
        raise RadScribeError(f"{path} is not valid JSON: {error}", "Fetch the file again") from error
    if not isinstance(studies, list):
        raise RadScribeError(f"{path} is no list of studies", "Fetch the file again")
    return studies


def _rows(table: Path) -> Generator[Rejection, None, dict[str, _Row]]:
    """What the table says of each study; a study has a row for each of its labels."""
    rows: dict[str, _Row] = {}
    for row in rows_of(table, ("StudyID", "PatientID", "split")):
        if isinstance(row, Rejection):
            yield row
            continue
        line, (study, patient, split) = row
        if not study or not patient:
            reason = f"{BAD_RECORD}: its StudyID or PatientID is blank"
            yield Rejection(f"line {line}", str(table), reason)
            continue
        first = rows.setdefault(study, _Row(line, patient, split))
        if (first.patient, first.split) != (patient, split):
            reason = f"{BAD_RECORD}: another patient or split: that of line {first.line} is taken"
            yield Rejection(study, f"{table}, line {line}", reason)
    return rows


def _image_folder(source: Path, images: Path | str | None) -> Path:
    folders = [Path(images)] if images else [source / name for name in _IMAGE_FOLDERS]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise RadScribeError(
        f"no folder of images: looked for {', '.join(map(str, folders))}",
        f"If they are still packed: {_UNPACK}; and name the folder of the images with --images",
    )


def _walked(root: Path) -> Generator[Rejection, None, dict[str, str]]:
    """The path of each image by its name without suffix; everything else is rejected."""
    files: dict[str, str] = {}
    for file in files_of_tree(root):
        if file.kind != IMAGE:
            reason = f"{NO_IMAGE}: a text" if file.kind == REPORT else file.kind
            yield Rejection(file.stem + file.suffix, file.path, reason)
        elif files.setdefault(file.stem, file.path) != file.path:
            yield Rejection(file.stem, file.path, f"{DUPLICATE_ID}: {files[file.stem]} is taken")
    return files


def _study(
    entry: Any, place: str, path: Path, rows: dict[str, _Row], files: dict[str, str], source: Path
) -> Study | Rejection:
    """The study of an entry; its row and its image are removed from `rows` and `files`."""
    identifier = place
    try:
        identifier = _name_in(entry, "StudyID")
        image = _name_in(entry, "ImageID")
        row = rows.pop(identifier, None)
        stem = image.rpartition(".")[0] if image.lower().endswith(IMAGE_SUFFIXES) else image
        file = files.pop(stem, None)
        if row is None:
            raise ValueError("the master table has no row of it, or an earlier study has this id")
        if not isinstance(entry.get("findings"), list):
            raise ValueError("it has no list 'findings'")
        findings = [_finding(finding) for finding in entry["findings"]]
        split = split_of(row.split)
    except ValueError as error:
        return Rejection(identifier, str(path), f"{BAD_RECORD}: {error}")
    if file is None:
        return Rejection(identifier, image, NO_IMAGE_FILE)
    if not findings:
        return Rejection(identifier, str(path), EMPTY_REPORT)
    return Study(
        id=identifier,
        patient_id=row.patient,
        views=(View(_boxed(Path(file), findings, source), "frontal"),),
        split=split,
        sections={"findings": " ".join(finding.sentence for finding in findings)},
    )


def _name_in(entry: Any, name: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not value or not isinstance(value, str | int):
        raise ValueError(f"it has no '{name}'")
    return str(value)


def _finding(finding: Any) -> _Finding:
    """One finding.

    Raises:
        ValueError: it has no English sentence, or boxes or labels of another form.
    """
    sentence = finding.get("sentence_en") if isinstance(finding, dict) else None
    if not isinstance(sentence, str) or not (sentence := stated(sentence)):
        raise ValueError("a finding has no 'sentence_en'")
    boxes, labels = finding.get("boxes") or [], finding.get("labels") or []
    if not isinstance(boxes, list) or not isinstance(labels, list):
        raise ValueError(f"the boxes or labels of '{sentence}' are no list")
    ended = sentence if sentence[-1] in ".!?" else f"{sentence}."
    return _Finding(ended, [box_of(box) for box in boxes], [str(label) for label in labels])


def _boxed(file: Path, findings: list[_Finding], source: Path) -> BoxedImage:
    """The image of a study with the boxes of its observations."""
    boxes: dict[str, list[Box]] = {}
    unnamed = False
    for finding in findings:
        observations = _observations(finding) if finding.boxes else []
        unnamed = unnamed or (bool(finding.boxes) and not observations)
        for observation in observations:
            boxes.setdefault(observation, []).extend(finding.boxes)
    return BoxedImage(
        path=file,
        file=file.relative_to(source).as_posix() if file.is_relative_to(source) else str(file),
        boxes=tuple((name, tuple(boxes[name])) for name in OBSERVATIONS if name in boxes),
        notes=(UNNAMED_BOXES,) if unnamed else (),
    )


def _observations(finding: _Finding) -> list[str]:
    """The observations that a finding says are there, or may be."""
    return _named(finding.sentence) or list(
        dict.fromkeys(name for label in finding.labels for name in _named(label))
    )


def _named(text: str) -> list[str]:
    from radscribe.text.observation_labeller import label_report

    states = label_report(text).states
    return [
        name for name, state in states.items() if state in ("present", "uncertain") and name != "No Finding"
    ]
