"""MIMIC-CXR-JPG (Johnson et al., 2019) as PhysioNet distributes it, or MIMIC-CXR in DICOM; with the reports.

Versions 2.0.0 and 2.1.0 have the same names of files:

    mimic-cxr-2.0.0-metadata.csv.gz     a row per image: patient, study, view, date and time
    mimic-cxr-2.0.0-split.csv.gz        the official split of each image
    mimic-cxr-2.0.0-chexpert.csv.gz     labels of each study, and -negbio; -2.1.0-test-set-labeled.csv
    files/p10/p10000032/s50414267/02aa804e-...-....jpg

MIMIC-CXR has the same tree with `.dcm`, and `cxr-record-list.csv.gz` in the place of the metadata. Only it
holds reports, and `mimic_cxr_reports` finds them. The id of a study is its `study_id`, and the patient is the
`subject_id`. `Study.prior` follows date and time; the order of study ids is not that of time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Set
from pathlib import Path
from typing import NamedTuple

from radscribe.errors import RadScribeError
from radscribe.studies.projections import projection_of
from radscribe.studies.readers.choices import MimicLabels, ReportSections, Unit, require_choice
from radscribe.studies.readers.dicom_files import DicomFile
from radscribe.studies.readers.examinations import (
    ListedImage,
    chosen_sections,
    in_units,
    with_priors,
)
from radscribe.studies.readers.folder import IMAGE, REPORT
from radscribe.studies.readers.image_tree import DICOM_SUFFIXES, files_of_tree
from radscribe.studies.readers.mimic_cxr_reports import REPORT_NAME, Reports, open_reports
from radscribe.studies.readers.mimic_cxr_tables import (
    SPLIT,
    Examination,
    Labels,
    by_image,
    by_tags,
    examinations_in,
    labels_in,
    list_of_images,
    observations_in,
    table_of,
)
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


class _Tables(NamedTuple):
    """What the files say beside the metadata; what a study takes from a mapping is removed from it.

    Attributes:
        root: Folder of the images.
        files: Path of each image by its id.
        splits: Word for the split of each image by its id.
        labels: Labels by study.
        suffix: Suffix of the images, for messages.
    """

    root: Path
    files: dict[str, str]
    splits: dict[str, str]
    labels: Labels
    suffix: str


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
    """Read MIMIC-CXR-JPG or MIMIC-CXR with its official split; every image, row and report is accounted for.

    DICOM files are taken as they are: their archive holds radiographs of the chest only. Without metadata in
    the source, projections, dates and times are those of their tags.

    Args:
        source: Folder of MIMIC-CXR-JPG, or of MIMIC-CXR with the table of splits of MIMIC-CXR-JPG; tables may
            be as they come or unpacked.
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
    listing, is_metadata = list_of_images(source)
    root = _image_folder(source, images)
    files, texts = yield from _walked(root, source)
    found = yield from open_reports(source, Path(reports) if reports else None, texts, hand_ruled)
    examinations = yield from examinations_in(listing, metadata=is_metadata)
    splits = yield from by_image(table_of(source, SPLIT), "split")
    suffix = Path(next(iter(files.values()), ".jpg" if is_metadata else ".dcm")).suffix
    tables = _Tables(root, files, splits, (yield from labels_in(source, labels)), suffix)
    choice = _Choice(unit, frontal_only, sections, complete, last_paragraph)
    patients: dict[str, list[str]] = {}
    for identifier, examination in examinations.items():
        patients.setdefault(examination.patient, []).append(identifier)
    for identifiers in patients.values():
        of_patient = {identifier: examinations[identifier] for identifier in identifiers}
        if not is_metadata:
            of_patient = {identifier: by_tags(one, files) for identifier, one in of_patient.items()}
        yield from with_priors(
            (one.time, list(_records(identifier, one, tables, found, choice)))
            for identifier, one in of_patient.items()
        )
    yield from _left_over(tables, found, examinations.keys(), listing.name)


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
    for file in files_of_tree(root, dicom=True):
        named = REPORT_NAME.fullmatch(file.stem) if file.kind == REPORT else None
        if file.kind == IMAGE or named:
            taken, name = (texts, named[1]) if named else (files, file.stem)
            if taken.setdefault(name, file.path) != file.path:
                yield Rejection(name, file.path, f"{DUPLICATE_ID}: {taken[name]} is taken")
        elif file.folder != str(source):
            reason = f"{NO_IMAGE}: it is not named like a report" if file.kind == REPORT else file.kind
            yield Rejection(file.stem, file.path, reason)
    return files, texts


def _records(
    identifier: str, examination: Examination, tables: _Tables, reports: Reports, choice: _Choice
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
            listed.append(ListedImage(image, _view(file, view_words), view_words))
        else:
            missing.append(image)
    if not listed:
        yield Rejection(identifier, str(folder), NO_IMAGE_FILE)
        return
    for image in missing:
        name = image if choice.unit == "images" else identifier
        yield Rejection(name, str(folder / f"{image}{tables.suffix}"), "missing")
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
        observations = observations_in(tables.labels.names, cells) if cells else {}
    except ValueError as error:
        yield Rejection(identifier, str(folder), f"{BAD_RECORD}: {error}")
        return
    study = Study(identifier, patient, (), split=split, sections=kept, observations=observations)
    yield from in_units(study, listed, choice.unit, choice.frontal_only)


def _view(file: str, words: str) -> View:
    """The view in a file, whose projection the words state."""
    path = Path(file)
    is_dicom = path.suffix.lower() in DICOM_SUFFIXES
    return View(DicomFile(path, "", file, chest_only=False) if is_dicom else path, projection_of(words))


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
