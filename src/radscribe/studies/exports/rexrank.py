"""An export as the JSON files that ReXrank's inference scripts read, one for each split.

Each study is `{"key_image_path", "image_path", "report", "section_findings", "section_impression", "split",
"frontal_lateral", "context"}` under its id, as in ReXrank's own files; `subject_id` is its patient, as in the
file for MIMIC-CXR. Image paths are relative to `images/`. The store knows no age and no sex, so `context` has
neither.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radscribe.studies.exports.images import ExportedStudy
from radscribe.studies.study import SPLITS

#: What ReXrank writes in a text where a section is missing.
_NONE = "None."


def write_rexrank(studies: Sequence[ExportedStudy], out: Path) -> list[Path]:
    """Write a file for each split that has studies, and return their paths."""
    paths = []
    for split in SPLITS:
        entries = {
            exported.study.id: _entry(exported) for exported in studies if exported.study.split == split
        }
        if entries:
            path = out / f"rexrank_{split}.json"
            path.write_text(json.dumps(entries, indent=4))
            paths.append(path)
    return paths


def _entry(exported: ExportedStudy) -> dict[str, Any]:
    study, images = exported
    views = [view.projection for view in study.views]
    key = views.index("frontal") if "frontal" in views else 0
    texts = {
        name: study.report(name) or _NONE for name in ("findings", "impression", "indication", "comparison")
    }
    return {
        "key_image_path": images[key],
        "image_path": images,
        "report": f"Findings: {texts['findings']} Impression: {texts['impression']}",
        "section_findings": study.report("findings") or None,
        "section_impression": study.report("impression") or None,
        "split": study.split,
        "subject_id": study.patient_id,
        "frontal_lateral": [view.capitalize() for view in views],
        "context": f"Indication: {texts['indication']} Comparison: {texts['comparison']}",
    }
