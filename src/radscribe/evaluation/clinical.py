"""Clinical efficacy: agreement of draft and reference on the 14 observations, as additive statistics.

An observation that is present in both is a true positive. One that only the draft has is a false positive,
and one that only the reference has is a false negative. Their sums over studies give precision, recall and
F1:

- micro: computed from the sums over all observations;
- macro: the mean of the scores of the single observations, as in scikit-learn. Macro F1 is the mean of F1
  scores, not the F1 of mean precision and recall. A quotient with denominator 0 is 0 (`zero_division=0`), so
  an observation that no reference has lowers every macro score.

Each score is computed over all 14 observations and over the 5 of the CheXpert competition, and with uncertain
observations counted as absent and as present. An observation that is not mentioned counts as absent. A text
that the labeller cannot read has no observations; if more than `MANY_UNREADABLE` of the texts are unreadable,
there are no clinical scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.evaluation.metrics import Scores, StudyStatistics
from radscribe.observations import COMPETITION_OBSERVATIONS, OBSERVATIONS, ObservationState, as_binary
from radscribe.text.label_files import read_label_file
from radscribe.text.observation_labeller import label_report

States = Mapping[str, ObservationState]
UncertainPolicy = Literal["as_absent", "as_present"]

#: The published scripts of the R2Gen family use `as_absent`.
UNCERTAIN_POLICIES: tuple[UncertainPolicy, ...] = ("as_absent", "as_present")
_SETS = {len(names): names for names in (OBSERVATIONS, COMPETITION_OBSERVATIONS)}
_AVERAGED = ("micro P", "micro R", "micro F1", "macro P", "macro R", "macro F1")
#: If a larger share of drafts or references is unreadable, there are no clinical scores.
MANY_UNREADABLE = 0.05
#: Name of the labeller that is used if no label files are given.
OWN_RULES = "RadScribe's rules"
#: A classifier recognises an observation if its probability is at least this.
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class ClinicalBlock:
    """Clinical scores that are shown in one table.

    Attributes:
        title: Title of the table: number of observations, and what an uncertain observation counts as.
        observations: Observations that are scored.
        uncertain: What an uncertain observation counts as.
        names: Full name of each score by its short name; `micro F1` is short for `micro F1 (14, as_absent)`.
    """

    title: str
    observations: tuple[str, ...]
    uncertain: UncertainPolicy
    names: Mapping[str, str]


#: All clinical scores, in the order in which they are shown.
CLINICAL_BLOCKS = tuple(
    ClinicalBlock(
        title=f"{number} observations, uncertain {uncertain.replace('_', ' ')}",
        observations=observations,
        uncertain=uncertain,
        names={short: f"{short} ({number}, {uncertain})" for short in _AVERAGED},
    )
    for number, observations in _SETS.items()
    for uncertain in UNCERTAIN_POLICIES
)
CLASSIFIER_SCORES = {short: f"classifier {short}" for short in _AVERAGED}


@dataclass(frozen=True, slots=True)
class ObservationScore:
    """How well drafts agree with references on one observation.

    Attributes:
        precision: Share of the drafts with the observation whose references have it too; 0 if no draft has
            it.
        recall: Share of the references with the observation whose drafts have it too; 0 if no reference has
            it.
        f1: Harmonic mean of precision and recall; 0 if neither drafts nor references have the observation.
        support: Number of references that have the observation.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class LabelFiles:
    """Labels of drafts and references by another labeller, such as CheXbert, instead of RadScribe's rules.

    Attributes:
        drafts: States of all 14 observations in each draft, by study id.
        references: States of all 14 observations in each reference report, by study id.
        source: Name of the labels where scores are shown.
    """

    drafts: Mapping[str, States]
    references: Mapping[str, States]
    source: str


def read_label_files(drafts: Path, references: Path, ids: Iterable[str]) -> LabelFiles:
    """Read the labels of drafts and of references from two files of the same labeller.

    Args:
        drafts: Label file of the drafts, in a form that `radscribe.text.label_files.read_label_file` reads.
            Studies that are not scored are ignored.
        references: Label file of the references, in the same form.
        ids: Ids of the studies that are scored.

    Raises:
        RadScribeError: a file cannot be read, or it lacks one of the 14 observations or a study.
    """
    ids = sorted(ids)
    return LabelFiles(
        _labels_of(drafts, ids),
        _labels_of(references, ids),
        f"label files {drafts.name} and {references.name}",
    )


def _labels_of(path: Path, ids: Sequence[str]) -> dict[str, States]:
    labels = read_label_file(path)
    missing = [study for study in ids if study not in labels]
    if missing:
        raise RadScribeError(
            f"label file {path} has no labels of {len(missing)} of {len(ids)} studies, the first is "
            f"'{missing[0]}'",
            "Name the studies by the ids of the references, in a column 'study_id'",
        )
    columns = next(iter(labels.values()), {})
    unlabelled = [name for name in OBSERVATIONS if name not in columns]
    if unlabelled:
        raise RadScribeError(
            f"label file {path} has no column '{unlabelled[0]}'", "Clinical scores need all 14 observations"
        )
    return {study: labels[study] for study in ids}


def label_texts(texts: Iterable[str]) -> dict[str, States]:
    """States of the 14 observations by RadScribe's rules, for each distinct text.

    An unreadable text has no states.
    """
    return {text: label_report(text).states for text in set(texts)}


