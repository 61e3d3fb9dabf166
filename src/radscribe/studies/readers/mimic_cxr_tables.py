"""The tables of MIMIC-CXR-JPG, and the list of the DICOM files of MIMIC-CXR with what their tags say.

MIMIC-CXR-JPG has a row per image in its metadata. MIMIC-CXR itself has a list of files without projections,
dates and times: they are read from the tags of each file, from which the metadata were made.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS, ObservationState, parse_state
from radscribe.studies.dicom_tags import codes, text
from radscribe.studies.image_error import ImageError
from radscribe.studies.readers.choices import MimicLabels, require_choice
from radscribe.studies.readers.dicom_files import DicomFile
from radscribe.studies.readers.large_tables import columns_of, rows_of, table_path
from radscribe.studies.rejection import BAD_RECORD, DUPLICATE_ID, Rejection

METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"
#: The list of files of the DICOM tree, which has no metadata.
RECORD_LIST = "cxr-record-list.csv"
LABEL_TABLES: dict[MimicLabels, str] = {
    "chexpert": "mimic-cxr-2.0.0-chexpert.csv",
    "negbio": "mimic-cxr-2.0.0-negbio.csv",
    "test-set": "mimic-cxr-2.1.0-test-set-labeled.csv",
}
_FILES = "https://physionet.org/files/mimic-cxr-jpg/2.1.0/"
_ID = re.compile(r"\d{8}")
_IMAGE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")
_IDS = ("dicom_id", "subject_id", "study_id")
_STATED = ("ViewPosition", "StudyDate", "StudyTime")
_FALL_BACKS = ("ViewCodeSequence_CodeMeaning", "PerformedProcedureStepDescription")
#: The test set's name of an observation.
_TEST_SET_NAMES = {"Airspace Opacity": "Lung Opacity"}


@dataclass(slots=True)
class Examination:
    """What the metadata, or the tags of its files, say of a study.

    Attributes:
        time: Earliest date and time of its images as YYYYMMDDHHMMSS; empty if none is stated.
        images: Id of each image, and the words for its projection.
    """

    patient: str
    time: str = ""
    images: list[tuple[str, str]] = field(default_factory=list)


class Labels(NamedTuple):
    """A table of labels: its file, the names of its observations, and the cells of each study by its id."""

    path: Path | None
    names: tuple[str, ...]
    cells: dict[str, tuple[str, ...]]


def list_of_images(source: Path) -> tuple[Path, bool]:
    """The table that lists the images of a source, and whether it is the metadata.

    Raises:
        RadScribeError: there is none.
    """
    metadata = table_path(source, METADATA)
    records = None if metadata else table_path(source, RECORD_LIST)
    return (records, False) if records else (metadata or table_of(source, METADATA), True)


def is_mimic_cxr(source: Path) -> bool:
    """Whether a folder holds a table of MIMIC-CXR-JPG or of MIMIC-CXR."""
    return any(table_path(source, name) for name in (METADATA, RECORD_LIST))


def table_of(source: Path, name: str) -> Path:
    """The file of a table of MIMIC-CXR-JPG.

    Raises:
        RadScribeError: it is not there; the error says where it is fetched from.
    """
    path = table_path(source, name)
    if path:
        return path
    file = name if name == LABEL_TABLES["test-set"] else f"{name}.gz"
    raise RadScribeError(
        f"{source} has no {file}", f"Fetch it: wget --user YOURS --ask-password -P {source} {_FILES}{file}"
    )


def examinations_in(path: Path, *, metadata: bool) -> Generator[Rejection, None, dict[str, Examination]]:
    """The studies in a table of images by their ids, in the order of the table.

    Args:
        path: The metadata, or the list of files.
        metadata: Whether the table must state projections, dates and times.
    """
    needed, optional = ((*_IDS, *_STATED), _FALL_BACKS) if metadata else (_IDS, (*_STATED, *_FALL_BACKS))
    found: dict[str, Examination] = {}
    images: set[str] = set()
    for row in rows_of(path, needed, optional):
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
                found[study] = Examination(patient)
            examination = found[study]
            examination.images.append((image, sys.intern(position or code or procedure)))
            if time := _time(date, clock):
                examination.time = min(examination.time or time, time)
    return found


def by_tags(examination: Examination, files: Mapping[str, str]) -> Examination:
    """An examination of the list of files with the projections, the date and the time of its files' tags.

    A file that cannot be read states nothing; decoding says what is wrong with it.

    Args:
        examination: Examination without them.
        files: Path of each image by its id.
    """
    found = Examination(examination.patient)
    for image, _ in examination.images:
        words = ""
        if file := files.get(image):
            try:
                header = DicomFile(Path(file), "", file).header()
            except ImageError:
                pass
            else:
                meanings = (meaning for _, meaning in codes(header, "ViewCodeSequence"))
                said = (text(header, "ViewPosition"), *meanings, text(header, _FALL_BACKS[1]))
                words = sys.intern(next(filter(None, said), ""))
                if time := _time(text(header, "StudyDate"), text(header, "StudyTime")):
                    found.time = min(found.time or time, time)
        found.images.append((image, words))
    return found


def _time(date: str, clock: str) -> str:
    """Date and time as text that sorts by time; empty if one is blank or damaged.

    The time of the day is HHMMSS with a fraction, and may have lost its leading zeros.
    """
    whole = clock.partition(".")[0]
    time = date + whole.zfill(6)
    return time if whole and len(date) == 8 and len(time) == 14 and time.isdigit() else ""


def by_image(path: Path, column: str) -> Generator[Rejection, None, dict[str, str]]:
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


def labels_in(source: Path, labels: MimicLabels | None) -> Generator[Rejection, None, Labels]:
    """The chosen table of labels. That of the test set need not have all observations."""
    if labels is not None:
        require_choice("labels", labels, MimicLabels)
    name = LABEL_TABLES[labels or "chexpert"]
    path = table_of(source, name) if labels else table_path(source, name)
    if path is None:
        return Labels(None, (), {})
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
    return Labels(path, names, found)


@cache
def _state(cell: str) -> ObservationState:
    return parse_state(cell)


def observations_in(names: Sequence[str], cells: Sequence[str]) -> dict[str, ObservationState]:
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
