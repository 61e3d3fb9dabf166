"""Printing that several commands share: JSON, rejections and cautions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def print_caution(path: Path, trained: TrainedSystem | Observer | ReportFinder) -> None:
    """Print on standard error the caution that belongs to all that a run or part says, if there is one."""
    if caution := trained.caution:
        print(f"CAUTION: {path} was {caution}", file=sys.stderr)
