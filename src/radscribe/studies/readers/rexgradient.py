"""ReXGradient-160K (Zhang et al., 2025) as its authors distribute it on the Hugging Face hub.

    metadata/train_metadata_view_position.json      studies by id: report, date, images and their views
    deid_png/<patient>/<accession>/studies/<study>/series/<series>/instances/<image>.png

The files of the splits begin with `train_`, `valid_` and `test_`. The tables beside them, such as
`train_metadata.csv`, name no images and are not needed. The patient of a study is what stands in its id
before the first underscore.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from radscribe.errors import RadScribeError
from radscribe.files import parse_json, read_text
from radscribe.studies.projections import projection_of
from radscribe.studies.readers.choices import ReportSections, Unit, require_choice
from radscribe.studies.readers.examinations import ListedImage, chosen_sections, in_units, with_priors
from radscribe.studies.readers.folder import IMAGE, REPORT
from radscribe.studies.readers.image_tree import files_of_tree
from radscribe.studies.rejection import (
    BAD_RECORD,
    NO_IMAGE,
    NO_IMAGE_FILE,
    NO_REPORT,
    NO_VIEW,
    Rejection,
)
from radscribe.studies.study import Split, Study, View

#: What the names of a split's files begin with.
_PREFIXES: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
_METADATA = "_metadata_view_position.json"
_TABLE = "_metadata.csv"
_IMAGES = "deid_png"
#: Depth of the folders with images below `deid_png`.
_DEPTH = 7
_SECTIONS = ("Findings", "Impression", "Indication", "Comparison")
UNPACK = f"Unpack the images with: cat {_IMAGES}.part* | tar --zstd -xf -; or name their folder with --images"


class _Choice(NamedTuple):
    """What the user chose; see `read_rexgradient`."""

    unit: Unit
    frontal_only: bool
    sections: ReportSections
    complete: bool


class _Images(NamedTuple):
    """The images that are there.

    Attributes:
        root: Folder `deid_png`.
        names: Path of each image below it; what a study takes is removed.
    """

    root: Path
    names: set[str]


def metadata_folder(source: Path) -> Path | None:
    """The folder with the metadata of one split or more: in a source, or the source itself; else None."""
    for folder in (source / "metadata", source):
        if any((folder / f"{prefix}{_METADATA}").is_file() for prefix in _PREFIXES.values()):
            return folder
    return None


def read_rexgradient(
    source: Path,
    *,
    images: Path | str | None = None,
    unit: Unit = "studies",
    frontal_only: bool = False,
    sections: ReportSections = "both",
    complete: bool = False,
) -> Iterator[Study | Rejection]:
    """Read ReXGradient-160K with its splits; every image and every study is used or rejected.

    A split whose metadata are not there is left out.

    Args:
        source: Folder with the folder `metadata`.
        images: The folder `deid_png`, or the folder that holds it; by default it lies beside `metadata`.
        unit: `studies`, or `images` for one study per image.
        frontal_only: Take frontal views only.
        sections: Sections that are taken as the report.
        complete: Reject studies that lack one of these sections.

    Raises:
        RadScribeError: the metadata or the images are not there, or the metadata are damaged.
    """
    for option, value, choices in (("unit", unit, Unit), ("sections", sections, ReportSections)):
        require_choice(option, value, choices)
    folder = metadata_folder(source)
    if folder is None:
        raise RadScribeError(
            f"{source} has no metadata/train{_METADATA}, nor that of another split",
            "Give the folder of ReXGradient-160K that holds metadata; its CSV tables name no images",
        )
    there = yield from _walked(_image_folder(folder, images))
    choice = _Choice(unit, frontal_only, sections, complete)
    patients: dict[str, list[tuple[str, list[Study | Rejection]]]] = {}
    for split, prefix in _PREFIXES.items():
        path = folder / f"{prefix}{_METADATA}"
        if path.is_file():
            for identifier, entry in _entries(path).items():
                examination = _date(entry), list(_records(identifier, entry, path, split, there, choice))
                patients.setdefault(identifier.partition("_")[0], []).append(examination)
        elif (folder / f"{prefix}{_TABLE}").is_file():
            reason = f"{NO_IMAGE}: this table names none, and {path.name} is not there"
            yield Rejection(prefix, str(folder / f"{prefix}{_TABLE}"), reason)
    for examinations in patients.values():
        yield from with_priors(examinations)
    for name in sorted(there.names):
        yield Rejection(name, str(there.root / name), f"{NO_REPORT}: no file of metadata names it")


def _image_folder(metadata: Path, images: Path | str | None) -> Path:
    given = Path(images) if images else None
    places = [given / _IMAGES, given] if given else [metadata.parent / _IMAGES, metadata / _IMAGES]
    for folder in places:
        if folder.is_dir():
            return folder
    raise RadScribeError(f"no folder of images: looked for {', '.join(map(str, places))}", UNPACK)


def _walked(root: Path) -> Generator[Rejection, None, _Images]:
    """The images below a folder; everything else is rejected."""
    names = set()
    for file in files_of_tree(root, _DEPTH):
        name = file.path[len(f"{root}/") :]
        if file.kind == IMAGE:
            names.add(name)
        else:
            yield Rejection(name, file.path, f"{NO_IMAGE}: a text" if file.kind == REPORT else file.kind)
    return _Images(root, names)


def _entries(path: Path) -> dict[str, Any]:
    try:
        entries = parse_json(read_text(path))
    except ValueError as error:
        raise RadScribeError(f"{path} is not valid JSON: {error}", "Fetch the file again") from error
    if not isinstance(entries, dict):
        raise RadScribeError(f"{path} does not map ids to studies", "Fetch the file again")
    return entries


def _date(entry: Any) -> str:
    """The date of a study as text that sorts; empty if it is not stated as YYYYMMDD."""
    date = str(entry.get("StudyDate")) if isinstance(entry, dict) else ""
    return date if len(date) == 8 and date.isdigit() else ""


def _records(
    identifier: str, entry: Any, path: Path, split: Split, there: _Images, choice: _Choice
) -> Iterator[Study | Rejection]:
    """The studies of one entry, or why there is none."""
    try:
        listed = _listed(entry)
        texts = {name.lower(): _text(entry, name) for name in _SECTIONS}
    except ValueError as error:
        yield Rejection(identifier, str(path), f"{BAD_RECORD}: {error}")
        return
    if not listed:
        yield Rejection(identifier, str(path), NO_VIEW)
        return
    found, missing = [], []
    for name, words in listed:
        if name in there.names:
            there.names.remove(name)
            found.append(ListedImage(name, View(there.root / name, projection_of(words)), words))
        else:
            missing.append(name)
    if not found:
        yield Rejection(identifier, str((there.root / missing[0]).parent), NO_IMAGE_FILE)
        return
    for name in missing:
        yield Rejection(name if choice.unit == "images" else identifier, str(there.root / name), "missing")
    kept, reason = chosen_sections(texts, choice.sections, choice.complete)
    if reason:
        yield Rejection(identifier, str(path), reason)
        return
    study = Study(identifier, identifier.partition("_")[0], (), split, kept)
    yield from in_units(study, found, choice.unit, choice.frontal_only)


def _listed(entry: Any) -> list[tuple[str, str]]:
    """The path of each image below `deid_png`, and the words for its projection.

    Raises:
        ValueError: the entry does not name its images in this way.
    """
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    paths = entry.get("ImagePath") or []
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ValueError("its 'ImagePath' is no list of paths")
    words = entry.get("ImageViewPosition") or [""] * len(paths)
    if not isinstance(words, list) or len(words) != len(paths):
        raise ValueError("its 'ImageViewPosition' has not one value for each image")
    names = [path.partition(f"{_IMAGES}/")[2] for path in paths]
    if not all(names):
        raise ValueError(f"its image '{paths[names.index('')]}' is not in {_IMAGES}")
    return [(name, word if isinstance(word, str) else "") for name, word in zip(names, words, strict=True)]


def _text(entry: dict[str, Any], name: str) -> str:
    """The text of a section; empty if it is null, or NaN as pandas writes a missing value.

    Raises:
        ValueError: it is anything else.
    """
    value = entry.get(name)
    if value is None or value != value:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"its '{name}' is no text")
    return value
