"""`radscribe prepare --update`: a store follows its changed source, and can be read at any moment.

Unchanged studies stay in their splits. New and changed studies are decoded and appended behind the studies
that were there. The old pixels of changed and removed studies stay in the files, which only grow, so that a
process that reads the store meanwhile is not disturbed. All other files are written anew in the folder
`update` of the store. When they are whole, they replace the old ones. An interrupted update leaves the store
as it was; the same command resumes it.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radscribe.files import ENCODING
from radscribe.studies.splits import extend_splits
from radscribe.studies.staleness import SOURCES, SourceState
from radscribe.studies.store_files import SPLITS_FILE, STUDIES, UPDATE, read_splits
from radscribe.studies.store_writer import Committed, StoreWriter
from radscribe.studies.study import Split


def open_update(store: Path, manifest: Mapping[str, Any], now: SourceState) -> StoreWriter:
    """Begin or resume the update of a complete store; the returned writer holds the unchanged studies
    already.

    Args:
        store: Folder of the store.
        manifest: Manifest of the store.
        now: What the source holds now.

    Raises:
        RadScribeError: another process is updating the store, or it is damaged.
    """
    before = SourceState.read(store / SOURCES).studies
    (store / UPDATE).mkdir(exist_ok=True)
    writer = StoreWriter(store, store / UPDATE, manifest["bytes"])
    try:
        if any(now.studies.get(study) != origin for study, origin in writer.fingerprints.items()):
            writer.begin_again()  # the source has changed again since an update was interrupted
        with open(store / STUDIES, "rb") as lines:
            for line in lines:
                study = json.loads(line)["id"]
                if study not in writer.committed and now.studies.get(study) == before.get(study):
                    writer.adopt(line, before[study])
    except BaseException:
        writer.close()
        raise
    return writer


def updated_splits(
    store: Path, committed: Mapping[str, Committed], unchanged: set[str], manifest: Mapping[str, Any]
) -> list[Split]:
    """The split of every study of an update.

    Args:
        store: Folder of the store as it was.
        committed: Studies that the store is going to hold, by id.
        unchanged: Ids of the studies that were there before and are the same.
        manifest: Manifest of the store.
    """
    before = read_splits(store)
    known: dict[str, Split] = {}
    with open(store / SPLITS_FILE, newline="", **ENCODING) as file:
        for row in csv.DictReader(file):
            known.setdefault(row["patient"], before[row["study"]])
    joining = {name: study for name, study in committed.items() if name not in unchanged}
    joined = extend_splits(
        [(study.patient_id, study.split) for study in joining.values()],
        known,
        Counter(before[name] for name in committed if name in unchanged),
        manifest["split_fractions"],
        manifest["seed"],
    )
    after = before | dict(zip(joining, joined, strict=True))
    return [after[name] for name in committed]
