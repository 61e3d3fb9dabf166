"""What a score is worth: one report for everyone, and the report of the most similar training image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from radscribe.errors import RadScribeError
from radscribe.evaluation.metrics import constant_bleu
from radscribe.studies.images import ImageError, read_view
from radscribe.studies.study import Study

_THUMBNAIL_SIDE = 32
_PROJECTION_ORDER = {"frontal": 0, "unknown": 1, "lateral": 2}


@dataclass(frozen=True, slots=True)
class ConstantReport:
    """The report that a constant baseline gives every study.

    Attributes:
        text: as it is scored.
        frequency: how many training studies have it.
        validation_bleu_4: the score by which it was chosen.
    """

    text: str
    frequency: int
    validation_bleu_4: float


def best_constant_report(
    train_reports: Iterable[str], validation_references: Sequence[str]
) -> ConstantReport:
    """The stock report with the best BLEU-4 on validation when every study gets it.

    Candidates are the reports that stand at least twice in the training set; all, where none repeats.

    Args:
        train_reports: training reports, as drafts are scored under the protocol (`Protocol.hypothesis`).
        validation_references: validation references as scored (`Protocol.reference`).

    Raises:
        RadScribeError: no training reports or no validation references.
    """
    frequencies = Counter(train_reports)
    if not frequencies:
        raise RadScribeError("there are no training reports to choose a constant report from")
    candidates = [text for text, count in frequencies.items() if count > 1] or list(frequencies)
    bleu_4 = constant_bleu(candidates, validation_references)[:, 3]
    best = int(bleu_4.argmax())
    return ConstantReport(candidates[best], frequencies[candidates[best]], float(bleu_4[best]))


def nearest_neighbour_reports(
    train_studies: Iterable[Study], test_studies: Iterable[Study], section: str = "findings"
) -> dict[str, str]:
    """For each test study, the report of the training study whose image looks most alike.

    Images are 32x32 thumbnails, standardised and compared by cosine, of the frontal view where one is
    known, else of the first view that can be read.

    Args:
        train_studies: those without a readable view or without the section are passed over.
        test_studies: those without a readable view are left out of the result.
        section: the report section to copy.

    Returns:
        Report as written by id of the test study.

    Raises:
        RadScribeError: no usable training study.
    """
    reports, train_thumbnails = [], []
    for study in train_studies:
        thumbnail = _study_thumbnail(study) if study.report(section) else None
        if thumbnail is not None:
            reports.append(study.report(section))
            train_thumbnails.append(thumbnail)
    if not reports:
        raise RadScribeError(f"no training study has both a readable view and a section '{section}'")
    train_matrix = np.stack(train_thumbnails)
    nearest = {}
    for study in test_studies:
        thumbnail = _study_thumbnail(study)
        if thumbnail is not None:
            nearest[study.id] = reports[int((train_matrix @ thumbnail).argmax())]
    return nearest


def _study_thumbnail(study: Study) -> np.ndarray | None:
    """Unit vector float32 [1024] of the study's first readable view, frontal first, or None."""
    for view in sorted(study.views, key=lambda view: _PROJECTION_ORDER[view.projection]):
        try:
            pixels = read_view(view, short_side=_THUMBNAIL_SIDE).pixels
        except ImageError:
            continue
        square = Image.fromarray(pixels).resize((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
        values = np.asarray(square, dtype=np.float32).ravel()
        values -= values.mean()
        return values / max(float(np.linalg.norm(values)), 1e-6)
    return None
