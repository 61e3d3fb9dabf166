"""RadGraph F1: agreement of the entities and relations of draft and reference, as additive statistics.

An entity is a stretch of words with a label, such as `effusion`, present; a relation leads from one entity to
another, such as `effusion` located at `left`. The three scores are those of Delbrouck et al. (Findings of
EMNLP 2022) and compare sets that are made from the entities of one report:

- simple: words and label;
- partial: words, label, and whether a relation starts at the entity;
- complete: words and label of an entity where no relation starts; otherwise, for each relation, words and
  label with the type of the relation and the words of the entity that it leads to.

F1 of the two sets is the score of a study. It is 0 if either text is empty or has no entity.

The package `radgraph` has two versions of the comparison. Up to 0.1.18 on PyPI, words are compared as they
are written, but for those of entities that start a relation in `complete`; since July 2026 its source
compares all words in lower case. Papers have used both, so both are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from radscribe.evaluation.metrics import Scores, StudyStatistics

#: How the words of entities are compared: in lower case, or as `radgraph` 0.1.18 does.
Case = Literal["lower", "released"]
LEVELS = ("simple", "partial", "complete")


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity of a report.

    Attributes:
        words: Its words, with one blank between two words.
        label: Its label, such as `OBS-DP`: an observation that is definitely present.
        relations: Type and target of each relation that starts here; the target is a key of the graph.
    """

    words: str
    label: str
    relations: tuple[tuple[str, str], ...] = ()


#: The entities of one report, by the keys that relations name.
Graph = Mapping[str, Entity]


def rewards(draft: Graph, reference: Graph, case: Case = "lower") -> tuple[float, float, float]:
    """The simple, partial and complete score of one study.

    Args:
        draft: Entities of the draft.
        reference: Entities of the reference report.
        case: Whether words are compared in lower case, or as the package `radgraph` 0.1.18 compares them.
    """
    simple, partial, complete = (
        f1(of_draft, of_reference)
        for of_draft, of_reference in zip(_compared(draft, case), _compared(reference, case), strict=True)
    )
    return simple, partial, complete


def combined(draft: Graph, reference: Graph) -> float:
    """The mean of the F1 of entities and the F1 of relations, which RadCliQ uses (Yu et al., Patterns 2023).

    An entity counts by its words, as they are written, and its label; a relation by its two entities and its
    type. It is 0 if the draft and the reference have no entity in common.

    Args:
        draft: Entities of the draft.
        reference: Entities of the reference report.
    """
    entities = f1(_compared(draft, "released")[0], _compared(reference, "released")[0])
    return (entities + f1(_relations(draft), _relations(reference))) / 2


def f1(draft: set[tuple[object, ...]], reference: set[tuple[object, ...]]) -> float:
    """F1 of two sets; 0 if they have nothing in common."""
    common = len(draft & reference)
    if not common:
        return 0.0
    precision, recall = common / len(draft), common / len(reference)
    return 2 * precision * recall / (precision + recall)


def reward_statistics(drafts: Sequence[Graph], references: Sequence[Graph], name: str) -> StudyStatistics:
    """Statistics of the studies, from which the means of the three scores by both comparisons follow.

    Args:
        drafts: Entities of each draft.
        references: Entities of each reference report, in the same order.
        name: Name that the names of the scores begin with, such as `RadGraph F1`.
    """
    columns = np.array(
        [
            [*rewards(draft, reference, "lower"), *rewards(draft, reference, "released"), 1.0]
            for draft, reference in zip(drafts, references, strict=True)
        ]
    )

    def scores_of_sums(sums: np.ndarray) -> Scores:
        means = sums[..., :-1] / sums[..., -1:]
        return {score: means[..., place] for place, score in enumerate(score_names(name))}

    return StudyStatistics(columns, scores_of_sums)


def score_names(name: str) -> tuple[str, ...]:
    """Names of the three scores in lower case, and then of those by the comparison of `radgraph` 0.1.18."""
    lower = tuple(f"{name} {level}" for level in LEVELS)
    return (*lower, *(f"{score} (case-sensitive)" for score in lower))


def _compared(graph: Graph, case: Case) -> list[set[tuple[object, ...]]]:
    """What is compared of the entities of a report: for the simple, the partial and the complete score."""

    def written(words: str) -> str:
        return words.lower() if case == "lower" else words

    simple: set[tuple[object, ...]] = set()
    partial: set[tuple[object, ...]] = set()
    complete: set[tuple[object, ...]] = set()
    for entity in graph.values():
        alone = (written(entity.words), entity.label)
        simple.add(alone)
        partial.add((*alone, True) if entity.relations else alone)
        if not entity.relations:
            complete.add(alone)
        for kind, target in entity.relations:
            # Version 0.1.18, too, compares these in lower case.
            complete.add((entity.words.lower(), entity.label, kind, graph[target].words.lower()))
    return [simple, partial, complete]


def _relations(graph: Graph) -> set[tuple[object, ...]]:
    """The relations of a report: words and label of both entities, and the type."""
    return {
        (entity.words, entity.label, graph[target].words, graph[target].label, kind)
        for entity in graph.values()
        for kind, target in entity.relations
    }
