"""What a metric family is: what it needs, what it is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from radscribe.evaluation.clinical import States
from radscribe.evaluation.localisation import MapScore
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.evaluation.metrics import StudyStatistics

#: The row of the system that is scored; every other row is a baseline.
SYSTEM = "system"
#: What a family needs in order to be computed.
Need = Literal["texts", "Java", "observation labels", "classifier", "finding masks", "models"]


@dataclass(frozen=True)
class LabelledTexts:
    """States of the 14 observations in texts; a text that the labeller cannot read has no states.

    Attributes:
        drafts: States in each draft, by row. A row whose drafts are not labelled is not listed.
        references: States in each reference report.
        source: Name of the labeller or of the label files.
        unreadable: Number of drafts of each row, and of references, that the labeller cannot read; empty if
            label files are used.
    """

    drafts: Mapping[str, Sequence[States]]
    references: Sequence[States]
    source: str
    unreadable: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassifiedStudies:
    """Output of the system's own classifier of observations, with the labels that it is checked against.

    Attributes:
        probabilities: Probabilities `[studies, observations]`.
        labels: Labels `[studies, observations]`: 1 present, 0 absent, NaN ignored.
        rules: Where the labels come from and what their states count as, in words.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    rules: str


@dataclass(frozen=True)
class ScoredStudies:
    """Everything that the metric families are computed from, in the order of sorted study ids.

    Attributes:
        drafts: Drafts of the system and of each baseline, by row, as they are scored under the protocol.
        references: Reference reports as they are scored under the protocol.
        labelled: Observations in the whole texts as they were written.
        classified: Output of the system's classifier; None if it has no classifier or there are no labels.
        maps: Scored maps of each study; empty if there are none.
        ids: Ids of the studies.
        whole_drafts: Drafts as they were written, by row; a metric that a model computes reads these.
        whole_references: Reference reports as they were written.
        files: Files of the metrics that a model computes.
    """

    drafts: Mapping[str, Sequence[str]]
    references: Sequence[str]
    labelled: LabelledTexts
    classified: ClassifiedStudies | None = None
    maps: Sequence[Sequence[MapScore]] = ()
    ids: Sequence[str] = ()
    whole_drafts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    whole_references: Sequence[str] = ()
    files: MetricFiles = field(default_factory=MetricFiles)


@dataclass(frozen=True)
class FamilyScores:
    """Result of one metric family for the scored studies.

    Attributes:
        statistics: Statistics of each row that the family could score.
        missing: Reason why scores are missing, by name of the missing scores.
        rules: What was compared with what, in words, if that must be shown with the scores.
        by_observation: Tables of the system's single observations: values by title, observation and measure;
            a value that is an integer is a count.
    """

    statistics: Mapping[str, StudyStatistics] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    rules: str = ""
    by_observation: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores.

    Attributes:
        title: Title of the table.
        columns: Name of the score in each column, by the heading of the column.
        lower_is_better: Whether the lower of two scores is the better one.
    """

    title: str
    columns: Mapping[str, str]
    lower_is_better: bool = False

    def columns_of(self, scores: Collection[str]) -> dict[str, str]:
        """The columns whose scores are among `scores`."""
        return {heading: name for heading, name in self.columns.items() if name in scores}


@dataclass(frozen=True)
class MetricFamily:
    """Metrics that are computed together.

    Attributes:
        name: Name of the family.
        needs: What the family needs in order to be computed.
        score: Computes the statistics of each row; a row that lacks what the family needs gets none.
        scores: Names of the family's scores.
        tables: Tables that show the scores. METEOR has none of its own: the table of text metrics shows it.
    """

    name: str
    needs: Need
    score: Callable[[ScoredStudies], FamilyScores]
    scores: tuple[str, ...]
    tables: tuple[ScoreTable, ...]
