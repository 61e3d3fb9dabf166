"""An export as a folder that `datasets.load_dataset` of Hugging Face reads: an image folder with metadata.

Each split has a folder with its images and `metadata.jsonl`, a row for each study. `file_names` becomes the
column `images`, a list of pictures. The columns and their types are the same in all splits, as it must be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from radscribe.studies.exports.images import ExportedStudy
from radscribe.studies.exports.table import study_rows
from radscribe.studies.study import Study

#: The name that Hugging Face has for each split.
_FOLDERS = {"train": "train", "val": "validation", "test": "test"}


def folder_of(study: Study) -> str:
    """The folder of the split of a study."""
    assert study.split is not None
    return _FOLDERS[study.split]


def write_image_folder(studies: Sequence[ExportedStudy], out: Path) -> list[Path]:
    """Write the metadata of each split that has studies, and return their paths."""
    lines: dict[str, list[str]] = {}
    for (study, images), row in zip(studies, study_rows(studies), strict=True):
        del row["images"], row["split"]
        lines.setdefault(folder_of(study), []).append(json.dumps({"file_names": images, **row}) + "\n")
    paths = []
    for folder, of_split in lines.items():
        path = out / folder / "metadata.jsonl"
        path.write_text("".join(of_split))
        paths.append(path)
    return paths
