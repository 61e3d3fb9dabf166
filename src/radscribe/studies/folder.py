"""A folder of PNG and JPEG images, with or without report texts.

One rule, whatever the depth: an image that lies directly in the source folder is a study; a sub-folder
that directly holds images is a study of all of them. The id is the path within the source, without a
file's suffix; `<id>.txt` in the source holds the findings. A study deeper than one folder belongs to the
patient whose folder it stands in (`patient7/study2` to `patient7`); any other is its own patient.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from radscribe.studies.images import IMAGE_SUFFIXES
from radscribe.studies.projections import frontal_first
from radscribe.studies.rejection import EMPTY_REPORT, NO_REPORT, Rejection
from radscribe.studies.study import Projection, Study, View
from radscribe.studies.text_files import read_text

#: A sub-folder with more images is a pile of studies (`NORMAL/`, `images/`), not one examination.
MAX_VIEWS = 16


def images_below(folder: Path) -> Iterator[tuple[Path, list[Path], list[Path]]]:
    """Every folder below, and including, this one: its path, its images and its DICOM files, sorted.

    Hidden files and folders are left out; symbolic links to folders are followed, each folder once.
    """
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        paths = [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
        yield Path(parent), images, [path for path in paths if path.suffix.lower() in (".dcm", ".dicom")]


def read_folder(source: Path) -> Iterator[Study | Rejection]:
    """Read a folder of images by the rule above.

    Where at least one study has a text, studies without one are rejected. The projection is taken from
    the word `frontal` or `lateral` in a file's name, else unknown.
    """
    studies: list[tuple[str, str, list[Path]]] = []
    for folder, images, dicom_files in images_below(source):
        for path in dicom_files:
            name = path.relative_to(source).with_suffix("").as_posix()
            yield Rejection(name, str(path), "DICOM is not read yet: convert it to PNG")
        if folder == source:
            for path in images:
                identifier = path.relative_to(source).with_suffix("").as_posix()
                studies.append((identifier, identifier, [path]))
        elif len(images) > MAX_VIEWS:
            identifier = folder.relative_to(source).as_posix()
            advice = "prepare that folder itself to make each image a study"
            yield Rejection(identifier, str(folder), f"too many views: {len(images)} images, {advice}")
        elif images:
            inside = folder.relative_to(source)
            owner = inside.parent if len(inside.parts) > 1 else inside
            studies.append((inside.as_posix(), owner.as_posix(), images))

    texts = {identifier: source / f"{identifier}.txt" for identifier, _, _ in studies}
    texts = {identifier: path for identifier, path in texts.items() if path.is_file()}
    for identifier, patient_id, images in studies:
        sections = {}
        if texts:
            if identifier not in texts:
                yield Rejection(identifier, str(source / f"{identifier}.txt"), NO_REPORT)
                continue
            findings = read_text(texts[identifier]).strip()
            if not findings:
                yield Rejection(identifier, str(texts[identifier]), EMPTY_REPORT)
                continue
            sections["findings"] = findings
        views = frontal_first(View(path, _projection_in_name(path)) for path in images)
        yield Study(identifier, patient_id, views, sections=sections)


def _projection_in_name(path: Path) -> Projection:
    name = path.stem.lower()
    if ("frontal" in name) == ("lateral" in name):
        return "unknown"
    return "frontal" if "frontal" in name else "lateral"
