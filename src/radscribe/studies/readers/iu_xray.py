"""IU X-Ray (Demner-Fushman et al., JAMIA 2016), as Kaggle distributes it and as Open-i distributes it.

Both forms give the same study id (`CXR1000`) and patient id (`1000`). The third form in use, R2Gen's
`annotation.json`, is read by `r2gen_annotation`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from radscribe.errors import RadScribeError
from radscribe.files import SURPLUS_FIELDS, read_bytes, read_rows, require_columns
from radscribe.studies.images import IMAGE_SUFFIXES, view_of
from radscribe.studies.projections import frontal_first, projection_of
from radscribe.studies.rejection import (
    BAD_RECORD,
    DUPLICATE_ID,
    EMPTY_REPORT,
    NO_IMAGE_FILE,
    NO_REPORT,
    NO_VIEW,
    Rejection,
    has_report,
    stated,
)
from radscribe.studies.study import SECTIONS, Study, View

REPORTS_FILE = "indiana_reports.csv"
PROJECTIONS_FILE = "indiana_projections.csv"
#: Largest size of an XML report in bytes. The longest reports have some ten thousand bytes.
_MAX_XML_BYTES = 1_000_000
_SURPLUS = f"{BAD_RECORD}: more fields than the header has columns"
_IMAGE_FOLDERS = ("images_normalized", "images/images_normalized", "images")


def read_iu_kaggle(source: Path, *, images: Path | str | None = None) -> Iterator[Study | Rejection]:
    """Read the two Kaggle tables; views have the stated projection, and frontal views come first.

    Args:
        source: Folder that holds `indiana_reports.csv` and `indiana_projections.csv`.
        images: Folder of the images; by default the first of `images_normalized`, `images/images_normalized`
            and `images` that exists.

    Raises:
        RadScribeError: a table, a column or the image folder is missing.
    """
    folder = _image_folder(source, images)
    there = set(os.listdir(folder))
    path = source / PROJECTIONS_FILE
    columns, projection_rows = read_rows(path)
    require_columns(path, columns, ("uid", "filename", "projection"))
    views: dict[str, list[View]] = defaultdict(list)
    unlisted = {name for name in there if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES}
    for line, row in projection_rows:
        if SURPLUS_FIELDS in row:
            yield Rejection(f"line {line}", str(path), _SURPLUS)
            continue
        view = View(folder / row["filename"].strip(), projection_of(row["projection"]))
        views[row["uid"].strip()].append(view)
        unlisted.discard(row["filename"].strip())

    path = source / REPORTS_FILE
    columns, report_rows = read_rows(path)
    require_columns(path, columns, ("uid", "findings", "impression"))
    for line, row in report_rows:
        number = row["uid"].strip()
        if SURPLUS_FIELDS in row:
            views.pop(number, None)
            yield Rejection(f"CXR{number}", f"{path}, line {line}", _SURPLUS)
            continue
        identifier = f"CXR{number}"
        listed = views.pop(number, [])
        sections = {name: text for name in SECTIONS if (text := row.get(name, "").strip())}
        for name in ("findings", "impression"):
            if not stated(sections.get(name, "")):
                sections.pop(name, None)
        if not listed:
            yield Rejection(identifier, str(source / PROJECTIONS_FILE), NO_VIEW)
        elif not any(Path(view.name).name in there for view in listed):
            yield Rejection(identifier, str(folder), NO_IMAGE_FILE)
        elif not has_report(sections):
            yield Rejection(identifier, str(path), EMPTY_REPORT)
        else:
            yield Study(identifier, number, frontal_first(listed), sections=sections)
    for number in views:
        yield Rejection(f"CXR{number}", str(path), NO_REPORT)
    for name in sorted(unlisted):
        yield Rejection(name, str(folder / name), f"{NO_REPORT}: {PROJECTIONS_FILE} does not list it")


def _image_folder(source: Path, images: Path | str | None) -> Path:
    candidates = [Path(images)] if images else [source / name for name in _IMAGE_FOLDERS]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise RadScribeError(
        f"no image folder: looked for {', '.join(map(str, candidates))}",
        "Name the folder of the images with --images",
    )


def openi_reports(source: Path) -> list[Path]:
    """The Open-i report files in a folder or in its sub-folder `ecgen-radiology`, sorted by number."""
    folder = next((f for f in (source / "ecgen-radiology", source) if any(f.glob("*.xml"))), source)
    return sorted(folder.glob("*.xml"), key=lambda path: (len(path.stem), path.stem))


def read_iu_openi(source: Path, *, images: Path | str | None = None) -> Iterator[Study | Rejection]:
    """Read Open-i's XML reports; views are found by the ids of their `parentImage` elements.

    Images are PNG files, as in `NLMCXR_png`, or DICOM files, as in `NLMCXR_dcm`; where an image is there in
    both forms, the PNG is taken. The XML does not state the projection of an image: that of a DICOM file is
    in its tags, and that of a PNG is unknown.

    Args:
        source: Folder that holds the XML files or their folder `ecgen-radiology`.
        images: Folder that is searched for the images, with its sub-folders; `source` by default.

    Raises:
        RadScribeError: there is no XML file.
    """
    reports = openi_reports(source)
    if not reports:
        raise RadScribeError(f"{source} has no ecgen-radiology/*.xml and no *.xml")
    folder = Path(images) if images else source
    files: dict[str, Path] = {}
    found = sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    for file in sorted(found, key=_is_dicom):
        identifier = _image_id(file)
        if identifier and files.setdefault(identifier, file) != file:
            yield Rejection(identifier, str(file), f"{DUPLICATE_ID}: {files[identifier]} is taken")
    unnamed = set(files)
    for path in reports:
        yield _openi_study(path, folder, files, unnamed)
    for name in sorted(unnamed):
        yield Rejection(name, str(files[name]), f"{NO_REPORT}: no XML file names it")


def _is_dicom(file: Path) -> bool:
    return file.suffix.lower() == ".dcm"


def _image_id(file: Path) -> str:
    """The id by which a report names an image; empty if the file is none."""
    if _is_dicom(file):
        # The names of the DICOM files are the ids without the letters before the number of the report.
        return file.stem if file.stem.startswith("CXR") else f"CXR{file.stem}"
    return file.stem if file.suffix.lower() in IMAGE_SUFFIXES else ""


def _listed_id(identifier: str, files: dict[str, Path]) -> str:
    """The id of an image as its file has it. Report 1 has its number twice in it, its DICOM files once."""
    once = re.sub(r"^CXR(\d+)_\1_", r"CXR\1_", identifier)
    return once if identifier not in files and once in files else identifier


def _openi_study(path: Path, folder: Path, files: dict[str, Path], unnamed: set[str]) -> Study | Rejection:
    """The study of one XML file; its images are removed from `unnamed`."""
    try:
        data = read_bytes(path, _MAX_XML_BYTES)
        if b"<!ENTITY" in data:  # nested entities can fill the memory; no report declares any
            return Rejection(path.stem, str(path), f"{BAD_RECORD}: it declares entities")
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, RadScribeError, ValueError, LookupError) as error:
        return Rejection(path.stem, str(path), f"{BAD_RECORD}: {error}")
    found = root.find(".//uId")
    identifier = found.get("id", "") if found is not None else ""
    if not identifier:
        return Rejection(path.stem, str(path), f"{BAD_RECORD}: no <uId id=...>")
    image_ids = [_listed_id(element.get("id", ""), files) for element in root.iter("parentImage")]
    unnamed.difference_update(image_ids)
    if not image_ids:
        return Rejection(identifier, str(path), NO_VIEW)
    if not any(image_id in files for image_id in image_ids):
        return Rejection(identifier, str(folder), NO_IMAGE_FILE)
    sections = {}
    for element in root.iter("AbstractText"):
        name = element.get("Label", "").lower()
        text = "".join(element.itertext()).strip()
        if name in SECTIONS and text:
            sections[name] = text
    if not has_report(sections):
        return Rejection(identifier, str(path), EMPTY_REPORT)
    number = re.fullmatch(r"CXR(\d+)", identifier)
    return Study(
        id=identifier,
        patient_id=number[1] if number else identifier,
        views=frontal_first(
            view_of(files.get(image_id, folder / f"{image_id}.png")) for image_id in image_ids
        ),
        sections=sections,
    )
