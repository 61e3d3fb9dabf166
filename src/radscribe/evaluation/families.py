"""The families of metrics, an entry each: what a family needs, how it scores studies, and its tables.

A new family is one more entry in `FAMILIES`. Its statistics are added up over studies, so it gets intervals
and paired tests like the others. The printed tables, the page and the model card of a run show its tables.
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
#: The columns of the table of text metrics, in the order in which papers print them.
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")

#: What a family cannot be computed without.
Need = Literal["texts", "Java", "observation labels", "classifier", "finding masks"]


@dataclass(frozen=True)
class LabelledTexts:
    """States of the 14 observations in texts; a text that is unreadable to the labeller has none.

    Attributes:
        drafts: in each draft, by row; a row whose drafts nobody labelled is not there.
        references: in each reference report.
        source: what labelled them, in words.
        unreadable: how many drafts of each row, and how many references, the labeller cannot read; empty
            where label files say what is in them.
    """

    drafts: Mapping[str, Sequence[States]]
    references: Sequence[States]
    source: str
    unreadable: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassifiedStudies:
    """What a system's own classifier says of the observations, beside the labels that it is checked against.

    Attributes:
        probabilities: `[studies, observations]`.
        labels: `[studies, observations]`, 1 present, 0 absent, NaN ignored.
        rules: where the labels are from, in words.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    rules: str


@dataclass(frozen=True)
class ScoredStudies:
    """All that families are computed from. Studies are in the order of their sorted ids throughout.

    Attributes:
        drafts: as scored under the protocol, by row: those of the system and of the baselines.
        references: the reference reports, as scored under the protocol.
        labelled: observations in the texts as they were written, whole.
        classified: by the system, where it has a classifier and there are labels.
        maps: the scored maps of each study; empty where there are none.
    """

    drafts: Mapping[str, Sequence[str]]
    references: Sequence[str]
    labelled: LabelledTexts
    classified: ClassifiedStudies | None = None
    maps: Sequence[Sequence[MapScore]] = ()


@dataclass(frozen=True)
class FamilyScores:
    """What a family found in the scored studies.

    Attributes:
        statistics: of each row that it could score.
        missing: why scores are not there, by what is missing.
        rules: what was compared with what, where that has to be said beside the scores.
        by_observation: means by observation, then measure, where the family has such.
    """

    statistics: Mapping[str, StudyStatistics] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    rules: str = ""
    by_observation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores.

    Attributes:
        title: of the table.
        columns: names of the scores by heading.
    """

    title: str
    columns: Mapping[str, str]

    def columns_of(self, scores: Collection[str]) -> dict[str, str]:
        """The columns whose scores are among these."""
        return {heading: name for heading, name in self.columns.items() if name in scores}


@dataclass(frozen=True)
class MetricFamily:
    """Metrics that are computed together.

    Attributes:
        name: of the family.
        needs: what it cannot be computed without.
        score: its statistics over the scored studies; none of a row that lacks what it needs.
        scores: the names of its scores.
        tables: in which its scores are shown. METEOR has none: it stands in that of the text metrics.
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
    """METEOR of all rows from one Java process, for its start costs more than its scoring."""
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
        missing["clinical efficacy of the baselines"] = f"the {labelled.source} have no labels of theirs"
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
    """A family that has tables of its own."""
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
