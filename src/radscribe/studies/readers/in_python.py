"""Studies that were made in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.studies.rejection import BAD_RECORD, NO_VIEW, Rejection
from radscribe.studies.study import Study

#: Name of the source and of the reader of studies that were made in Python.
GIVEN = "given in Python"


def studies_in_python(studies: Iterable[Study]) -> Iterator[Study | Rejection]:
    """Studies that were made in Python; one without views, or with unusable ones, becomes a Rejection.

    Raises:
        RadScribeError: something is no Study.
    """
    for number, study in enumerate(studies, start=1):
        if not isinstance(study, Study):
            raise RadScribeError(
                f"study number {number} is a {type(study).__name__}, not a Study",
                "Make each with radscribe.studies.study.Study",
            )
        strange = [
            view for view in study.views if not (isinstance(view.source, Path) or callable(view.source))
        ]
        if strange:
            kind = type(strange[0].source).__name__
            reason = f"{BAD_RECORD}: the source of a view is a {kind}, not a Path and not a function"
            yield Rejection(study.id, GIVEN, reason)
        elif not study.views:
            yield Rejection(study.id, GIVEN, NO_VIEW)
        else:
            yield study
