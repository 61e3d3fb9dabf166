"""The observation labeller: states of the 14 observations in a report, by rules, with the deciding words.

A report is split into sentences, and each sentence is read on its own in three steps:

1. Find mentions: phrases that name something abnormal, or a structure with a word for its size.
2. Find cues, which deny what comes before or after them or leave it open, and words that end their scope.
3. Give each mention a state: `absent` if it is denied, `uncertain` if it is left open, else `present`.

Within a report, `present` wins over `uncertain`, and `uncertain` over `absent`. As in the CheXpert label
files, a present observation does not make the observation above it in the CheXpert hierarchy present. No
Finding is `present` if no other observation, Support Devices aside, is present or uncertain; else it is
`not_mentioned`. A text that is not English is unreadable and gets no states at all. A text without a word,
such as `.`, mentions nothing, and its No Finding is not present.

The observations are those of Irvin et al., CheXpert (2019); phrases and rules are our own, see
docs/labeller.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from radscribe.observations import OBSERVATIONS, ObservationState
from radscribe.text.observation_sentences import Span, read_sentence
from radscribe.text.readability import readability

_PRECEDENCE: Mapping[ObservationState, int] = {"not_mentioned": 0, "absent": 1, "uncertain": 2, "present": 3}

# A sentence does not end at a decimal point or after `vs`. A `?` before a word leaves that word open instead.
_SENTENCE_ENDS = re.compile(
    r"(?<!\bvs)(?<!\bvs )\.(?!\d)|[;!]|(?<=\w)\?|\n\s*\n|\n\s*(?=\d+\s*[.)]|[-*•])|\s--?\s"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The words that decided a state, as spans (begin, end) of the report.

    Attributes:
        sentence: Sentence in which the state was decided.
        mention: Phrase that names the observation.
        cue: Words that denied the observation or left it open (or a word for normal size); None if there are
            none.
    """

    sentence: Span
    mention: Span
    cue: Span | None


@dataclass(frozen=True, slots=True)
class ObservationLabels:
    """What a report says of each observation.

    Attributes:
        text: Text of the report.
        states: State of each of the 14 observations; empty if the text is unreadable.
        evidence: Evidence of each observation that is mentioned. No Finding has none, because it follows from
            the others.
        unreadable: Whether the text has too few known English words to be labelled.
    """

    text: str
    states: Mapping[str, ObservationState]
    evidence: Mapping[str, Evidence]
    unreadable: bool = False

    def words(self, span: Span) -> str:
        """The words of the report at a span."""
        return self.text[slice(*span)]

    def __str__(self) -> str:
        """One line: what is present, uncertain and absent."""
        if self.unreadable:
            return "unreadable: too few known English words"
        named = {
            state: ", ".join(name for name, its_state in self.states.items() if its_state == state)
            for state in ("present", "uncertain", "absent")
        }
        return (
            "; ".join(f"{state}: {names}" for state, names in named.items() if names) or "nothing mentioned"
        )

    def to_json(self) -> dict[str, object]:
        """The labels as `radscribe label --json` prints them: states, and evidence with words and spans."""
        evidence = {
            name: {
                "sentence": self.words(found.sentence),
                "mention": self.words(found.mention),
                "cue": self.words(found.cue) if found.cue else None,
                "spans": {"sentence": found.sentence, "mention": found.mention, "cue": found.cue},
            }
            for name, found in self.evidence.items()
        }
        return {"unreadable": self.unreadable, "observations": dict(self.states), "evidence": evidence}


def label_report(text: str) -> ObservationLabels:
    """Label a report or some of its sections; texts that were cleaned for a benchmark can be labelled too.

    Args:
        text: Text as it was written.

    Returns:
        The state of each observation, with the first words that decided it; no states if the text is
        unreadable (`radscribe.text.readability`).
    """
    kind = readability(text)
    if kind == "unreadable":
        return ObservationLabels(text, {}, {}, unreadable=True)
    states: dict[str, ObservationState] = dict.fromkeys(OBSERVATIONS, "not_mentioned")
    evidence: dict[str, Evidence] = {}
    # Spans are positions in the text as it was written, so lower case must not change its length.
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    for begin, end in sentence_spans(lower):
        for observations, state, mention, cue in read_sentence(lower[begin:end]):
            for name in observations:
                if _PRECEDENCE[state] > _PRECEDENCE[states[name]]:
                    states[name] = state
                    evidence[name] = Evidence(
                        (begin, end), _shifted(mention, begin), _shifted(cue, begin) if cue else None
                    )
    abnormal = {name for name, state in states.items() if state in ("present", "uncertain")}
    if abnormal <= {"Support Devices"} and kind == "readable":
        states["No Finding"] = "present"
    return ObservationLabels(text, states, evidence)


def _shifted(span: Span, by: int) -> Span:
    return span[0] + by, span[1] + by


def sentence_spans(text: str) -> Iterator[Span]:
    """Spans of the sentences, without the blanks around them; a semicolon also ends a sentence."""
    begin = 0
    ends = [match.span() for match in _SENTENCE_ENDS.finditer(text)]
    for end, following in [*ends, (len(text), len(text))]:
        sentence = text[begin:end]
        stripped = sentence.strip()
        if stripped:
            first = begin + sentence.index(stripped)
            yield first, first + len(stripped)
        begin = following
