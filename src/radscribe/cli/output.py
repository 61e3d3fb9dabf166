"""Printing that several commands share: JSON, rejections and cautions."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscribe.errors import warn
from radscribe.runs.drafts import less_unlike

if TYPE_CHECKING:
    from radscribe.runs.observing import Observer
    from radscribe.runs.retrieved_reports import ReportFinder
    from radscribe.runs.trained_system import TrainedSystem
    from radscribe.studies.rejection import Rejection


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(dumps(value, indent=2))


def print_rejections(rejections: Sequence[Rejection]) -> None:
    """Name on standard error each study that was left out, with the reason."""
    for rejection in rejections:
        print(f"rejected {rejection.study_id}: {rejection.reason}", file=sys.stderr)


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
