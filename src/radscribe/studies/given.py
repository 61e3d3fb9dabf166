"""What a caller gives to be drafted or explained, as studies: files, folders, tables, stores, and studies.

How ids are made, so that none changes because another file is added:

- A file that is given by itself has its path as it was given, without its suffix.
- An image or a sub-folder in a folder has its path within that folder, without a suffix. Where several things
  are given, the folder's own path stands in front.
- What a store or a table holds has the id that it has there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.studies.readers import find_reader, open_source
from radscribe.studies.rejection import DUPLICATE_ID, Rejection
from radscribe.studies.store import MANIFEST, PreparedStore
from radscribe.studies.study import Study, View

_TABLES_OF_STUDIES = (".csv", ".tsv", ".jsonl", ".json")

Given = Study | Path | str


def given_studies(
    given: Iterable[Given],
    on_rejection: Callable[[Rejection], None] | None = None,
    *,
    split: str | None = None,
) -> Iterator[Study]:
    """The studies that are given, in order, each id once.

    Args:
        given: studies, image files (each a study of one view), folders of images, tables and prepared stores.
        on_rejection: called with each study that cannot be used; without it such a study raises.
        split: of the prepared stores: `train`, `val`, `test` or `all`; all studies unless given.

    Raises:
        RadScribeError: a study that cannot be used (see `on_rejection`), a split that is not there, or one of
            what is no prepared store.
    """
    items = iter(given)
    first = list(islice(items, 2))
    alone = len(first) == 1
    taken: set[str] = set()
    for record in chain.from_iterable(_records(item, alone, split) for item in chain(first, items)):
        if isinstance(record, Study) and record.id in taken:
            name = record.views[0].name if record.views else ""
            record = Rejection(record.id, name, f"{DUPLICATE_ID}: an earlier study has it too")
        if isinstance(record, Study):
            taken.add(record.id)
            yield record
        elif on_rejection is None:
            raise RadScribeError(f"study '{record.study_id}' cannot be used: {record.reason}")
        else:
            on_rejection(record)


def file_id(path: Path) -> str:
    """The id of a file that is given by itself: its path as given, without its suffix."""
    # What stands behind the last dot of a DICOM identifier, 1.2.840.113, is no suffix.
    return (path if path.suffix[1:].isdecimal() else path.with_suffix("")).as_posix()


def _records(item: Given, alone: bool, split: str | None) -> Iterator[Study | Rejection]:
    if isinstance(item, Study):
        yield item
        return
    path = Path(item)
    if (path / MANIFEST).is_file():
        yield from PreparedStore(path).studies(split or "all")
        return
    if split is not None:
        raise RadScribeError(
            f"a split is of a prepared store, and '{path}' is none",
            "Leave out --split, or make a store with radscribe prepare",
        )
    if not path.exists():
        yield Rejection(file_id(path), str(path), f"no such file or folder: {path}")
    elif path.is_file() and path.suffix.lower() not in _TABLES_OF_STUDIES:
        yield Study(id=file_id(path), patient_id=file_id(path), views=(View(path),))
    else:
        yield from _of_source(path, alone)


def _of_source(path: Path, alone: bool) -> Iterator[Study | Rejection]:
    """The studies of a folder or a table. One that cannot be read costs itself, as a study does."""
    try:
        reader = find_reader(path)
        for record in open_source(path, reader):
            if alone or reader != "folder":
                yield record
            elif isinstance(record, Study):
                within = f"{path.as_posix()}/"
                yield replace(record, id=within + record.id, patient_id=within + record.patient_id)
            else:
                yield replace(record, study_id=f"{path.as_posix()}/{record.study_id}")
    except RadScribeError as error:
        yield Rejection(path.as_posix(), str(path), str(error))
