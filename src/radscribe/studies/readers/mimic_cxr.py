"""MIMIC-CXR-JPG (Johnson et al., 2019) as PhysioNet distributes it, with the reports of MIMIC-CXR.

Versions 2.0.0 and 2.1.0 have the same names of files:

    mimic-cxr-2.0.0-metadata.csv.gz     a row per image: patient, study, view, date and time
    mimic-cxr-2.0.0-split.csv.gz        the official split of each image
    mimic-cxr-2.0.0-chexpert.csv.gz     labels of each study, and -negbio; -2.1.0-test-set-labeled.csv
    files/p10/p10000032/s50414267/02aa804e-...-....jpg

MIMIC-CXR-JPG holds no reports: `mimic_cxr_reports` finds them. The id of a study is its `study_id`, and the
patient is the `subject_id`. `Study.prior` follows date and time; the order of study ids is not that of time.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS, ObservationState, parse_state
from radscribe.studies.projections import projection_of
from radscribe.studies.readers.choices import MimicLabels, ReportSections, Unit, require_choice
from radscribe.studies.readers.examinations import (
    ListedImage,
    chosen_sections,
    in_units,
    with_priors,
)
from radscribe.studies.readers.folder import IMAGE, REPORT
from radscribe.studies.readers.image_tree import files_of_tree
from radscribe.studies.readers.large_tables import columns_of, rows_of, table_path
from radscribe.studies.readers.mimic_cxr_reports import REPORT_NAME, Reports, open_reports
from radscribe.studies.rejection import (
    BAD_RECORD,
    DUPLICATE_ID,
    EMPTY_REPORT,
    NO_IMAGE,
    NO_IMAGE_FILE,
    NO_REPORT,
    Rejection,
)
from radscribe.studies.sections import LAST_PARAGRAPH
from radscribe.studies.splits import split_of
from radscribe.studies.study import Study, View

METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"
#: A table of the DICOM tree, which is recognised so that the error can say what to do.
RECORD_LIST = "cxr-record-list.csv"
LABEL_TABLES: dict[MimicLabels, str] = {
    "chexpert": "mimic-cxr-2.0.0-chexpert.csv",
    "negbio": "mimic-cxr-2.0.0-negbio.csv",
    "test-set": "mimic-cxr-2.1.0-test-set-labeled.csv",
}
_FILES = "https://physionet.org/files/mimic-cxr-jpg/2.1.0/"
_ID = re.compile(r"\d{8}")
_IMAGE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")
#: The test set's name of an observation.
_TEST_SET_NAMES = {"Airspace Opacity": "Lung Opacity"}


@dataclass(slots=True)
class _Examination:
    """What the metadata say of a study.

    Attributes:
        time: Earliest date and time of its images as YYYYMMDDHHMMSS; empty if none is stated.
        images: Id of each image, and the words for its projection.
    """

    patient: str
    time: str = ""
    images: list[tuple[str, str]] = field(default_factory=list)


class _Labels(NamedTuple):
    """A table of labels: its file, the names of its observations, and the cells of each study by its id."""

    path: Path | None
    names: tuple[str, ...]
    cells: dict[str, tuple[str, ...]]


class _Tables(NamedTuple):
    """What the files say beside the metadata; what a study takes from a mapping is removed from it.

    Attributes:
        root: Folder of the images.
        files: Path of each image by its id.
        splits: Word for the split of each image by its id.
        labels: Labels by study.
    """

    root: Path
    files: dict[str, str]
    splits: dict[str, str]
    labels: _Labels


class _Choice(NamedTuple):
    """What the user chose; see `read_mimic_cxr`."""

    unit: Unit
    frontal_only: bool
    sections: ReportSections
    complete: bool
    last_paragraph: bool


def read_mimic_cxr(
    source: Path,
    *,
    images: Path | str | None = None,
    reports: Path | str | None = None,
    unit: Unit = "studies",
    frontal_only: bool = False,
    sections: ReportSections = "both",
    complete: bool = False,
    last_paragraph: bool = False,
    hand_ruled: bool = False,
    labels: MimicLabels | None = None,
) -> Iterator[Study | Rejection]:
    """Read MIMIC-CXR-JPG with its official split; every image, row and report is used or rejected.

    Args:
        source: Folder of MIMIC-CXR-JPG, with its tables as they come or unpacked.
        images: Folder of the images if they are elsewhere; they are found by their names.
        reports: The reports: `mimic-cxr-reports.zip`, `mimic_cxr_sectioned.csv`, or the folder of MIMIC-CXR;
            by default they are looked for in the source and beside the images.
        unit: `studies`, or `images` for one study per image.
        frontal_only: Take frontal views only.
        sections: Sections that are taken as the report.
        complete: Reject studies that lack one of these sections.
        last_paragraph: Take the last paragraph of a report without findings and impression as its findings.
        hand_ruled: Take the 54 studies that the authors ruled on by hand; what they ruled is the impression.
        labels: Table of observations: `chexpert`, `negbio` or `test-set`; by default that of CheXpert if it
            is there.

    Raises:
        RadScribeError: a table, a column of it, the reports or the images are missing or damaged.
    """
    for option, value, choices in (("unit", unit, Unit), ("sections", sections, ReportSections)):
        require_choice(option, value, choices)
    metadata = _table(source, METADATA)
    root = _image_folder(source, images)
    files, texts = yield from _walked(root, source)
    found = yield from open_reports(source, Path(reports) if reports else None, texts, hand_ruled)
    examinations = yield from _examinations(metadata)
    splits = yield from _by_image(_table(source, SPLIT), "split")
    tables = _Tables(root, files, splits, (yield from _labels(source, labels)))
    choice = _Choice(unit, frontal_only, sections, complete, last_paragraph)
    patients: dict[str, list[str]] = {}
    for identifier, examination in examinations.items():
        patients.setdefault(examination.patient, []).append(identifier)
    for identifiers in patients.values():
        yield from with_priors(
            (
                examinations[identifier].time,
                list(_records(identifier, examinations[identifier], tables, found, choice)),
            )
            for identifier in identifiers
        )
    yield from _left_over(tables, found, examinations.keys(), metadata.name)


def is_mimic_cxr(source: Path) -> bool:
    """Whether a folder holds a table of MIMIC-CXR-JPG or of MIMIC-CXR."""
    return any(table_path(source, name) for name in (METADATA, RECORD_LIST))


def _table(source: Path, name: str) -> Path:
    path = table_path(source, name)
    if path:
        return path
    if name == METADATA and table_path(source, RECORD_LIST):
        raise RadScribeError(
            f"{source} is the DICOM tree of MIMIC-CXR, which has no {METADATA}.gz and is not read yet",
            f"Give the folder of MIMIC-CXR-JPG as source, and --reports {source}",
        )
    file = name if name == LABEL_TABLES["test-set"] else f"{name}.gz"
    raise RadScribeError(
        f"{source} has no {file}", f"Fetch it: wget --user YOURS --ask-password -P {source} {_FILES}{file}"
    )


def _image_folder(source: Path, images: Path | str | None) -> Path:
    folder = Path(images) if images else source
    if not folder.is_dir():
        raise RadScribeError(f"no folder {folder}", "Name the folder of the images with --images")
    return folder / "files" if (folder / "files").is_dir() else folder


def _walked(root: Path, source: Path) -> Generator[Rejection, None, tuple[dict[str, str], dict[str, str]]]:
    """The images by their ids, and the texts among them by their studies; everything else is rejected.

    In the source itself stand tables, licences and the like, which are not looked at.
    """
    files: dict[str, str] = {}
    texts: dict[str, str] = {}
    for file in files_of_tree(root):
        named = REPORT_NAME.fullmatch(file.stem) if file.kind == REPORT else None
        if file.kind == IMAGE or named:
            taken, name = (texts, named[1]) if named else (files, file.stem)
            if taken.setdefault(name, file.path) != file.path:
                yield Rejection(name, file.path, f"{DUPLICATE_ID}: {taken[name]} is taken")
        elif file.folder != str(source):
            reason = f"{NO_IMAGE}: it is not named like a report" if file.kind == REPORT else file.kind
            yield Rejection(file.stem, file.path, reason)
    return files, texts


def _examinations(path: Path) -> Generator[Rejection, None, dict[str, _Examination]]:
    """The studies in the metadata by their ids, in the order of the table."""
    needed = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")
    fall_backs = ("ViewCodeSequence_CodeMeaning", "PerformedProcedureStepDescription")
    found: dict[str, _Examination] = {}
    images: set[str] = set()
    for row in rows_of(path, needed, fall_backs):
        if isinstance(row, Rejection):
            yield row
            continue
        line, (image, patient, study, position, date, clock, code, procedure) = row
        if not (_IMAGE_ID.fullmatch(image) and _ID.fullmatch(patient) and _ID.fullmatch(study)):
            reason = f"its ids are '{image}', '{patient}' and '{study}', which MIMIC-CXR has none like"
            yield Rejection(f"line {line}", f"{path}, line {line}", f"{BAD_RECORD}: {reason}")
        elif image in images:
            yield Rejection(image, f"{path}, line {line}", DUPLICATE_ID)
        elif study in found and found[study].patient != patient:
            yield Rejection(
                image, f"{path}, line {line}", f"{BAD_RECORD}: study {study} is also of another patient"
            )
        else:
            images.add(image)
            if study not in found:
                found[study] = _Examination(patient)
            examination = found[study]
            examination.images.append((image, sys.intern(position or code or procedure)))
            if time := _time(date, clock):
                examination.time = min(examination.time or time, time)
    return found


def _time(date: str, clock: str) -> str:
    """Date and time as text that sorts by time; empty if one is blank or damaged.

    The time of the day is HHMMSS with a fraction, and may have lost its leading zeros.
    """
    whole = clock.partition(".")[0]
    time = date + whole.zfill(6)
    return time if whole and len(date) == 8 and len(time) == 14 and time.isdigit() else ""


def _by_image(path: Path, column: str) -> Generator[Rejection, None, dict[str, str]]:
    """A column of a table that has a row per image."""
    found: dict[str, str] = {}
    for row in rows_of(path, ("dicom_id", column)):
        if isinstance(row, Rejection):
            yield row
        elif row[1][0] in found:
            yield Rejection(row[1][0], f"{path}, line {row[0]}", DUPLICATE_ID)
        else:
            found[row[1][0]] = sys.intern(row[1][1])
    return found


def _labels(source: Path, labels: MimicLabels | None) -> Generator[Rejection, None, _Labels]:
    """The chosen table of labels. That of the test set need not have all observations."""
    if labels is not None:
        require_choice("labels", labels, MimicLabels)
    name = LABEL_TABLES[labels or "chexpert"]
    path = _table(source, name) if labels else table_path(source, name)
    if path is None:
        return _Labels(None, (), {})
    names: tuple[str, ...] = OBSERVATIONS
    if labels == "test-set":
        there = columns_of(path)
        names = tuple(name for name in (*OBSERVATIONS, *_TEST_SET_NAMES) if name in there)
    found: dict[str, tuple[str, ...]] = {}
    for row in rows_of(path, ("study_id", *names)):
        if isinstance(row, Rejection):
            yield row
        elif row[1][0] in found:
            yield Rejection(row[1][0], f"{path}, line {row[0]}", DUPLICATE_ID)
        else:
            found[row[1][0]] = tuple(map(sys.intern, row[1][1:]))
    return _Labels(path, names, found)


@cache
def _state(cell: str) -> ObservationState:
    return parse_state(cell)


def _observations(names: Sequence[str], cells: Sequence[str]) -> dict[str, ObservationState]:
    """The states in a row of a table of labels.

    Raises:
        ValueError: a cell is no state.
    """
    found: dict[str, ObservationState] = {}
    for name, cell in zip(names, cells, strict=True):
        try:
            found[_TEST_SET_NAMES.get(name, name)] = _state(cell)
        except ValueError as error:
            raise ValueError(f"'{name}' {error}") from None
    return found


def _records(
    identifier: str, examination: _Examination, tables: _Tables, reports: Reports, choice: _Choice
) -> Iterator[Study | Rejection]:
    """The studies of one examination, or why there is none."""
    patient = examination.patient
    folder = tables.root / f"p{patient[:2]}" / f"p{patient}" / f"s{identifier}"
    cells = tables.labels.cells.pop(identifier, None)
    words = {tables.splits.pop(image, "") for image, _ in examination.images}
    listed = []
    missing = []
    for image, view_words in examination.images:
        file = tables.files.pop(image, "")
        if file:
            listed.append(ListedImage(image, View(Path(file), projection_of(view_words)), view_words))
        else:
            missing.append(image)
    if not listed:
        yield Rejection(identifier, str(folder), NO_IMAGE_FILE)
        return
    for image in missing:
        name = image if choice.unit == "images" else identifier
        yield Rejection(name, str(folder / f"{image}.jpg"), "missing")
    sections, reason = reports.sections(identifier)
    if not reason:
        if choice.last_paragraph and sections.get(LAST_PARAGRAPH):
            sections["findings"] = sections[LAST_PARAGRAPH]
        kept, reason = chosen_sections(sections, choice.sections, choice.complete)
        if sections.get(LAST_PARAGRAPH) and reason.startswith(EMPTY_REPORT) and not choice.last_paragraph:
            reason += "; --last_paragraph takes its last paragraph"
    if reason:
        yield Rejection(identifier, reports.places.get(identifier, str(folder)), reason)
        return
    try:
        if "" in words:
            raise ValueError(f"{SPLIT} does not list all its images")
        if len(words) > 1:
            raise ValueError(f"its images are in the splits {', '.join(sorted(words))}")
        split = split_of(words.pop())
        observations = _observations(tables.labels.names, cells) if cells else {}
    except ValueError as error:
        yield Rejection(identifier, str(folder), f"{BAD_RECORD}: {error}")
        return
    study = Study(identifier, patient, (), split=split, sections=kept, observations=observations)
    yield from in_units(study, listed, choice.unit, choice.frontal_only)


def _left_over(tables: _Tables, reports: Reports, studies: Set[str], metadata: str) -> Iterator[Rejection]:
    """Images, rows and reports that belong to no study in the metadata."""
    unlisted = f"{metadata} does not list it"
    for image, file in tables.files.items():
        yield Rejection(image, file, f"{NO_REPORT}: {unlisted}")
    for image in tables.splits:
        yield Rejection(image, SPLIT, f"{NO_IMAGE}: {unlisted}")
    for study in tables.labels.cells:
        yield Rejection(study, str(tables.labels.path), f"{NO_IMAGE}: {unlisted}")
    for study, place in reports.places.items():
        if study not in studies:
            yield Rejection(study, place, f"{NO_IMAGE}: {unlisted}")
