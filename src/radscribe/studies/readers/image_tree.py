"""A tree of images that tables describe: its files are listed in one walk, without opening or asking for any.

The trees of whole archives have hundreds of thousands of folders, often on a file server, so that every
question about a file costs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from radscribe.studies.images import IMAGE_SUFFIXES
from radscribe.studies.readers.folder import IMAGE, REPORT
from radscribe.studies.store_files import MANIFEST, is_store

#: Depth of folders that is looked into, unless the tree of a data set is deeper. There is a limit, so that a
#: link to a folder above itself ends.
_MAX_DEPTH = 6
DICOM_SUFFIXES = (".dcm", ".dicom")
_DICOM = "DICOM is not read here: give the JPG or PNG files of the archive"


class TreeFile(NamedTuple):
    """A file of a tree.

    Attributes:
        folder: Folder that holds it.
        stem, suffix: Its name without suffix, and the suffix as it is written.
        kind: `IMAGE`, `REPORT` (a text), or why it cannot be used.
    """

    folder: str
    stem: str
    suffix: str
    kind: str

    @property
    def path(self) -> str:
        """The path of the file."""
        return os.path.join(self.folder, self.stem + self.suffix)


def files_of_tree(root: Path, max_depth: int = _MAX_DEPTH, *, dicom: bool = False) -> Iterator[TreeFile]:
    """Every file of a tree, in the order of the names of folders and files.

    Passed over are prepared stores, and `index.html`, which `wget` leaves in every folder.

    Args:
        root: Folder of the tree.
        max_depth: Depth of folders below it that is looked into.
        dicom: Take files that are called DICOM by their suffix as images.
    """
    top = str(root)
    for parent, folders, names in os.walk(top, followlinks=True):
        if MANIFEST in names and is_store(Path(parent)):
            folders.clear()
            continue
        depth = parent.count(os.sep, len(top))
        kept = []
        for name in sorted(folders):
            if name.startswith("."):
                yield TreeFile(parent, name, "", "hidden folder")
            elif depth >= max_depth:
                yield TreeFile(parent, name, "", f"not looked into: more than {max_depth} folders deep")
            else:
                kept.append(name)
        folders[:] = kept
        for name in sorted(names):
            if not name.startswith("index.html"):
                stem, suffix = os.path.splitext(name)
                yield TreeFile(parent, stem, suffix, kind_of(name, suffix.lower(), dicom=dicom))


def kind_of(name: str, suffix: str, *, dicom: bool = False) -> str:
    """The kind of a file by its name and its suffix in small letters; see `TreeFile`."""
    if name.startswith("."):
        return "hidden file"
    if suffix in IMAGE_SUFFIXES:
        return IMAGE
    if suffix in DICOM_SUFFIXES:
        return IMAGE if dicom else _DICOM
    return REPORT if suffix == ".txt" else f"not an image: {suffix or 'no suffix'}"
