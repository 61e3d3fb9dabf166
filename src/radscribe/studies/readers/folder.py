"""A folder of images, with or without report texts.

The same rule holds at every depth. An image that lies directly in the source folder is a study; a sub-folder
that directly holds images is a study of all these images. The id is the path within the source, without the
suffix of a file; `<id>.txt` in the source holds the findings. If the folder of a study lies in another
folder, the study belongs to the patient of that other folder (`patient7/study2` belongs to `patient7`); any
other study is its own patient. Regular expressions on the images' paths can replace these rules. Every file
is used, or is rejected with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from radscribe.errors import RadScribeError
from radscribe.files import file_problem, read_text
from radscribe.studies.dicom import HEAD, is_dicom
from radscribe.studies.images import IMAGE_SUFFIXES, view_of
from radscribe.studies.projections import frontal_first
from radscribe.studies.readers.path_patterns import PathPattern
from radscribe.studies.rejection import (
    BAD_RECORD,
    DUPLICATE_ID,
    EMPTY_REPORT,
    NO_IMAGE,
    NO_REPORT,
    Rejection,
    stated,
)
from radscribe.studies.store_files import is_store
from radscribe.studies.study import Projection, Study, without_suffix

#: Largest number of images of a study. A sub-folder with more is a pile of studies (`NORMAL/`, `images/`),
#: not one examination.
MAX_VIEWS = 16
#: Largest size of a report in bytes. The longest reports have some ten thousand characters.
MAX_REPORT_BYTES = 1_000_000

IMAGE = "image"
REPORT = "report"
DICOM = "dicom"


def files_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every path below a folder, sorted: `IMAGE`, `DICOM`, `REPORT`, or why it cannot be used.

    What has the suffix of an image is an `IMAGE`, and so is what is only called DICOM; the content of other
    files is looked at.

    A hidden folder is listed as one path, and so is a folder that was reached before by a symbolic link.
    Prepared stores are left out.
    """
    seen = set()
    unreadable: list[OSError] = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable.append):
        yield from ((Path(error.filename), f"not readable: {error.strerror}") for error in unreadable)
        unreadable.clear()
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            yield Path(parent), "linked folder: its files are read from another place in the source"
            continue
        seen.add(real)
        if is_store(Path(parent)):
            folders.clear()
            continue
        for name in sorted(folders):
            if name.startswith((".", "__")):
                yield Path(parent, name), "hidden folder"
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            yield Path(parent, name), _kind(Path(parent, name))
    yield from ((Path(error.filename), f"not readable: {error.strerror}") for error in unreadable)


