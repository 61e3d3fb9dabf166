"""Scores by CheXbert: F1 under every published mapping, each by its name, and SembScore.

Papers label drafts and references with CheXbert and report an F1, but not the same F1. They differ in:

- the mapping: an observation is positive if it is present or uncertain (`rrg`, as in f1chexbert, vilmedic and
  RadEval), or only if it is present (`positive only`, as in the scripts of R2Gen and of CXRMate-2). One that
  is blank is always negative;
- the observations: all 14, No Finding counted, or the 5 of the CheXpert competition;
- the average: `micro` (sums over observations), `macro` (mean over observations), `weighted` (mean over
  observations, weighted by how many references are positive) or `samples` (mean over studies);
- what a quotient with denominator 0 is: 0, as in scikit-learn, or left out of the mean (`empty left out`, as
  in CXRMate-2).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.evaluation.clinical import States, precision_recall_f1
from radscribe.evaluation.family import SYSTEM, FamilyScores, ScoredStudies, ScoreTable
from radscribe.evaluation.metrics import Scores, StudyStatistics
from radscribe.observations import COMPETITION_OBSERVATIONS, OBSERVATIONS, ObservationState

if TYPE_CHECKING:
    from radscribe.evaluation.chexbert import ReadText

#: The states that are positive under each mapping.
MAPPINGS: dict[str, tuple[ObservationState, ...]] = {
    "rrg": ("present", "uncertain"),
    "positive only": ("present",),
}
SETS = {len(names): names for names in (OBSERVATIONS, COMPETITION_OBSERVATIONS)}
AVERAGES = ("micro", "macro", "weighted", "samples")
MEASURES = ("P", "R", "F1")
SEMB_SCORE = "SembScore"

_CHOSEN = {number: [OBSERVATIONS.index(name) for name in names] for number, names in SETS.items()}
_COUNTS = 3 * len(OBSERVATIONS)
_LEFT_OUT = "14, positive only, empty left out"


def _columns(averages: Sequence[str], rules: str) -> dict[str, str]:
    """Names of the scores under some rules by heading, such as `micro F1`."""
    return {
        f"{average} {measure}": f"CheXbert {average} {measure} ({rules})"
        for average in averages
        for measure in MEASURES
    }


#: All tables of CheXbert scores; those of one mapping and one set of observations stand together.
CHEXBERT_TABLES = (
    *(
        ScoreTable(f"CheXbert ({number}, {mapping})", _columns(averages, f"{number}, {mapping}"))
        for number in SETS
        for mapping in MAPPINGS
        for averages in (AVERAGES[:2], AVERAGES[2:])
    ),
    ScoreTable("CheXbert (positive only, empty left out)", _columns(["macro"], _LEFT_OUT)),
    ScoreTable("CheXbert (5, rrg), all 5 right", {"accuracy": "CheXbert accuracy (5, rrg)"}),
)


def chexbert_f1(studies: ScoredStudies) -> FamilyScores:
    """The family of F1 scores; without its files the scores are missing, with the reason."""
    try:
        read, source = _read(studies)
    except RadScribeError as error:
        return FamilyScores(missing={"CheXbert F1": str(error)})
    references = [read[text].states for text in studies.whole_references]
    statistics = {
        row: chexbert_statistics([read[text].states for text in texts], references)
        for row, texts in studies.whole_drafts.items()
    }
    # The drafts of a stress test have rows of other names.
    tables = chexbert_by_observation(statistics[SYSTEM]) if SYSTEM in statistics else {}
    return FamilyScores(statistics, rules=source, by_observation=tables)


def semb_score(studies: ScoredStudies) -> FamilyScores:
    """The family of SembScore, the mean over studies of `semb_columns`."""
    try:
        columns, (_, source) = semb_columns(studies), _read(studies)
    except RadScribeError as error:
        return FamilyScores(missing={SEMB_SCORE: str(error)})

    def mean(sums: np.ndarray) -> Scores:
        return {SEMB_SCORE: sums[..., 0] / sums[..., 1]}

    return FamilyScores(
        {
            row: StudyStatistics(np.column_stack([column, np.ones_like(column)]), mean)
            for row, column in columns.items()
        },
        rules=source,
    )


def semb_columns(studies: ScoredStudies) -> dict[str, np.ndarray]:
    """SembScore of each study `[studies]` by row: the cosine of the CLS vectors of draft and reference.

    Raises:
        RadScribeError: the files of CheXbert are not there, or cannot be used.
    """

    def compute() -> dict[str, np.ndarray]:
        read, _ = _read(studies)
        references = _vectors(read, studies.whole_references)
        return {
            row: _cosines(_vectors(read, texts), references) for row, texts in studies.whole_drafts.items()
        }

    return studies.files.once(SEMB_SCORE, compute)


def chexbert_statistics(drafts: Sequence[States], references: Sequence[States]) -> StudyStatistics:
    """F1 under every mapping, of drafts against one reference each.

    Args:
        drafts: States of all 14 observations in each draft.
        references: States of all 14 observations in each reference, in the same order.

    Returns:
        For each mapping, columns `[studies, 42 + 6 + 1]`: true positives, false positives and false negatives
        of the 14 observations; precision, recall and F1 of the study itself over 14 and over 5; whether it
        is right in all 5. The last column counts the studies. The scores are those of `CHEXBERT_TABLES`.

    Raises:
        RadScribeError: there are no studies, or the numbers of drafts and references differ.
    """
    if len(drafts) != len(references):
        raise RadScribeError(f"labels of {len(drafts)} drafts for those of {len(references)} references")
    if not references:
        raise RadScribeError("there are no studies to score")
    columns = []
    for positive in MAPPINGS.values():
        ours, theirs = _positive(drafts, positive), _positive(references, positive)
        counts = np.stack([ours & theirs, ours & ~theirs, ~ours & theirs], axis=-1).astype(np.float64)
        own = [precision_recall_f1(counts[:, chosen].sum(axis=1)) for chosen in _CHOSEN.values()]
        right = (ours == theirs)[:, _CHOSEN[5]].all(axis=1)
        columns += [counts.reshape(len(drafts), -1), *own, right]
    return StudyStatistics(np.column_stack([*columns, np.ones(len(drafts))]), _scores)


def chexbert_by_observation(statistics: StudyStatistics) -> dict[str, dict[str, dict[str, float]]]:
    """P, R and F1 of each observation and how many references are positive, from `chexbert_statistics`.

    A quotient with denominator 0 is 0. The values are by title of a table, such as `CheXbert (14, rrg)`, then
    observation and measure.
    """
    found = {}
    for mapping, of_mapping in _by_mapping(statistics.columns.sum(axis=0)).items():
        counts = _counts(of_mapping)
        positive = (counts[:, 0] + counts[:, 2]).astype(int).tolist()
        rates = precision_recall_f1(counts).tolist()
        found[f"CheXbert (14, {mapping})"] = {
            name: {"positive": number, **dict(zip(MEASURES, of_name, strict=True))}
            for name, number, of_name in zip(OBSERVATIONS, positive, rates, strict=True)
        }
    return found


def _read(studies: ScoredStudies) -> tuple[Mapping[str, ReadText], str]:
    """What CheXbert makes of every draft and reference as it was written, and which checkpoint it was."""

    def compute() -> tuple[Mapping[str, ReadText], str]:
        from radscribe.evaluation.chexbert import CheXbert

        chexbert = CheXbert.load(studies.files)
        texts = [
            text for texts in (studies.whole_references, *studies.whole_drafts.values()) for text in texts
        ]
        return chexbert.read(texts, progress=studies.files.progress), chexbert.name

    return studies.files.once("CheXbert", compute)


def _vectors(read: Mapping[str, ReadText], texts: Sequence[str]) -> np.ndarray:
    return np.array([read[text].vector for text in texts], dtype=np.float64)


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines of the vectors `[studies, width]` of the same study; 0 if a vector is 0."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.divide((first * second).sum(axis=1), lengths, out=np.zeros(len(first)), where=lengths > 0)


def _positive(states: Sequence[States], positive: Collection[ObservationState]) -> np.ndarray:
    """Whether each observation is positive in each text, bool `[studies, 14]`."""
    return np.array([[of_text[name] in positive for name in OBSERVATIONS] for of_text in states])


def _by_mapping(sums: np.ndarray) -> dict[str, np.ndarray]:
    """The sums `[..., 42 + 6 + 1]` of each mapping."""
    return dict(zip(MAPPINGS, np.split(sums[..., :-1], len(MAPPINGS), axis=-1), strict=True))


def _counts(of_mapping: np.ndarray) -> np.ndarray:
    """True positives, false positives and false negatives `[..., 14, 3]` of a mapping."""
    return of_mapping[..., :_COUNTS].reshape(*of_mapping.shape[:-1], -1, 3)


def _scores(sums: np.ndarray) -> Scores:
    studies = sums[..., -1:]
    scores: Scores = {}
    parts = _by_mapping(sums)
    for position, (number, chosen) in enumerate(_CHOSEN.items()):
        for mapping, of_mapping in parts.items():
            counts = _counts(of_mapping)[..., chosen, :]
            first = _COUNTS + 3 * position
            rates = {**_averages(counts), "samples": of_mapping[..., first : first + 3] / studies}
            scores |= _named(rates, f"{number}, {mapping}")
    scores |= _named({"macro": _macro_of_defined(parts["positive only"])}, _LEFT_OUT)
    return scores | {"CheXbert accuracy (5, rrg)": parts["rrg"][..., -1] / studies[..., 0]}


def _named(rates: Mapping[str, np.ndarray], rules: str) -> Scores:
    """Precision, recall and F1 `[..., 3]` of each average as scores `[...]` by full name."""
    return {
        f"CheXbert {average} {measure} ({rules})": values[..., index]
        for average, values in rates.items()
        for index, measure in enumerate(MEASURES)
    }


def _averages(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Micro, macro and weighted P, R and F1, each `[..., 3]`, from counts `[..., observations, 3]`."""
    rates = precision_recall_f1(counts)
    support = (counts[..., 0] + counts[..., 2])[..., None]
    total = support.sum(axis=-2)
    weighted = (rates * support).sum(axis=-2)
    return {
        "micro": precision_recall_f1(counts.sum(axis=-2)),
        "macro": rates.mean(axis=-2),
        "weighted": np.divide(weighted, total, out=np.zeros(weighted.shape), where=total > 0),
    }


def _macro_of_defined(of_mapping: np.ndarray) -> np.ndarray:
    """Means `[..., 3]` of precision, recall and F1 over the observations whose denominator is not 0."""
    counts = _counts(of_mapping)
    true, wrong, missed = np.moveaxis(counts, -1, 0)
    defined = np.stack([true + wrong, true + missed, true + wrong + missed], axis=-1) > 0
    number = defined.sum(axis=-2)
    total = precision_recall_f1(counts).sum(axis=-2)  # what is not defined is 0 in this sum
    return np.divide(total, number, out=np.zeros(total.shape), where=number > 0)
