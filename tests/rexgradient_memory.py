"""The memory that ReXGradient's 140,000 studies of train take: python tests/rexgradient_memory.py

The records are made up, with reports of some 70 words, and the images are empty files: no reader opens them.
It prints the peak memory of the process that reads them, and how much Python and its packages took before.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
from pathlib import Path

from small_archives import REXGRADIENT_METADATA, rexgradient_entry, rexgradient_id, rexgradient_path

from radscribe.studies.readers.registry import open_source

STUDIES = 140_000
FINDINGS = " ".join(["The lungs are clear without focal consolidation, effusion or pneumothorax."] * 6)


def make(folder: Path) -> None:
    """Write the metadata and the files of a tree; two thirds of the studies have two images."""
    entries = {}
    for study in range(STUDIES):
        patient = study * 6 // 8
        views = ["POSTERO_ANTERIOR", "LATERAL"][: 1 + (study % 3 > 0)]
        fields = {"Findings": f"Study {study}. {FINDINGS}", "StudyDate": 20100101 + study % 28}
        entries[rexgradient_id(patient, study)] = rexgradient_entry(patient, study, views, **fields)
        for image in range(len(views)):
            path = folder / "deid_png" / rexgradient_path(patient, study, image)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (folder / REXGRADIENT_METADATA).parent.mkdir()
    (folder / REXGRADIENT_METADATA).write_text(json.dumps(entries))


def peak() -> float:
    """The most memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        process = multiprocessing.get_context("spawn").Process(target=make, args=(folder,))
        process.start()
        process.join()
        size = (folder / REXGRADIENT_METADATA).stat().st_size / 1e9
        before = peak()
        records = list(open_source(folder, "rexgradient"))
        print(
            f"{len(records):,} records of {size:.2f} GB: peak {peak():.2f} GB, {before:.2f} GB of it before"
        )


if __name__ == "__main__":
    main()
