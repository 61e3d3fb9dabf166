"""Findings of a report: what the observation labeller finds in it, as the phantom can draw it.

Side, zone, severity and kind are taken from the words around a mention where they state them; the rest is
drawn with its usual shares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from radscribe.observations import ObservationState
from radscribe.studies.phantom.sampling import draw_finding
from radscribe.studies.phantom.shares import DEVICE_SIDE_SHARES, SIDE_SHARES
from radscribe.studies.phantom.study import DRAWN_OBSERVATIONS, Finding, FindingState, Severity, Side, Zone
from radscribe.text.observation_labeller import sentence_spans
from radscribe.text.observation_sentences import read_sentence

_SIDES: Mapping[Side, str] = {
    "right": r"right(?! (?:heart|ventric|atri))|r[uml]l",
    "left": r"left(?! (?:heart|ventric|atri))|l[ul]l|lingula\w*",
    "bilateral": r"bilateral\w*|both|bi(?:basilar|basal|apical)|diffuse\w*",
}
_ZONES: Mapping[Zone, str] = {
    "upper": r"upper|apical|biapical|apex|apices|[rl]ul",
    "middle": r"mid|middle|(?:peri)?hil(?:ar|um|a)|lingula\w*|rml",
    "lower": r"lower|(?:bi)?basilar|(?:bi)?basal|bases?|bibasal|retrocardiac|costophrenic|[rl]ll",
}
_SEVERITIES: Mapping[Severity, str] = {
    "mild": r"mild\w*|small|tiny|minimal\w*|trace|slight\w*|subtle|minor|faint|nodul\w+|borderline",
    "moderate": r"moderate\w*|medium",
    "severe": r"severe\w*|large|marked\w*|massive\w*|extensive|gross\w*|mass(?:es)?",
}
_DEVICES: Mapping[str, str] = {
    "pacemaker": r"pac(?:e ?maker|er|ing)\w*|aicd|icd|defibrillator\w*",
    "endotracheal tube": r"endotracheal|et tube",
    "sternotomy wires": r"(?:sternotomy|sternal|cerclage) (?:wires?|sutures?|xxxx)",
    "chest tube": r"(?:chest|thoracostomy|pleural) (?:tubes?|drains?|catheters?)",
    "central venous catheter": r"\w*catheters?|picc|(?:central|venous|picc|jugular|subclavian) lines?|"
    r"\w*ports?|porta?.?caths?",
}
_PLEURA: Mapping[str, str] = {"plaque": r"plaques?|calcif\w+", "thickening": r"thick\w+|scar\w*|cap\w*"}
# The phantom breaks ribs alone.
_OTHER_BONES = re.compile(
    r"\b(?:clavic\w*|vertebr\w*|compression|spin\w+|[tl]-?\d+|humer\w*|scapul\w*|stern\w*|shoulder|wires?|"
    r"xxxx fractures?)\b"
)
_CLAUSE_ENDS = re.compile(r",|\b(?:with|without|but|which|although)\b")


_Name = TypeVar("_Name", bound=str)


class _Mention(NamedTuple):
    """A mention of an observation: its own words, those of its clause, and those of its sentence."""

    observation: str
    state: ObservationState
    words: str
    clause: str
    sentence: str

    def stated(self, phrases: Mapping[_Name, str]) -> list[_Name]:
        """Which of several things the clause states, else the sentence."""
        for text in (self.clause, self.sentence):
            if found := [name for name, words in phrases.items() if re.search(rf"\b(?:{words})\b", text)]:
                return found
        return []


def findings_of(
    text: str, states: Mapping[str, ObservationState], drawn: tuple[FindingState, ...], seed: int
) -> tuple[list[Finding], list[str]]:
    """The findings that a report states.

    Args:
        text: The report.
        states: State of each observation, as the labeller finds it in the report.
        drawn: States of the observations that are drawn.
        seed: Random seed of all that the report does not state.

    Returns:
        The findings; and the observations with such a state that the phantom cannot draw, such as a stent, or
        the fracture of another bone than a rib.
    """
    mentions = list(_mentions(text))
    findings: list[Finding] = []
    undrawn: list[str] = []
    for number, observation in enumerate(DRAWN_OBSERVATIONS):
        state = states[observation]
        if state not in drawn:
            continue
        generator = np.random.default_rng([seed, number])
        own = [
            mention for mention in mentions if (mention.observation, mention.state) == (observation, state)
        ]
        if found := list(_drawn(observation, state, own, generator)):
            findings += found
        else:
            undrawn.append(observation)
    return findings, undrawn


def _mentions(text: str) -> Iterator[_Mention]:
    lower = text.lower()
    for begin, end in sentence_spans(lower):
        sentence = lower[begin:end]
        for observations, state, (first, last), _ in read_sentence(sentence):
            ends = [match.span() for match in _CLAUSE_ENDS.finditer(sentence)]
            start = max((after for _, after in ends if after <= first), default=0)
            stop = min((before for before, _ in ends if before >= last), default=len(sentence))
            for name in observations:
                yield _Mention(name, state, sentence[first:last], sentence[start:stop], sentence)


def _drawn(
    observation: str, state: FindingState, mentions: list[_Mention], generator: np.random.Generator
) -> Iterator[Finding]:
    """The findings of one observation: one for each kind of device, else one at most."""
    kinds: list[str | None] = [None]
    if observation == "Support Devices":
        mentioned = " ".join(mention.words for mention in mentions)
        kinds = [kind for kind, words in _DEVICES.items() if re.search(rf"\b(?:{words})\b", mentioned)]
    elif observation == "Pleural Other":
        kinds = [*_first_stated(mentions, _PLEURA), None][:1]
    elif observation == "Fracture" and all(_OTHER_BONES.search(mention.sentence) for mention in mentions):
        kinds = []
    severity = next(iter(_first_stated(mentions, _SEVERITIES)), None)
    zone = next(iter(_first_stated(mentions, _ZONES)), None)
    for kind in kinds:
        of_kind = mentions
        if observation == "Support Devices":
            of_kind = [mention for mention in mentions if re.search(_DEVICES[str(kind)], mention.words)]
        yield draw_finding(
            generator,
            observation,
            state,
            side=_side(observation, kind, of_kind),
            zone=zone,
            severity=severity,
            kind=kind,
        )


def _first_stated(mentions: list[_Mention], phrases: Mapping[_Name, str]) -> list[_Name]:
    """What the first mention states that states any of it."""
    return next((found for mention in mentions if (found := mention.stated(phrases))), [])


def _side(observation: str, kind: str | None, mentions: list[_Mention]) -> Side | None:
    """The side that the mentions state together; None if they state none, or if there is only one place."""
    if "right" not in (SIDE_SHARES.get(observation) or DEVICE_SIDE_SHARES[str(kind)]):
        return None
    sides = {side for mention in mentions for side in mention.stated(_SIDES)}
    if "bilateral" in sides or {"right", "left"} <= sides:
        return "bilateral"
    return sides.pop() if sides else None
