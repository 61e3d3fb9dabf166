"""Changes of a report that a metric should notice, or should not: negation, sides, severity, and sentences.

What is negated are the statements that the observation labeller finds. A negated sentence counts only if the
labeller then reads every one of its findings the other way round; otherwise the sentence stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from radscribe.text.observation_labeller import sentence_spans
from radscribe.text.observation_phrases import AFFIRMATIVE
from radscribe.text.observation_sentences import Span, Statement, read_sentence


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One way to change a text.

    Attributes:
        description: What happens to the text, in a few words.
        change: Makes the changed text.
        keeps_meaning: Whether the changed text says the same of the patient.
    """

    description: str
    change: Callable[[str], str]
    keeps_meaning: bool = False


_SIDES = {"left": "right", "right": "left"}
#: Each word for a severity becomes one that is clearly more or clearly less; none needs another article.
_SEVERITIES = {
    "trace": "large",
    "tiny": "large",
    "small": "large",
    "large": "small",
    "mild": "severe",
    "mildly": "severely",
    "moderate": "minimal",
    "moderately": "minimally",
    "minimal": "severe",
    "minimally": "severely",
    "severe": "mild",
    "severely": "mildly",
    "slight": "marked",
    "slightly": "markedly",
    "marked": "slight",
    "markedly": "slightly",
}
#: What a cue that denies becomes where the finding is asserted; a cue that fits none cannot be turned.
_ASSERTED = (
    (re.compile(r"\bno longer\s*"), ""),
    (re.compile(r"^no\s*"), ""),
    (re.compile(r"^without\b"), "with"),
    (re.compile(r"^(?:absence|lack) of\b"), "presence of"),
    (re.compile(r"^absent\b"), "present"),
    (re.compile(r"^(?:clear|free|devoid|negative) (?:of|from|for)\b"), "positive for"),
    (re.compile(r"^neither\b"), "both"),
    (re.compile(r"^nor\b"), "and"),
    (re.compile(r"\bnot\s*"), ""),
)
_ENLARGED = re.compile(
    r"\b(?:(?:mildly|moderately|severely|slightly|markedly|minimally)\s+)?"
    r"(?:enlarged|widened|prominent|increased|larger?)\b"
)
_SIZED = {"Cardiomegaly", "Enlarged Cardiomediastinum"}
#: Words between the place of `no` and the finding that it denies.
_MODIFIERS = re.compile(rf"(?:\b(?:{AFFIRMATIVE}|focal|layering|large|acute|new|subtle|dense)[\s-]+)+$")
_ARTICLE = re.compile(r"(?:an?|the|some)\s+")
_ALTERNATIVE = re.compile(r"\bn?or\b")
_TURNED = {"present": "absent", "absent": "present"}


def _swapped(words: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces whole words, and keeps a capital."""
    pattern = re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)

    def swap(match: re.Match[str]) -> str:
        word = words[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

    return lambda text: pattern.sub(swap, text)


def negate(text: str, *, first_only: bool = False) -> str:
    """Assert what a text denies, and deny what it asserts, sentence by sentence.

    Findings that are left open, and devices, stay as they are.

    Args:
        text: Report as it was written, or cleaned.
        first_only: Stop after the first sentence that can be negated.
    """
    pieces, end = [], 0
    for begin, sentence_end in list(sentence_spans(text)):
        sentence = text[begin:sentence_end]
        turned = _negated_sentence(sentence)
        pieces += [text[end:begin], turned]
        end = sentence_end
        if first_only and turned != sentence:
            break
    return "".join([*pieces, text[end:]])


def _negated_sentence(sentence: str) -> str:
    """A sentence whose findings are all turned; the sentence itself if one of them cannot be."""
    lower = sentence.lower()
    before = _findings(lower)
    if not before or len(lower) != len(sentence):
        return sentence
    edits: dict[Span, str] = {}
    for statement in before:
        found = _assertion(lower, statement) if statement.state == "absent" else _denial(lower, statement)
        if found is None:
            return sentence
        edits |= found
    denied = [statement for statement in before if statement.state == "absent"]
    for first, second in pairwise(denied):
        word = _ALTERNATIVE.search(lower, first.mention[1], second.mention[0])
        if word and first.cue == second.cue:
            edits[word.span()] = "and"  # for `A or B` would leave both open
    turned = sentence
    for (begin, end), words in sorted(edits.items(), reverse=True):
        turned = turned[:begin] + words + turned[end:]
    turned = " ".join(turned.split()) if "\n" not in sentence else turned
    if sentence[0].isupper() and turned:
        following = turned.removeprefix("no ")
        # A word that no longer begins the sentence loses its capital, unless it is an abbreviation.
        if following != turned and following[1:2].islower():
            turned = f"no {following[0].lower()}{following[1:]}"
        turned = turned[0].upper() + turned[1:]
    after = {name: found.state for found in _findings(turned.lower()) for name in found.observations}
    wanted = {name: _TURNED[found.state] for found in before for name in found.observations}
    return turned if after == wanted else sentence


def _findings(sentence: str) -> list[Statement]:
    """The statements of a sentence that assert or deny a finding."""
    return [
        statement
        for statement in read_sentence(sentence)
        if statement.state in _TURNED and "Support Devices" not in statement.observations
    ]


def _assertion(sentence: str, statement: Statement) -> dict[Span, str] | None:
    """The edits that assert a denied finding; None if there are none."""
    if statement.cue is None:
        return None
    begin, end = statement.cue
    cue = sentence[begin:end]
    if set(statement.observations) <= _SIZED and not cue.startswith(("no", "not", "without")):
        return {statement.cue: "enlarged"}
    if cue.startswith("normal"):
        return {statement.cue: "enlarged"}
    for pattern, words in _ASSERTED:
        if pattern.search(cue):
            return {statement.cue: pattern.sub(words, cue, count=1)}
    return None


def _denial(sentence: str, statement: Statement) -> dict[Span, str]:
    """The edits that deny an asserted finding."""
    begin, end = statement.mention
    if set(statement.observations) <= _SIZED and (size := _ENLARGED.search(sentence, begin, end)):
        return {size.span(): "normal"}
    if modifiers := _MODIFIERS.search(sentence, 0, begin):
        begin = modifiers.start()
    article = _ARTICLE.match(sentence, begin)
    return {(begin, article.end() if article else begin): "no "}


def _sentences(text: str) -> list[str]:
    """The sentences of a text, each with what ends it."""
    begins = [begin for begin, _ in sentence_spans(text)] or [0]
    return [text[begin:end].strip() for begin, end in pairwise([*begins, len(text)])]


def reverse_sentences(text: str) -> str:
    """The same sentences from the last to the first."""
    return " ".join(reversed(_sentences(text)))


def drop_sentences(text: str) -> str:
    """A text without every second sentence; the first stays."""
    return " ".join(_sentences(text)[::2])


#: Perturbations by name, in the order in which they are shown.
PERTURBATIONS: Mapping[str, Perturbation] = {
    "one negated": Perturbation(
        "the first sentence that can be is negated", lambda text: negate(text, first_only=True)
    ),
    "all negated": Perturbation("every sentence that can be is negated", negate),
    "sides swapped": Perturbation("left and right are swapped", _swapped(_SIDES)),
    "severity changed": Perturbation("small becomes large, mild severe, and the like", _swapped(_SEVERITIES)),
    "reversed": Perturbation("the sentences stand in reverse order", reverse_sentences, keeps_meaning=True),
    "half dropped": Perturbation("every second sentence is left out", drop_sentences),
}
