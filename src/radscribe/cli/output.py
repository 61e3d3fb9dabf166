"""Printing that several commands share: JSON, rejections and cautions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError, warn
from radscribe.runs.drafts import less_unlike

if TYPE_CHECKING:
    from radscribe.runs.observing import ObservedStudy, Observer
    from radscribe.runs.retrieved_reports import FoundReports, ReportFinder
    from radscribe.runs.trained_system import TrainedSystem
    from radscribe.studies.rejection import Rejection


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(dumps(value, indent=2))


def print_rejections(rejections: Sequence[Rejection]) -> None:
    """Name on standard error each study that was left out, with the reason."""
    for rejection in rejections:
        print(f"rejected {rejection.study_id}: {rejection.reason}", file=sys.stderr)


def require_studies(studies: int, source: Sequence[str], rejections: Sequence[Rejection]) -> None:
    """Name the studies that were left out, and raise RadScribeError if none is left.

    Args:
        studies: Number of studies that are left.
        source: What the user gave.
        rejections: Studies that were left out.
    """
    print_rejections(rejections)
    if not studies:
        reason = rejections[0].reason if rejections else "there is none"
        raise RadScribeError(f"no study of {', '.join(source)} could be read: {reason}")


def print_studies(
    studies: Iterable[FoundReports | ObservedStudy],
    source: Sequence[str],
    rejections: Sequence[Rejection],
    *,
    json: bool,
) -> None:
    """Print what was found for each study, and at the end their number with the notice.

    Args:
        studies: What was found, study by study.
        source: What the user gave.
        rejections: Studies that were left out; they are complete when `studies` ends.
        json: Print one JSON object per study, which has the notice itself.

    Raises:
        RadScribeError: there is no study.
    """
    printed = 0
    for study in studies:
        print(dumps(study.to_json()) if json else study)
        printed += 1
    require_studies(printed, source, rejections)
    if not json:
        print(f"{printed} studies, {len(rejections)} rejected; {NOTICE}")


def print_notes(notes: Mapping[str, Sequence[str]]) -> None:
    """Print on standard error what the views of each study are noted for, such as text in the picture."""
    for study_id, of_study in notes.items():
        print(f"note on {study_id}: {', '.join(of_study)}", file=sys.stderr)


def warn_of_unlike(run: Path, studies: Mapping[str, float]) -> None:
    """Warn on standard error of each study that is unlike what a run learnt from.

    Args:
        run: Run directory.
        studies: Share of the training studies that are less unlike, by id of each study.
    """
    for study_id, share in studies.items():
        message = f"study '{study_id}' is unlike the images that {run} learnt from: {less_unlike(share)}"
        warn(message, "Do not rely on its draft")


def print_caution(path: Path, trained: TrainedSystem | Observer | ReportFinder) -> None:
    """Print on standard error the caution that belongs to all that a run or part says, if there is one."""
    if caution := trained.caution:
        print(f"CAUTION: {path} was {caution}", file=sys.stderr)
