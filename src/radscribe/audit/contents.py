"""What a split has: images, studies, patients, lengths of reports, views and observations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from radscribe.observations import OBSERVATION_STATES, OBSERVATIONS, ObservationState
from radscribe.studies.study import PROJECTIONS, Study


@dataclass(frozen=True, slots=True)
class Words:
    """Lengths of reports in words, which are what white space separates.

    Attributes:
        mean, median, longest, shortest: Of the reports that are not empty; 0 if there is none.
    """

    mean: float
    median: float
    shortest: int
    longest: int

    @classmethod
    def of(cls, reports: Sequence[str]) -> Self:
        """Count the words of reports."""
        lengths = [len(report.split()) for report in reports if report.split()] or [0]
        return cls(float(np.mean(lengths)), float(np.median(lengths)), min(lengths), max(lengths))


@dataclass(frozen=True, slots=True)
class Contents:
    """What a split has.

    Attributes:
        images, studies, patients: Their numbers.
        reports: Number of studies with a report.
        words: Lengths of the reports.
        projections: Number of images of each projection.
        images_per_study: Number of studies by their number of images.
        observations: For each observation, the number of studies in each state.
    """

    images: int
    studies: int
    patients: int
    reports: int
    words: Words
    projections: Mapping[str, int]
    images_per_study: Mapping[int, int]
    observations: Mapping[str, Mapping[ObservationState, int]]

    @classmethod
    def of(
        cls,
        studies: Sequence[Study],
        reports: Sequence[str],
        states: Sequence[Mapping[str, ObservationState]],
    ) -> Self:
        """Count what a split has.

        Args:
            studies: Its studies.
            reports: The report of each study, empty if it has none.
            states: The observations of each study.
        """
        projections = Counter(view.projection for study in studies for view in study.views)
        images = Counter(len(study.views) for study in studies)
        counts = {name: Counter(of_study.get(name) for of_study in states) for name in OBSERVATIONS}
        return cls(
            images=projections.total(),
            studies=len(studies),
            patients=len({study.patient_id for study in studies}),
            reports=sum(bool(report.strip()) for report in reports),
            words=Words.of(reports),
            projections={name: projections[name] for name in PROJECTIONS},
            images_per_study=dict(sorted(images.items())),
            observations={
                name: {state: counts[name][state] for state in OBSERVATION_STATES} for name in OBSERVATIONS
            },
        )

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return asdict(self)
