"""Turning what a caller gives into studies: files, folders, tables, prepared stores or pictures in memory.

These rules give the ids, so that no id changes when another file is added:

- The id of a single file is its path as it was given, without its suffix.
- The id of an image or a sub-folder in a folder is its path within that folder, without a suffix. If several
  things are given, the folder's own path comes before it.
- A study in a store or a table keeps the id that it has there; in a folder or an archive of DICOM files, that
  is its StudyInstanceUID.
- The id of several views that are given together as one study is that of their first file.
- The id of a picture in memory is its place among the given things: `study-1`, `study-2` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from PIL import Image

from radscribe.errors import RadScribeError
from radscribe.studies.burned_in_text import require_reader
from radscribe.studies.images import read_picture, view_of
from radscribe.studies.opening import DEFAULT_OPENING, Opening
from radscribe.studies.readers.dicom_files import is_directory_file
from radscribe.studies.readers.registry import find_reader, open_source
from radscribe.studies.rejection import DUPLICATE_ID, Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.store_files import MANIFEST
from radscribe.studies.study import RenderedView, Study, View, without_suffix

_FILES_OF_STUDIES = (".csv", ".tsv", ".jsonl", ".json", ".zip", ".parquet", ".arrow")

GivenView: TypeAlias = View | Path | str | Image.Image | np.ndarray
#: A study, the views of one study, a single view, or the path of something that holds many studies.
Given: TypeAlias = Study | GivenView | tuple[GivenView, ...] | list[GivenView]


@dataclass(frozen=True, slots=True)
class _Picture:
    """The source of a view that is given as a picture in memory.

    Attributes:
        picture: Picture as it was given.
        file: Name of the picture in messages.
    """

    picture: Image.Image | np.ndarray
    file: str

    def __call__(self) -> RenderedView:
        return read_picture(self.picture, self.file)


def given_studies(
    given: Given | Iterable[Given],
    on_rejection: Callable[[Rejection], None] | None = None,
    *,
    split: str | None = None,
    opening: Opening = DEFAULT_OPENING,
) -> Iterator[Study]:
    """The given studies in order; a study whose id an earlier study has is rejected.

    Args:
        given: One thing, or a list or an iterator of any mix of things. A `Study` is taken as it is. The path
            of an image file, a `View`, a PIL image and an array `[height, width]` or `[height, width, 3]`
            each become a study of one view. A tuple of these, or a list within the list, becomes one study
            with several views. The path of a folder of images, a table, an archive or DICOMDIR of DICOM
            files, or a prepared store gives all studies in it.
        on_rejection: Function that is called with each study that cannot be used; without it, such a study
            raises an error.
        split: Split of the prepared stores: `train`, `val`, `test` or `all`; without it, all studies.
        opening: How images are opened that are in no prepared store.

    Raises:
        RadScribeError: a study cannot be used (see `on_rejection`), there is no such split, a split is given
            for something that is no prepared store, something given is none of these things, or what reads
            text is not installed.
    """
    if opening.read_text:
        require_reader()
    # A tuple holds the views of one study.
    one = isinstance(given, str | bytes | tuple | dict | np.ndarray | Image.Image)
    many = isinstance(given, Iterable) and not one
    items = iter(cast("Iterable[Given]", given) if many else [cast("Given", given)])
    first = list(islice(items, 2))
    alone = len(first) == 1
    taken: set[str] = set()
    numbered = enumerate(chain(first, items), start=1)
    found = (_records(item, number, alone, split, opening) for number, item in numbered)
    for record in chain.from_iterable(found):
        if isinstance(record, Study) and record.id in taken:
            name = record.views[0].name if record.views else ""
            record = Rejection(record.id, name, f"{DUPLICATE_ID}: an earlier study has it too")
        if isinstance(record, Study):
            taken.add(record.id)
            yield opening.of(record)
        elif on_rejection is None:
            raise RadScribeError(f"study '{record.study_id}' cannot be used: {record.reason}")
        else:
            on_rejection(record)


def file_id(path: Path) -> str:
    """The id of a single file: its path as it was given, without its suffix."""
    return without_suffix(path).as_posix()


def _records(
    item: Given, number: int, alone: bool, split: str | None, opening: Opening
) -> Iterator[Study | Rejection]:
    if isinstance(item, str | Path):
        path = Path(item)
        if (path / MANIFEST).is_file():
            yield from PreparedStore(path).studies(split or "all")
            return
    if split is not None:
        raise RadScribeError(
            f"--split needs a prepared store, and '{item}' is none",
            "Leave out --split, or make a store with radscribe prepare",
        )
    if isinstance(item, Study):
        yield item
    elif not isinstance(item, str | Path):
        yield _of_views(item if isinstance(item, tuple | list) else [item], number)
    elif not path.exists():
        yield Rejection(file_id(path), str(path), f"no such file or folder: {path}")
    elif path.is_dir() or is_directory_file(path) or _is_file_of_studies(path):
        yield from _of_source(path, alone, opening)
    else:
        yield Study(id=file_id(path), patient_id=file_id(path), views=(view_of(path),))


def _is_file_of_studies(path: Path) -> bool:
    return path.suffix.lower() in _FILES_OF_STUDIES and path.is_file()


def _of_views(given: Sequence[GivenView], number: int) -> Study:
    """One study with the given views.

    Raises:
        RadScribeError: something given is no view.
    """
    views = []
    for place, view in enumerate(given, start=1):
        name = f"study-{number}" if len(given) == 1 else f"study-{number}, view {place}"
        if isinstance(view, Image.Image | np.ndarray):
            view = View(_Picture(view, name))
        elif isinstance(view, str | Path):
            view = view_of(Path(view))
        elif not isinstance(view, View):
            raise RadScribeError(
                f"cannot draft a report for {type(view).__name__} {view!r:.80}",
                "Give studies, paths, PIL images, arrays, or tuples of views",
            )
        views.append(view)
    files = [view.source for view in views if isinstance(view.source, Path)]
    study_id = file_id(files[0]) if files else f"study-{number}"
    return Study(study_id, study_id, tuple(views))


def _of_source(path: Path, alone: bool, opening: Opening) -> Iterator[Study | Rejection]:
    """The studies of a folder or a table. A folder or table that cannot be read becomes one rejection."""
    try:
        reader = find_reader(path)
        # Whoever drafts must find the studies again, so ids are kept; none of them goes into a store.
        options = {"keep_ids": True, "chest_only": opening.chest_only} if reader == "dicom" else {}
        for record in open_source(path, reader, **options):
            if alone or reader != "folder":
                yield record
            elif isinstance(record, Study):
                within = f"{path.as_posix()}/"
                yield replace(record, id=within + record.id, patient_id=within + record.patient_id)
            else:
                yield replace(record, study_id=f"{path.as_posix()}/{record.study_id}")
    except RadScribeError as error:
        yield Rejection(path.as_posix(), str(path), str(error))
