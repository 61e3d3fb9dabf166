"""Agreement of two labellers on the same texts: counts, Cohen's kappa and F1 by observation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.evaluation.tables import means_table
from radscribe.observations import OBSERVATION_STATES, OBSERVATIONS, ObservationState
from radscribe.text.observation_labeller import ObservationLabels

#: Disagreements that are printed; all are in the JSON.
SHOWN = 10
_LONGEST_SENTENCE = 200


@dataclass(frozen=True, slots=True)
class ObservationAgreement:
    """How two labellers agree on one observation.

    Attributes:
        counts: Number of texts by the state of the first labeller, then that of the second.
        agreement: Share of the texts with the same state.
        kappa: Cohen's kappa over the four states; None if both labellers give one state to all texts.
        f1: F1 of `present`, which is the same whichever of the two is taken for the truth; 0 if neither has
            it.
    """

    counts: Mapping[ObservationState, Mapping[ObservationState, int]]
    agreement: float
    kappa: float | None
    f1: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An observation of a text on which two labellers differ.

    Attributes:
        text: Number of the text, from 1.
        observation: Name of the observation.
        first: State that the first labeller gives.
        second: State that the second labeller gives.
        words: Sentence that decided the first state; the whole text if no sentence did.
    """

    text: int
    observation: str
    first: ObservationState
    second: ObservationState
    words: str

    def __str__(self) -> str:
        short = self.words if len(self.words) <= _LONGEST_SENTENCE else f"{self.words[:_LONGEST_SENTENCE]}..."
        states = f"{self.first.replace('_', ' ')}, not {self.second.replace('_', ' ')}"
        return f"text {self.text}, {self.observation}: {states}: {' '.join(short.split())}"


@dataclass(frozen=True)
class LabelAgreement:
    """Agreement of a labeller with another one. `str()` gives the table and the first disagreements.

    Attributes:
        texts: Number of texts that both labelled.
        unreadable: Number of texts that the first labeller could not read; they are left out.
        observations: Agreement by observation.
        disagreements: All disagreements, in the order of the texts.
    """

    texts: int
    unreadable: int
    observations: Mapping[str, ObservationAgreement]
    disagreements: Sequence[Disagreement]

    def to_json(self) -> dict[str, Any]:
        """The agreement as plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        rows = {}
        for name, found in self.observations.items():
            both = found.counts["present"]["present"]
            rows[name] = {
                "both present": both,
                "only first": sum(found.counts["present"].values()) - both,
                "only second": sum(of_first["present"] for of_first in found.counts.values()) - both,
                "same state": found.agreement,
                "kappa": math.nan if found.kappa is None else found.kappa,
                "F1 present": found.f1,
            }
        left_out = f", and {self.unreadable} unreadable ones left out" if self.unreadable else ""
        more = len(self.disagreements) - SHOWN
        return "\n".join(
            [
                means_table(f"{self.texts} texts", rows),
                "",
                f"{self.texts} texts{left_out}; {len(self.disagreements)} disagreements"
                + (", the first of them:" if self.disagreements else ""),
                *map(str, self.disagreements[:SHOWN]),
                *([f"and {more} more, which --json lists"] if more > 0 else []),
            ]
        )


def label_agreement(
    first: Sequence[ObservationLabels], second: Sequence[Mapping[str, ObservationState]]
) -> LabelAgreement:
    """Compare the labels of texts with those of another labeller.

    Args:
        first: Labels of each text.
        second: States that the other labeller gives, in the same order. Only its observations are compared.

    Raises:
        RadScribeError: the numbers of texts differ, or no text is readable.
    """
    if len(first) != len(second):
        raise RadScribeError(
            f"there are {len(first)} texts, and labels of {len(second)}",
            "Give labels of exactly these texts, in their order",
        )
    pairs = [
        (number, ours, theirs)
        for number, (ours, theirs) in enumerate(zip(first, second, strict=True), start=1)
        if not ours.unreadable
    ]
    if not pairs:
        raise RadScribeError("no text is readable, so there is nothing to compare", "Give reports in English")
    names = [name for name in OBSERVATIONS if name in pairs[0][2]]
    return LabelAgreement(
        len(pairs),
        len(first) - len(pairs),
        {
            name: _agreement([(ours.states[name], theirs[name]) for _, ours, theirs in pairs])
            for name in names
        },
        [
            Disagreement(number, name, ours.states[name], theirs[name], _words(ours, name))
            for number, ours, theirs in pairs
            for name in names
            if ours.states[name] != theirs[name]
        ],
    )


def _agreement(pairs: Sequence[tuple[ObservationState, ObservationState]]) -> ObservationAgreement:
    found = Counter(pairs)
    counts = {
        first: {second: found[first, second] for second in OBSERVATION_STATES} for first in OBSERVATION_STATES
    }
    firsts, seconds = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    agreement = sum(counts[state][state] for state in OBSERVATION_STATES) / len(pairs)
    chance = sum(firsts[state] * seconds[state] for state in OBSERVATION_STATES) / len(pairs) ** 2
    present = firsts["present"] + seconds["present"]
    return ObservationAgreement(
        counts,
        agreement,
        kappa=None if chance == 1 else (agreement - chance) / (1 - chance),
        f1=2 * counts["present"]["present"] / present if present else 0.0,
    )


def _words(labels: ObservationLabels, observation: str) -> str:
    evidence = labels.evidence.get(observation)
    return labels.words(evidence.sentence) if evidence else labels.text
