"""The families of metrics: what each family needs, how it scores studies, and how its tables look.

A new family is one more entry in `FAMILIES`. Its statistics are summed over studies, so it gets intervals and
paired tests like the others. Its tables appear in the printed output and on the page and model card of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.evaluation.clinical import (
    CLASSIFIER_SCORES,
    CLINICAL_BLOCKS,
    States,
    classification_statistics,
    clinical_statistics,
    why_unlabelled,
)
from radscribe.evaluation.localisation import (
    MAP_KINDS,
    MEASURES,
    MapScore,
    by_observation,
    localisation_statistics,
)
from radscribe.evaluation.meteor import MeteorUnavailableError, meteor_statistics
from radscribe.evaluation.metrics import StudyStatistics, text_statistics

#: The row of the system that is scored; every other row is a baseline.
SYSTEM = "system"
CLINICAL = "clinical"
#: Columns of the table of text metrics, in the order that papers use.
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")

#: What a family needs in order to be computed.
Need = Literal["texts", "Java", "observation labels", "classifier", "finding masks"]


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
    """

    drafts: Mapping[str, Sequence[str]]
    references: Sequence[str]
    labelled: LabelledTexts
    classified: ClassifiedStudies | None = None
    maps: Sequence[Sequence[MapScore]] = ()


@dataclass(frozen=True)
class FamilyScores:
    """Result of one metric family for the scored studies.

    Attributes:
        statistics: Statistics of each row that the family could score.
        missing: Reason why scores are missing, by name of the missing scores.
        rules: What was compared with what, in words, if that must be shown with the scores.
        by_observation: Means by observation, then measure; empty if the family has no such means.
    """

    statistics: Mapping[str, StudyStatistics] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    rules: str = ""
    by_observation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores.

    Attributes:
        title: Title of the table.
        columns: Name of the score in each column, by the heading of the column.
    """

    title: str
    columns: Mapping[str, str]

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


def _text(studies: ScoredStudies) -> FamilyScores:
    return FamilyScores(
        {row: text_statistics(texts, studies.references) for row, texts in studies.drafts.items()}
    )


def _meteor(studies: ScoredStudies) -> FamilyScores:
    """METEOR of all rows from one Java process, because starting Java takes longer than scoring."""
    drafts = [text for texts in studies.drafts.values() for text in texts]
    try:
        everything = meteor_statistics(drafts, [*studies.references] * len(studies.drafts))
    except MeteorUnavailableError as error:
        return FamilyScores(missing={"METEOR": str(error)})
    parts = np.split(everything.columns, len(studies.drafts))
    return FamilyScores(
        {
            row: StudyStatistics(part, everything.scores_of_sums)
            for row, part in zip(studies.drafts, parts, strict=True)
        }
    )


def _clinical(studies: ScoredStudies) -> FamilyScores:
    labelled, statistics, missing = studies.labelled, {}, {}
    unlabelled_references = why_unlabelled("references", labelled.references)
    for row, states in labelled.drafts.items():
        if reason := unlabelled_references or why_unlabelled(f"drafts of the {row}", states):
            missing["clinical efficacy" + ("" if row == SYSTEM else f" of the {row}")] = reason
        else:
            statistics[row] = clinical_statistics(states, labelled.references)
    if studies.drafts.keys() - labelled.drafts.keys():
        missing["clinical efficacy of the baselines"] = f"the {labelled.source} do not cover them"
    return FamilyScores(statistics, missing)


def _classifier(studies: ScoredStudies) -> FamilyScores:
    found = studies.classified
    if found is None:
        return FamilyScores()
    try:
        statistics = classification_statistics(found.probabilities, found.labels)
    except RadScribeError as error:  # no study has a label
        return FamilyScores(missing={"classifier": str(error)})
    return FamilyScores({SYSTEM: statistics}, rules=found.rules)


def _localisation(kind: str, studies: ScoredStudies) -> FamilyScores:
    if not any(score.kind == kind for maps in studies.maps for score in maps):
        return FamilyScores()
    return FamilyScores(
        {SYSTEM: localisation_statistics(kind, studies.maps)},
        rules="finding masks",
        by_observation=by_observation(kind, studies.maps),
    )


def _with_tables(
    name: str, needs: Need, score: Callable[[ScoredStudies], FamilyScores], *tables: ScoreTable
) -> MetricFamily:
    """A family whose scores are the columns of its own tables."""
    names = tuple(column for table in tables for column in table.columns.values())
    return MetricFamily(name, needs, score, names, tables)


#: All families by name, in the order in which their tables are shown.
FAMILIES: dict[str, MetricFamily] = {
    family.name: family
    for family in (
        MetricFamily(
            "text",
            "texts",
            _text,
            scores=tuple(name for name in METRICS if name != "METEOR"),
            tables=(ScoreTable("", {name: name for name in METRICS}),),
        ),
        MetricFamily("meteor", "Java", _meteor, scores=("METEOR",), tables=()),
        _with_tables(
            CLINICAL,
            "observation labels",
            _clinical,
            *(ScoreTable(block.title, block.names) for block in CLINICAL_BLOCKS),
        ),
        _with_tables("classifier", "classifier", _classifier, ScoreTable("classifier", CLASSIFIER_SCORES)),
        *(
            _with_tables(
                kind,
                "finding masks",
                partial(_localisation, kind),
                ScoreTable(kind, {measure: f"{kind} {measure}" for measure in MEASURES}),
            )
            for kind in MAP_KINDS
        ),
    )
}
