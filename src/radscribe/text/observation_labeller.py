"""States of the 14 observations in a report, by rules, with the words that decided each.

A report is split into sentences, and each sentence is read on its own:

1. mentions: a phrase that names something abnormal, or a structure with a word for its size;
2. cues that deny or leave open what follows or what stands before them, with the words that end their scope;
3. the state of each mention: denied is `absent`, left open is `uncertain`, else `present`.

Within a report `present` goes before `uncertain`, and that before `absent`. An observation that is present
does not make the observation above it in the CheXpert hierarchy present, as in the CheXpert label files. No
Finding is `present` in a text whose other observations, Support Devices aside, are neither present nor
uncertain; else `not_mentioned`. A text that is not English is unreadable and gets no states at all; a text
without a word, such as `.`, mentions nothing, and is no text without findings.

The observations are those of Irvin et al., CheXpert (2019); phrases and rules are our own: docs/labeller.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from radscribe.observations import OBSERVATIONS, ObservationState
from radscribe.text.observation_sentences import Span, read_sentence
from radscribe.text.readability import readability

_PRECEDENCE: Mapping[ObservationState, int] = {"not_mentioned": 0, "absent": 1, "uncertain": 2, "present": 3}

# Not at a decimal point, nor after `vs`; `?` before a word leaves that word open instead.
_SENTENCE_ENDS = re.compile(
    r"(?<!\bvs)(?<!\bvs )\.(?!\d)|[;!]|(?<=\w)\?|\n\s*\n|\n\s*(?=\d+\s*[.)]|[-*•])|\s--?\s"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The words that decided a state, as spans (begin, end) of the report.

    Attributes:
        sentence: in which it was decided.
        mention: the phrase that names the observation.
        cue: what denied it or left it open (or a word for normal size); None where nothing did.
    """

    sentence: Span
    mention: Span
    cue: Span | None


@dataclass(frozen=True, slots=True)
class ObservationLabels:
    """What a report says of each observation.

    Attributes:
        text: the report.
        states: of all 14 observations; of none where the text is unreadable.
        evidence: of each observation that is mentioned; No Finding, which follows from the others, has none.
        unreadable: whether the text has too few known English words to be labelled.
    """

    text: str
    states: Mapping[str, ObservationState]
    evidence: Mapping[str, Evidence]
    unreadable: bool = False

    def words(self, span: Span) -> str:
        """What the report says at a span."""
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
                "sentence": self.words(each.sentence),
                "mention": self.words(each.mention),
                "cue": self.words(each.cue) if each.cue else None,
                "spans": {"sentence": each.sentence, "mention": each.mention, "cue": each.cue},
            }
            for name, each in self.evidence.items()
        }
        return {"unreadable": self.unreadable, "observations": dict(self.states), "evidence": evidence}


def label_report(text: str) -> ObservationLabels:
    """Label a report, or some of its sections; texts cleaned for a benchmark will do.

    Args:
        text: as written.

    Returns:
        The state of each observation, with the first words that decided it; no states where the text is
        unreadable (`radscribe.text.readability`).
    """
    kind = readability(text)
    if kind == "unreadable":
        return ObservationLabels(text, {}, {}, unreadable=True)
    states: dict[str, ObservationState] = dict.fromkeys(OBSERVATIONS, "not_mentioned")
    evidence: dict[str, Evidence] = {}
    # Spans must hold in the text as written, so lower case may not change its length.
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    for begin, end in _sentences(lower):
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


def _sentences(text: str) -> Iterator[Span]:
    """Spans of the sentences, without the blanks around them; a semicolon ends one too."""
    begin = 0
    ends = [match.span() for match in _SENTENCE_ENDS.finditer(text)]
    for end, following in [*ends, (len(text), len(text))]:
        sentence = text[begin:end]
        stripped = sentence.strip()
        if stripped:
            first = begin + sentence.index(stripped)
            yield first, first + len(stripped)
        begin = following
