"""The images of an export: PNG files of the stored pixels, or the files that a store was prepared from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from radscribe.errors import RadScribeError
from radscribe.studies.readers.r2gen_annotation import images_folder
from radscribe.studies.study import Study, View

_OTHER = re.compile(r"[^A-Za-z0-9._-]+")


class ExportedStudy(NamedTuple):
    """A study and what an export calls its images.

    Attributes:
        study: The study.
        images: Path of each image, as the export has it.
    """

    study: Study
    images: list[str]


class FolderNames:
    """A folder name for each study, which every file system accepts.

    It is the study's id if that has only ASCII letters, digits, `.`, `_` and `-`. No two names are equal when
    case is ignored.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, study: Study) -> str:
        """A name that no earlier study has."""
        wanted = _OTHER.sub("-", study.id)[:80].strip(".-") or "study"
        name, number = wanted, 2
        while name.lower() in self._taken:
            name, number = f"{wanted}-{number}", number + 1
        self._taken.add(name.lower())
        return name


def write_images(study: Study, root: Path, folder: str) -> list[str]:
    """Write the stored pixels of each view as PNG, and return the paths within `root`.

    Args:
        study: A study of a prepared store.
        root: Folder that the paths are relative to.
        folder: Folder of the study's images within it; its files are `0.png`, `1.png` and so on.

    Raises:
        OSError: a file cannot be written.
    """
    (root / folder).mkdir(parents=True)
    paths = [f"{folder}/{number}.png" for number in range(len(study.views))]
    for path, view in zip(paths, study.views, strict=True):
        assert callable(view.source)
        Image.fromarray(view.source().pixels).save(root / path)
    return paths


def source_images(study: Study, manifest: Mapping[str, Any]) -> list[str]:
    """The files that the views of a study were prepared from, relative to the folder of the source's images.

    Args:
        study: A study of a prepared store.
        manifest: Manifest of that store.

    Returns:
        A path for each view; one that is not in that folder is absolute.

    Raises:
        RadScribeError: a file is not there, as when the store was prepared from drawn images.
    """
    return [_source_image(study, view, manifest) for view in study.views]


def image_root(manifest: Mapping[str, Any]) -> Path:
    """The folder that the paths of the images in the source of a store are relative to."""
    source = Path(manifest["source"])
    if images := manifest["reader_options"].get("images"):
        return Path(images)
    if manifest["reader"] == "r2gen-annotation":
        return images_folder(source)
    return source if source.is_dir() else source.parent


def _source_image(study: Study, view: View, manifest: Mapping[str, Any]) -> str:
    source, name = Path(manifest["source"]), Path(view.name)
    file = source / name if source.is_dir() and (source / name).is_file() else name.absolute()
    if not file.is_file():
        raise RadScribeError(
            f"the image '{view.name}' of study '{study.id}' is no file that is there",
            "Leave out --no_images: then the images are written from the store",
        )
    root = image_root(manifest).absolute()
    return PurePosixPath(file.relative_to(root) if file.is_relative_to(root) else file).as_posix()
