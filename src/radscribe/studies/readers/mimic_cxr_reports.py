"""The reports of MIMIC-CXR: texts in a folder or in their zip archive, or the table of their sections."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Generator, Mapping, Set
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from radscribe.errors import RadScribeError
from radscribe.files import file_problem, read_text
from radscribe.studies.readers.folder import MAX_REPORT_BYTES, REPORT
from radscribe.studies.readers.image_tree import files_of_tree
from radscribe.studies.readers.large_tables import rows_of, table_path
from radscribe.studies.rejection import BAD_RECORD, DUPLICATE_ID, NO_IMAGE, NO_REPORT, Rejection
from radscribe.studies.sections import HAND_RULED, LAST_PARAGRAPH, hand_ruled_conclusion, report_sections

#: The archive of all texts, which PhysioNet offers beside the DICOM tree.
REPORTS_ZIP = "mimic-cxr-reports.zip"
#: The table that the authors' program writes; others have made it with more columns.
SECTIONED = "mimic_cxr_sectioned.csv"
#: Name of a report's file: `s` and the id of its study.
REPORT_NAME = re.compile(r"s(\d{8})")
_SECTIONS = ("impression", "findings", LAST_PARAGRAPH, "comparison")
_MORE_SECTIONS = ("indication", "history")
_NAME_THEM = f"Name them with --reports: {REPORTS_ZIP}, {SECTIONED}, or the folder of MIMIC-CXR's texts"
#: What an archive may raise on damaged or locked entries.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


class Reports(NamedTuple):
    """Reports of studies by the id of the study.

    Attributes:
        places: Where each report stands, for messages; a study that is not among them has no report.
        read: Function that gives the sections of a study by name.
        without: Why a study has no report.
        left_out: Studies that are left out because the authors ruled on them by hand.
    """

    places: Mapping[str, str]
    read: Callable[[str], dict[str, str]]
    without: str
    left_out: Set[str] = frozenset()

    def sections(self, study: str) -> tuple[dict[str, str], str]:
        """The sections of a study's report, and why it cannot be used (empty if it can).

        The history is the indication of a report that states no other.
        """
        if study not in self.places:
            return {}, self.without
        if study in self.left_out:
            return {}, f"{NO_REPORT}: the standard sections leave this study out, --hand_ruled takes it"
        try:
            found = self.read(study)
        except RadScribeError as error:
            return {}, f"{BAD_RECORD}: {error}"
        if not found.get("indication"):
            found["indication"] = found.get("history", "")
        return found, ""


def open_reports(
    source: Path, given: Path | None, beside: Mapping[str, str], hand_ruled: bool
) -> Generator[Rejection, None, Reports]:
    """The reports of MIMIC-CXR, wherever they are.

    Without `given` these are looked for, and the first that is there is taken: `mimic_cxr_sectioned.csv` and
    `mimic-cxr-reports.zip` in the source, texts beside the images.

    Args:
        source: Folder of MIMIC-CXR-JPG.
        given: The zip archive, the table of sections, or a folder with one of them or with texts.
        beside: Path of each text that stands among the images, by the id of its study.
        hand_ruled: Whether studies that the authors ruled on by hand are taken, with the conclusion that they
            ruled as impression.

    Raises:
        RadScribeError: there is no report, or the archive or the table cannot be read.
    """
    if given and not given.is_dir():
        place: Path | None = given
    else:
        folder = given or source
        archive = folder / REPORTS_ZIP
        place = table_path(folder, SECTIONED) or (archive if archive.exists() else None)
        if given and place is None:
            beside = yield from _texts_below(given)
    if place is None:
        if not beside:
            raise RadScribeError(f"{given or source} holds no report of MIMIC-CXR", _NAME_THEM)
        return _of_texts(beside, lambda study: read_text(Path(beside[study]), MAX_REPORT_BYTES), hand_ruled)
    if problem := file_problem(place):
        raise RadScribeError(f"cannot read {place}: {problem}", _NAME_THEM)
    if place.suffix.lower() == ".zip":
        return (yield from _of_zip(place, hand_ruled))
    if hand_ruled:
        raise RadScribeError(
            f"--hand_ruled needs the texts of the reports, and {place} has only their sections",
            f"Name the texts: --reports {REPORTS_ZIP}; or leave --hand_ruled out",
        )
    return (yield from _of_table(place))


def _texts_below(folder: Path) -> Generator[Rejection, None, dict[str, str]]:
    """The texts in a folder of MIMIC-CXR by study; its images are not looked at."""
    root = folder / "files" if (folder / "files").is_dir() else folder
    found: dict[str, str] = {}
    for file in files_of_tree(root):
        named = REPORT_NAME.fullmatch(file.stem) if file.kind == REPORT else None
        if named and found.setdefault(named[1], file.path) != file.path:
            yield Rejection(named[1], file.path, f"{DUPLICATE_ID}: {found[named[1]]} is taken")
    return found


def _of_texts(places: Mapping[str, str], read: Callable[[str], str], hand_ruled: bool) -> Reports:
    """Reports whose sections are found in their texts; `read` gives the text of a study."""

    def sections(study: str) -> dict[str, str]:
        text = read(study).replace("\r\n", "\n").replace("\r", "\n")
        if study in HAND_RULED:
            return {"impression": hand_ruled_conclusion(study, text)}
        return report_sections(text)

    return Reports(places, sections, NO_REPORT, frozenset() if hand_ruled else HAND_RULED.keys())


def _of_zip(path: Path, hand_ruled: bool) -> Generator[Rejection, None, Reports]:
    try:
        archive = zipfile.ZipFile(path)
    except _ZIP_ERRORS as error:
        raise RadScribeError(f"{path} is damaged or cut off: {error}", "Fetch it again") from error
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = PurePosixPath(entry.filename)
        named = REPORT_NAME.fullmatch(name.stem) if name.suffix.lower() == ".txt" else None
        if not named:
            if not entry.is_dir():
                yield Rejection(entry.filename, str(path), f"{NO_IMAGE}: it is not named like a report")
        elif entries.setdefault(named[1], entry) is not entry:
            yield Rejection(named[1], f"{path}, {entry.filename}", DUPLICATE_ID)

    def text(study: str) -> str:
        entry = entries[study]
        if entry.file_size > MAX_REPORT_BYTES:
            raise RadScribeError(f"its {entry.file_size:,} bytes are more than {MAX_REPORT_BYTES:,}")
        try:
            data = archive.read(entry)
        except _ZIP_ERRORS as error:
            raise RadScribeError(f"cannot be unpacked: {error}") from error
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    places = {study: f"{path}, {entry.filename}" for study, entry in entries.items()}
    return _of_texts(places, text, hand_ruled)


def _of_table(path: Path) -> Generator[Rejection, None, Reports]:
    """The sections in a table; it may also have the columns `indication` and `history`."""
    names = (*_SECTIONS, *_MORE_SECTIONS)
    found: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for row in rows_of(path, ("study", *_SECTIONS), _MORE_SECTIONS):
        if isinstance(row, Rejection):
            yield row
            continue
        line, (study, *cells) = row
        place = f"{path}, line {line}"
        identifier = study.removeprefix("s")
        if not identifier.isdigit():
            yield Rejection(
                f"line {line}", place, f"{BAD_RECORD}: its study is '{study}', not like s50414267"
            )
        elif identifier in found:
            yield Rejection(identifier, place, DUPLICATE_ID)
        else:
            found[identifier], places[identifier] = cells, place
    return Reports(
        places,
        lambda study: dict(zip(names, found[study], strict=True)),
        f"{NO_REPORT}: {path.name} has no row for it",
    )
