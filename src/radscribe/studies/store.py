"""The prepared store: a data set decoded once, in files that any number of processes map into memory.

    manifest.json   format version, settings, counts, content hash; `complete` once all else is written
    pixels.bin      uint8 [height, width] of every view, one after the other
    masks.bin       bits of every finding's mask [height, width], each mask padded to whole bytes
    studies.jsonl   one line per study: text, observations, and the places of its pixels and masks
    splits.csv      study, patient, split
    rejected.csv    study, source, reason
    sources.jsonl   what each study was prepared from; see `staleness`
    update/         only during an update: files that will replace those of the same names; see `update`

A study is committed by its line in `studies.jsonl`, which is written after its pixels and masks. What a
killed process left behind its last whole line is cut off and prepared again.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError, unknown_name
from radscribe.studies.rejection import Rejection
from radscribe.studies.store_files import (
    MASKS,
    PIXELS,
    SPLITS_FILE,
    STUDIES,
    content_hash,
    finish_update,
    read_manifest,
    read_rejections,
    read_splits,
    remedy,
)
from radscribe.studies.store_summary import StoreSummary
from radscribe.studies.stored_view import MappedFile, StoredView
from radscribe.studies.study import SPLITS, Split, Study, View

#: Number of views that are checked whenever a store is opened; `radscribe check` checks all views.
VIEWS_CHECKED_ON_OPENING = 8


class PreparedStore:
    """A complete prepared store, opened for reading.

    A store can be pickled and is safe in data loaders with several processes: each process maps the files for
    itself.

    Args:
        path: Folder of the store.
        sampled: Compare the hashes of some views, drawn at random, with those of the preparation.

    Attributes:
        path: Folder of the store.
        manifest: How the store was made and what it holds; see `prepare`.

    Raises:
        RadScribeError: there is no store, its preparation did not finish, it was written in another
            format, or a file of it is missing or damaged.
    """

    def __init__(self, path: Path | str, *, sampled: bool = True):
        self.path = Path(path)
        finish_update(self.path)
        self.manifest = read_manifest(self.path)
        if not self.manifest["complete"]:
            raise RadScribeError(
                f"the store {self.path} is incomplete: its preparation was interrupted",
                f"Run the same command again to resume it: radscribe prepare {self.manifest['source']} "
                f"--out {self.path}",
            )
        self._load()
        if sampled:
            self._check_some_views()

    def _load(self) -> None:
        for name in (PIXELS, MASKS):
            expected = self.manifest["bytes"][name]
            # The file is longer while an update appends to it.
            if not (self.path / name).is_file() or (self.path / name).stat().st_size < expected:
                raise RadScribeError(
                    f"{self.path / name} is missing or has not its {expected:,} bytes",
                    remedy(self.path),
                )
        try:
            found = content_hash(self.path)
        except OSError as error:
            raise RadScribeError(
                f"cannot read {error.filename}: {error.strerror}", remedy(self.path)
            ) from error
        if found != self.manifest["content_hash"]:
            raise RadScribeError(
                f"{STUDIES} or {SPLITS_FILE} in {self.path} was changed after preparation",
                remedy(self.path),
            )
        splits = read_splits(self.path)
        pixels, masks = MappedFile(self.path / PIXELS), MappedFile(self.path / MASKS)
        self._studies: dict[str, Study] = {}
        with open(self.path / STUDIES, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = json.loads(line)
                    self._studies[record["id"]] = _study(
                        record, splits[record["id"]], self.manifest["reduced_jpeg"], pixels, masks
                    )
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise RadScribeError(
                        f"{self.path / STUDIES}, line {number} is damaged: {type(error).__name__} {error}",
                        remedy(self.path),
                    ) from error

    def _check_some_views(self) -> None:
        views = self.views()
        for study, view in random.Random().sample(views, min(VIEWS_CHECKED_ON_OPENING, len(views))):
            if not view.whole:
                raise RadScribeError(
                    f"the store {self.path} is damaged: pixels or masks of study '{study.id}' have changed",
                    f"See what else is damaged: radscribe check {self.path}; then prepare it again",
                )

    def views(self) -> list[tuple[Study, StoredView]]:
        """All views with their studies, in the order of the source."""
        return [
            (study, view.source)
            for study in self._studies.values()
            for view in study.views
            if isinstance(view.source, StoredView)
        ]

    def __len__(self) -> int:
        return len(self._studies)

    def studies(self, split: str = "all") -> list[Study]:
        """The studies of `train`, `val`, `test`, or `all`, in the order of the source."""
        if split != "all" and split not in SPLITS:
            raise unknown_name("split", split, ("all", *SPLITS))
        return [study for study in self._studies.values() if split in ("all", study.split)]

    def study(self, identifier: str) -> Study:
        """The study with that id.

        Raises:
            RadScribeError: there is no such study.
        """
        if identifier not in self._studies:
            example = next(iter(self._studies), "")
            raise RadScribeError(f"no study '{identifier}' in {self.path}", f"Ids look like '{example}'")
        return self._studies[identifier]

    def rejections(self) -> list[Rejection]:
        """The rejections that `rejected.csv` lists, in the order of the source.

        Raises:
            RadScribeError: the file is missing or damaged.
        """
        return read_rejections(self.path)

    def summary(self) -> StoreSummary:
        """Count what the store holds."""
        return StoreSummary.of(self.path, self.manifest["reader"], self.studies(), self.rejections())


def _study(
    record: dict[str, Any], split: Split, reduced_jpeg: bool, pixels: MappedFile, masks: MappedFile
) -> Study:
    views = []
    for view in record["views"]:
        stored = StoredView(
            file=view["file"],
            original_size=tuple(view["original_size"]),
            shape=tuple(view["shape"]),
            sha256=view["sha256"],
            window=tuple(view["window"]) if view["window"] else None,
            notes=tuple(view.get("notes", ())),
            box_counts=view.get("box_counts", {}),
            reduced_jpeg=reduced_jpeg,
            pixels_at=view["pixels_at"],
            masks_at=view["masks_at"],
            _pixels=pixels,
            _masks=masks,
        )
        views.append(View(stored, view["projection"]))
    return Study(
        id=record["id"],
        patient_id=record["patient_id"],
        views=tuple(views),
        split=split,
        sections=record["sections"],
        observations=record["observations"],
        prior=record.get("prior"),
    )
