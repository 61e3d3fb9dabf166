"""An export as R2Gen's `annotation.json`, for the codes that read it; images are in `images/`.

Each study is `{"id", "report", "image_path", "split"}` with its findings as the report, as for IU X-Ray.
Where the id of a study does not tell its patient, there is a `subject_id`, as for MIMIC-CXR.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from radscribe.studies.exports.images import ExportedStudy
from radscribe.studies.readers.r2gen_annotation import ANNOTATION_FILE, patient_of
from radscribe.studies.rejection import Rejection
from radscribe.studies.study import SPLITS, Study


def without_findings(studies: Iterable[Study]) -> list[Rejection]:
    """The studies that have no place in an annotation, because it needs findings."""
    return [Rejection(study.id, "", "no findings") for study in studies if not study.report("findings")]


def write_annotation(studies: Sequence[ExportedStudy], out: Path) -> list[Path]:
    """Write the annotation and return its path."""
    annotation: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for study, images in studies:
        assert study.split is not None
        entry: dict[str, Any] = {"id": study.id}
        if patient_of(study.id) != study.patient_id:
            number = study.patient_id.isascii() and study.patient_id.isdecimal()
            # MIMIC-CXR has numbers here; one with a leading zero would lose it.
            plain = number and str(int(study.patient_id)) == study.patient_id
            entry["subject_id"] = int(study.patient_id) if plain else study.patient_id
        entry |= {"report": study.report("findings"), "image_path": images, "split": study.split}
        annotation[study.split].append(entry)
    path = out / ANNOTATION_FILE
    path.write_text(json.dumps(annotation))
    return [path]
