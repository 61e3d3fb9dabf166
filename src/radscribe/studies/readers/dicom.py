"""DICOM files, grouped into studies by their tags: one file is one view.

Ids are those of the tags, replaced by keyed hashes unless they are kept. So are the names of files, which
often hold a patient's name or a date. A patient's studies stand in the order of their dates, which are left
out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from radscribe.errors import RadScribeError
from radscribe.files import file_problem
from radscribe.studies.dicom_gate import WAY_OUT, gate_by_tags
from radscribe.studies.dicom_tags import numbers, projection_in, text
from radscribe.studies.image_error import ImageError
from radscribe.studies.projections import frontal_first
from radscribe.studies.pseudonyms import Pseudonyms, pseudonyms_of
from radscribe.studies.readers.dicom_files import (
    DICOMDIR,
    DicomFile,
    Found,
    find_files,
    named_files,
)
from radscribe.studies.readers.folder import MAX_VIEWS
from radscribe.studies.rejection import BAD_RECORD, DUPLICATE_ID, Rejection
from radscribe.studies.study import Study, View


@dataclass(frozen=True, slots=True)
class _Image:
    """What is needed of the tags of one file.

    Attributes:
        study: StudyInstanceUID; without one, a NUL character and the name of the file.
        patient, instance: PatientID with its issuer, and SOPInstanceUID; empty if they are not there.
        when: Date and time of the study.
        place: Numbers of the series and of the image in it, and the name of the file.
        view: The file as a view.
    """

    study: str
    patient: str
    instance: str
    when: str
    place: tuple[float, float, str]
    view: View


def read_dicom_files(
    source: Path, *, pseudonym_key: Path | None = None, keep_ids: bool = False, chest_only: bool = True
) -> Iterator[Study | Rejection]:
    """Read DICOM files by the rule at the top of this file.

    A file that is no radiograph of the chest by its tags is rejected. A file without StudyInstanceUID is a
    study, and a study without PatientID is its own patient.

    Args:
        source: A folder, a zip archive, a DICOMDIR or a DICOM file.
        pseudonym_key: File with the secret key of the hashes; it is made if it is not there. Without one, a
            key is drawn that nobody keeps, so the ids of two readings cannot be linked.
        keep_ids: Keep StudyInstanceUID, PatientID and the names of files.
        chest_only: Reject what is no radiograph of the chest by its tags or its pixels; without it, every
            file with pixels is taken.

    Raises:
        RadScribeError: the key or the source cannot be read, or the options contradict each other.
    """
    if keep_ids and pseudonym_key is not None:
        raise RadScribeError(
            "--keep_ids keeps the ids, and --pseudonym_key replaces them", "Leave one of them out"
        )
    pseudonyms = None if keep_ids else pseudonyms_of(pseudonym_key) if pseudonym_key else Pseudonyms()
    names = _Names(pseudonyms, chest_only)
    studies: dict[str, list[_Image]] = {}
    for found in find_files(source):
        read = _read(found, names)
        if isinstance(read, _Image):
            studies.setdefault(read.study, []).append(read)
        else:
            yield from read
    for images in _in_order(studies.values()):
        yield from _study(images, names)


class _Names:
    """What ids and files are called in records: by their own names, or by pseudonyms.

    Args:
        pseudonyms: Pseudonyms; None keeps ids and names.
        chest_only: Refuse what is no radiograph of the chest.
    """

    def __init__(self, pseudonyms: Pseudonyms | None, chest_only: bool):
        self.pseudonyms = pseudonyms
        self.chest_only = chest_only

    def of(self, kind: str, identifier: str) -> str:
        """The name of a study or a patient."""
        return self.pseudonyms.of(kind, identifier) if self.pseudonyms else identifier

    def of_file(self, name: str) -> str:
        """The name of a file by its path within the source."""
        return f"file-{self.pseudonyms.of('file', name)}" if self.pseudonyms else name

    def view(self, found: Found) -> View:
        """The file as a view. A file by its own name is opened by its path, which no option changes."""
        named = self.pseudonyms is None and not found.member
        if named and self.chest_only:
            return View(found.path)
        name = str(found.path) if named else self.of_file(found.name)
        return View(DicomFile(found.path, found.member, name, self.chest_only))


def _read(found: Found, names: _Names) -> _Image | list[Rejection]:
    """What is needed of the tags of a file, or why it is not used."""
    own = names.of_file(found.name)
    view = names.view(found)
    if found.problem:
        return [Rejection(own, view.name, found.problem)]
    if not found.is_dicom:  # It is called DICOM by its name; decoding tells what it is.
        return _Image(f"\0{found.name}", "", "", "", (0, 0, found.name), view)
    try:
        header = DicomFile(found.path, found.member, own).header()
    except ImageError as error:
        return [Rejection(own, view.name, error.reason)]
    if text(header.file_meta, "MediaStorageSOPClassUID") == DICOMDIR:
        return _missing(found, names)
    study = text(header, "StudyInstanceUID")
    if names.chest_only and (reason := gate_by_tags(header).reason):
        return [Rejection(names.of("study", study) if study else own, view.name, reason + WAY_OUT)]
    patient, issuer = text(header, "PatientID"), text(header, "IssuerOfPatientID")
    series, number = (next(iter(numbers(header, name)), 0.0) for name in ("SeriesNumber", "InstanceNumber"))
    return _Image(
        study=study or f"\0{found.name}",
        patient=f"{patient}^^^{issuer}" if patient and issuer else patient,
        instance=text(header, "SOPInstanceUID"),
        when=f"{text(header, 'StudyDate'):8}{text(header, 'StudyTime')}",
        place=(series, number, found.name),
        view=View(view.source, projection_in(header)),
    )


def _missing(directory: Found, names: _Names) -> list[Rejection]:
    """The files that a DICOMDIR names and that are not there; the DICOMDIR itself is not listed."""
    if directory.member:
        return []
    try:
        named = named_files(directory.path)
    except RadScribeError as error:
        return [Rejection(names.of_file(directory.name), directory.name, f"{BAD_RECORD}: {error}")]
    within = PurePosixPath(directory.name).parent
    return [
        Rejection(lost, lost, f"{problem}: {directory.path.name} names it")
        for name in named
        if (problem := file_problem(directory.path.parent / name))
        for lost in [names.of_file((within / name).as_posix())]
    ]


def _in_order(studies: Iterable[list[_Image]]) -> list[list[_Image]]:
    """The studies with their images in order: patients as they are met, each one's studies by date."""
    ordered = [sorted(images, key=lambda image: image.place) for images in studies]
    patients: dict[str, list[list[_Image]]] = {}
    for images in ordered:
        patients.setdefault(images[0].patient or images[0].study, []).append(images)
    return [
        images
        for of_patient in patients.values()
        for images in sorted(of_patient, key=lambda images: images[0].when)
    ]


def _study(images: list[_Image], names: _Names) -> Iterator[Study | Rejection]:
    """The study of these images, and the images that are in it twice."""
    first = images[0]
    alone = first.study.startswith("\0")
    own = names.of_file(first.study[1:]) if alone else names.of("study", first.study)
    unique: dict[str, _Image] = {}
    for image in images:
        if unique.setdefault(image.instance or f"\0{image.place[2]}", image) is not image:
            yield Rejection(own, image.view.name, f"{DUPLICATE_ID}: another file has the same SOPInstanceUID")
    patients = {image.patient for image in images}
    if len(patients) > 1:
        yield Rejection(own, first.view.name, f"{BAD_RECORD}: its images are of {len(patients)} patients")
    elif len(unique) > MAX_VIEWS:
        yield Rejection(own, first.view.name, f"too many views: {len(unique)} images")
    else:
        patient = names.of("patient", first.patient) if first.patient else own
        yield Study(own, patient, frontal_first(image.view for image in unique.values()))