def why_unlabelled(what: str, states: Sequence[States]) -> str | None:
    """The reason why texts cannot have clinical scores: too many are unreadable. None if they can.

    Args:
        what: What the texts are, as a plural noun.
        states: States of the observations in each text; an unreadable text has none.
    """
    unreadable = sum(not of_text for of_text in states)
    if unreadable <= MANY_UNREADABLE * len(states):
        return None
    return (
        f"{unreadable} of {len(states)} {what} are unreadable to the labeller, which knows English only, and "
        f"above {MANY_UNREADABLE:.0%} its labels say too little"
    )


def clinical_statistics(drafts: Sequence[States], references: Sequence[States]) -> StudyStatistics:
    """Clinical efficacy of drafts against one reference each.

    Args:
        drafts: States of all 14 observations in each draft; an unreadable draft has none.
        references: States of all 14 observations in each reference report, in the same order.

    Returns:
        Columns `[studies, 2 policies * 14 observations * 3]`: true positives, false positives, false
        negatives. The scores are named as in `CLINICAL_BLOCKS`.

    Raises:
        RadScribeError: there are no studies, or the numbers of drafts and references differ.
    """
    if len(drafts) != len(references):
        raise RadScribeError(f"labels of {len(drafts)} drafts for those of {len(references)} references")
    if not references:
        raise RadScribeError("there are no studies to score")
    counts = [
        _counts(_present(drafts, uncertain), _present(references, uncertain))
        for uncertain in UNCERTAIN_POLICIES
    ]
    return StudyStatistics(np.stack(counts, axis=1).reshape(len(references), -1), _clinical_scores)


def observation_scores(statistics: StudyStatistics) -> dict[str, dict[str, ObservationScore]]:
    """The scores of each observation by uncertain policy, then observation, from `clinical_statistics`."""
    counts = _by_policy(statistics.columns.sum(axis=0))
    rates = precision_recall_f1(counts)
    support = counts[..., 0] + counts[..., 2]

    def score(at: tuple[int, int]) -> ObservationScore:
        precision, recall, f1 = rates[at].tolist()
        return ObservationScore(precision, recall, f1, int(support[at]))

    return {
        uncertain: {name: score((policy, index)) for index, name in enumerate(OBSERVATIONS)}
        for policy, uncertain in enumerate(UNCERTAIN_POLICIES)
    }


def classification_statistics(probabilities: np.ndarray, labels: np.ndarray) -> StudyStatistics:
    """How well the system's own classifier recognises the observations.

    Observations that are not labelled in any study are left out, also of the macro scores.

    Args:
        probabilities: Probabilities `[studies, observations]`; an observation is recognised from `THRESHOLD`
            on.
        labels: Labels `[studies, observations]`: 1 present, 0 absent, NaN ignored.

    Returns:
        Columns `[studies, labelled observations * 3]`; the scores are named as in `CLASSIFIER_SCORES`.

    Raises:
        RadScribeError: there is no label at all, or the shapes differ.
    """
    if probabilities.shape != labels.shape:
        raise RadScribeError(f"probabilities {probabilities.shape} for labels {labels.shape}")
    labelled = ~np.isnan(labels).all(axis=0)
    if not labelled.any():
        raise RadScribeError("there are no labels to compare the classifier with")
    labels, recognised = labels[:, labelled], probabilities[:, labelled] >= THRESHOLD
    counts = _counts(recognised, labels == 1) * ~np.isnan(labels)[..., None]

    def scores(sums: np.ndarray) -> Scores:
        averages = _averages(sums.reshape(*sums.shape[:-1], -1, 3))
        return {name: averages[short] for short, name in CLASSIFIER_SCORES.items()}

    return StudyStatistics(counts.reshape(len(labels), -1), scores)


def precision_recall_f1(counts: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 `[..., 3]` of true positives, false positives, false negatives `[..., 3]`."""
    true, wrong, missed = np.moveaxis(counts, -1, 0)
    over = np.stack([true, true, 2 * true], axis=-1)
    under = np.stack([true + wrong, true + missed, 2 * true + wrong + missed], axis=-1)
    return np.divide(over, under, out=np.zeros(under.shape), where=under > 0)


def _present(states: Sequence[States], uncertain: UncertainPolicy) -> np.ndarray:
    """Whether each observation counts as present in each text, bool `[studies, 14]`."""
    rows = (as_binary(of_text, uncertain=uncertain, missing="as_absent") for of_text in states)
    return np.array([[row.get(name, 0) for name in OBSERVATIONS] for row in rows], dtype=bool)


def _counts(drafted: np.ndarray, stated: np.ndarray) -> np.ndarray:
    """True positives, false positives and false negatives `[studies, observations, 3]` of bool arrays."""
    return np.stack([drafted & stated, drafted & ~stated, ~drafted & stated], axis=-1).astype(np.float64)


def _by_policy(sums: np.ndarray) -> np.ndarray:
    return sums.reshape(*sums.shape[:-1], len(UNCERTAIN_POLICIES), len(OBSERVATIONS), 3)


def _clinical_scores(sums: np.ndarray) -> Scores:
    counts = _by_policy(sums)
    scores: Scores = {}
    for block in CLINICAL_BLOCKS:
        chosen = [OBSERVATIONS.index(name) for name in block.observations]
        averages = _averages(counts[..., UNCERTAIN_POLICIES.index(block.uncertain), chosen, :])
        scores |= {name: averages[short] for short, name in block.names.items()}
    return scores


def _averages(counts: np.ndarray) -> Scores:
    """Micro and macro scores by name, each `[...]`, from counts `[..., observations, 3]`."""
    micro = precision_recall_f1(counts.sum(axis=-2))
    macro = precision_recall_f1(counts).mean(axis=-2)
    both = np.concatenate([micro, macro], axis=-1)
    return {short: both[..., index] for index, short in enumerate(_AVERAGED)}
