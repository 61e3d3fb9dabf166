"""Two baselines without a model: one report for every study, and the report of the most similar image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from radscribe.errors import RadScribeError
from radscribe.evaluation.metrics import constant_bleu
from radscribe.studies.image_error import ImageError
from radscribe.studies.images import read_view
from radscribe.studies.study import Study

_THUMBNAIL_SIDE = 32
_PROJECTION_ORDER = {"frontal": 0, "unknown": 1, "lateral": 2}


@dataclass(frozen=True, slots=True)
class ConstantReport:
    """The report that a constant baseline gives every study.

    Attributes:
        text: The report as it is scored.
        frequency: Number of training studies that have this report.
        validation_bleu_4: BLEU-4 on the validation references, by which the report was chosen.
    """

    text: str
    frequency: int
    validation_bleu_4: float


def best_constant_report(
    train_reports: Iterable[str], validation_references: Sequence[str]
) -> ConstantReport:
    """The training report that gets the best validation BLEU-4 when it is the draft of every study.

    Candidates are the reports that occur at least twice in the training set, or all reports if none repeats.

    Args:
        train_reports: Training reports, treated as drafts are under the protocol (`Protocol.hypothesis`).
        validation_references: Validation references as they are scored (`Protocol.reference`).

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
    """For each test study, the report of the training study whose image is most similar.

    Images are compared as 32x32 thumbnails, by cosine similarity after their mean is subtracted. A study's
    image is its first readable view, frontal views first.

    Args:
        train_studies: Training studies. Those without a readable view or without the section are skipped.
        test_studies: Test studies. Those without a readable view are left out of the result.
        section: Report section to copy.

    Returns:
        The report of the training study, as it was written, by the id of the test study.

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
    """Unit vector float32 [1024] of the first readable view, frontal views first; None without a view."""
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
