"""The families of metrics: what each family needs, how it scores studies, and how its tables look.

A new family is one more entry in `FAMILIES`. Its statistics are summed over studies, so it gets intervals and
paired tests like the others. Its tables appear in the printed output and on the page and model card of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.evaluation.bertscore import SETTINGS as BERTSCORES
from radscribe.evaluation.bertscore import score_bertscore
from radscribe.evaluation.chexbert_scores import CHEXBERT_TABLES, SEMB_SCORE, chexbert_f1, semb_score
from radscribe.evaluation.clinical import (
    CLASSIFIER_SCORES,
    CLINICAL_BLOCKS,
    classification_statistics,
    clinical_statistics,
    why_unlabelled,
)
from radscribe.evaluation.family import SYSTEM, FamilyScores, MetricFamily, Need, ScoredStudies, ScoreTable
from radscribe.evaluation.given_outputs import (
    GREEN_TABLES,
    RATESCORE_TABLE,
    score_green,
    score_ratescore,
)
from radscribe.evaluation.localisation import (
    MAP_KINDS,
    MEASURES,
    by_observation,
    localisation_statistics,
)
from radscribe.evaluation.meteor import MeteorUnavailableError, meteor_statistics
from radscribe.evaluation.metrics import StudyStatistics, text_statistics
from radscribe.evaluation.radcliq_scores import RADCLIQ_TABLES, score_radcliq
from radscribe.evaluation.radgraph_scores import RADGRAPHS, radgraph_f1, radgraph_tables
from radscribe.evaluation.repetition import REPETITION, repetition_statistics

CLINICAL = "clinical"
#: Columns of the table of text metrics, in the order that papers use.
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")


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


def _repetition(studies: ScoredStudies) -> FamilyScores:
    return FamilyScores({row: repetition_statistics(texts) for row, texts in studies.drafts.items()})


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
        by_observation={kind: by_observation(kind, studies.maps)},
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
        _with_tables(
            "repetition",
            "texts",
            _repetition,
            ScoreTable("repetition (lower is better)", {REPETITION: REPETITION}, lower_is_better=True),
        ),
        *(
            _with_tables(
                setting.score,
                "models",
                partial(score_bertscore, setting),
                ScoreTable("BERTScore, rescaled", {setting.encoder: setting.score}),
            )
            for setting in BERTSCORES
        ),
        _with_tables("CheXbert", "models", chexbert_f1, *CHEXBERT_TABLES),
        _with_tables(SEMB_SCORE, "models", semb_score, ScoreTable(SEMB_SCORE, {"mean": SEMB_SCORE})),
        _with_tables("RadCliQ", "models", score_radcliq, *RADCLIQ_TABLES),
        _with_tables("RaTEScore", "models", score_ratescore, RATESCORE_TABLE),
        _with_tables("GREEN", "models", score_green, *GREEN_TABLES),
        *(
            _with_tables(name, "models", partial(radgraph_f1, model), *radgraph_tables(model))
            for model, name in RADGRAPHS.items()
        ),
    )
}