def _kind(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden file"
    if problem := file_problem(path):
        return f"not an image: {problem}"
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return IMAGE
    if is_dicom_file(path):
        return DICOM
    if suffix in (".dcm", ".dicom"):
        return IMAGE
    return REPORT if suffix == ".txt" else f"not an image: {suffix or 'no suffix'}"


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM, by its content; a DICOM file often has no suffix."""
    try:
        with open(path, "rb") as file:
            return is_dicom(file.read(HEAD))
    except OSError:
        return False


def is_folder_of_images(folder: Path) -> bool:
    """Whether a folder holds an image at any depth."""
    return folder.is_dir() and any(kind in (IMAGE, DICOM) for _, kind in files_below(folder))


def read_folder(
    source: Path, *, study_pattern: str | None = None, patient_pattern: str | None = None
) -> Iterator[Study | Rejection]:
    """Read a folder of images by the rule at the top of this file.

    If at least one study has a text, studies without one are rejected. The projection is taken from the word
    `frontal` or `lateral` in a file's name; without such a word, from the tags of a DICOM file.

    Args:
        source: Folder of images.
        study_pattern: Regular expression whose one group finds the study in the path of an image; the path is
            relative to the source and has slashes. Images with the same study are its views.
        patient_pattern: Regular expression whose one group finds the patient in the path of an image.

    Raises:
        RadScribeError: a pattern is not valid, or matches no image.
    """
    find_study = PathPattern(study_pattern, "study") if study_pattern is not None else None
    find_patient = PathPattern(patient_pattern, "patient") if patient_pattern is not None else None
    images_of, texts = yield from _grouped(source, find_study)
    owned = yield from _owned(source, images_of, find_study, find_patient)
    with_texts = any(study.identifier in texts for study in owned)
    for study in owned:
        yield _study(source, study, texts, with_texts)
    named = {_identifier(key) for key in images_of}
    for identifier in sorted(texts.keys() - named):
        yield Rejection(
            texts[identifier].relative_to(source).as_posix(),
            str(texts[identifier]),
            f"{NO_IMAGE}: no study is named '{identifier}', so this is no report",
        )


class _Owned(NamedTuple):
    """A study whose patient is known."""

    identifier: str
    patient_id: str
    images: list[Path]


#: What `_grouped` returns: images by study, and texts by the study that they are named after.
_Groups = tuple[dict[str, list[Path]], dict[str, Path]]


def _grouped(source: Path, find_study: PathPattern | None) -> Generator[Rejection, None, _Groups]:
    """Group the images by study. The key of a study that is a single image begins with a slash."""
    groups: dict[str, list[Path]] = {}
    texts: dict[str, Path] = {}
    for path, kind in files_below(source):
        inside = path.relative_to(source)
        name = inside.as_posix()
        if kind == REPORT:
            if texts.setdefault(inside.with_suffix("").as_posix(), path) is not path:
                yield Rejection(name, str(path), DUPLICATE_ID)
        elif kind not in (IMAGE, DICOM):
            yield Rejection(name, str(path), kind)
        elif find_study is None:
            alone = len(inside.parts) == 1
            # No relative path is such a key, so the image is not grouped with a sub-folder of the same name.
            key = f"/{name}" if alone else inside.parent.as_posix()
            groups.setdefault(key, []).append(path)
        elif identifier := find_study.find(name):
            groups.setdefault(identifier, []).append(path)
        else:
            yield Rejection(name, str(path), find_study.reason)
    if find_study:
        find_study.require_match()
    return groups, texts


def _identifier(key: str) -> str:
    return without_suffix(PurePosixPath(key[1:])).as_posix() if key.startswith("/") else key


def _owned(
    source: Path,
    images_of: Mapping[str, list[Path]],
    find_study: PathPattern | None,
    find_patient: PathPattern | None,
) -> Generator[Rejection, None, list[_Owned]]:
    """Find the patient of each study, and reject studies of several patients or too many images."""
    studies: list[_Owned] = []
    for key, images in images_of.items():
        identifier = _identifier(key)
        if len(images) > MAX_VIEWS:
            advice = "--study_pattern '(.*)[.]' makes each image a study"
            yield Rejection(identifier, str(source / key), f"too many views: {len(images)} images, {advice}")
            continue
        if find_patient:
            patients = {find_patient.find(path.relative_to(source).as_posix()) for path in images}
        else:
            # A study that a pattern finds need not be named like a path.
            patients = {identifier if find_study else _patient(identifier)}
        if find_patient and "" in patients:
            yield Rejection(identifier, str(images[0]), find_patient.reason)
        elif len(patients) > 1:
            several = ", ".join(sorted(patients))
            yield Rejection(
                identifier, str(images[0]), f"{BAD_RECORD}: its images are of several patients: {several}"
            )
        else:
            studies.append(_Owned(identifier, patients.pop(), images))
    if find_patient:
        find_patient.require_match()
    return studies


def _study(source: Path, owned: _Owned, texts: Mapping[str, Path], with_texts: bool) -> Study | Rejection:
    """A study with its text, or its rejection if it has no text although other studies have one."""
    identifier, patient_id, images = owned
    sections = {}
    if with_texts:
        if identifier not in texts:
            return Rejection(identifier, str(source / f"{identifier}.txt"), NO_REPORT)
        try:
            findings = stated(read_text(texts[identifier], MAX_REPORT_BYTES))
        except RadScribeError as error:
            return Rejection(identifier, str(texts[identifier]), f"{BAD_RECORD}: {error}")
        if not findings:
            return Rejection(identifier, str(texts[identifier]), EMPTY_REPORT)
        sections["findings"] = findings
    views = frontal_first(view_of(path, _projection_in_name(path)) for path in images)
    return Study(identifier, patient_id, views, sections=sections)


def _patient(identifier: str) -> str:
    """The parent folder of a study's folder, or the study itself if it lies directly in the source."""
    path = PurePosixPath(identifier)
    return path.parent.as_posix() if len(path.parts) > 1 else identifier


def _projection_in_name(path: Path) -> Projection:
    name = path.stem.lower()
    if ("frontal" in name) == ("lateral" in name):
        return "unknown"
    return "frontal" if "frontal" in name else "lateral"
