"""Reading one sentence of a report: which observations it mentions, and in which state.

Mentions are found first, then the cues that deny them or leave them open; see `observation_labeller`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from radscribe.observations import ObservationState
from radscribe.text.observation_phrases import AFFIRMATIVE, CUES, FINDINGS, SIZES, STRUCTURES, compile_phrases

Span = tuple[int, int]

_FINDINGS, _FINDING_OBSERVATIONS = compile_phrases(FINDINGS.values()), (None, *FINDINGS)
_STRUCTURES, _STRUCTURE_OBSERVATIONS = compile_phrases(STRUCTURES.values()), (None, *STRUCTURES)
_SIZES, _SIZE_NAMES = compile_phrases(SIZES.values()), ("", *SIZES)
_CUES, _CUE_KINDS = compile_phrases(CUES.values()), ("", *CUES)

_OR = re.compile(r"\b(?:or|nor)\b|/")
_EITHER_WITHIN = re.compile(r"\b(?:or|versus|vs)\b")
_AND = re.compile(r"\b(?:and|as well as)\b|&")
_AFFIRMATIVE = re.compile(rf"(?:,|\band\b|^)\s*(?:{AFFIRMATIVE})\b")
_CHAIN = re.compile(
    r"\W*(?:(?:and|or|nor|pleural|focal|acute|large|small|mild|new|left|right|bilateral|any)\b\W*)*"
)
_NOT_BEFORE = re.compile(r"\b(?:not|non|nor|without)(?!\s+(?:chang|increas))(?:\s+\w+){0,2}[\s-]+$")
_OR_AHEAD = re.compile(r"(?:\s+\w+){0,4}(?:,(?:\s+\w+){1,4})?,\s*(?:and/)?or\b")
_ATTRIBUTIVE = re.compile(r"\b(?:with|and|from|of|for|an?|the)\s*$")
_LISTED = re.compile(r"(?:,|\b(?:or|nor))\s*$")
_LEADS_ON = re.compile(
    r"\b(?:suggest\w*|consistent|compatible|concerning|suspicious|represent\w*|indicat\w*|of|for)\b"
)
_STATEMENT_ENDS = re.compile(r"\b(?:but|however|although|though|except|with|there|while|which)\b")
_FINITE_VERB = re.compile(r"\b(?:is|are|was|were|has|have|remains?|appears?|shows?|demonstrates?)\b")
_UNCHANGED = re.compile(r"\b(?:stable|unchanged)\b(?!\W+(?:\w+\W+){0,2}$)")
_BETWEEN_SIZE_AND_STRUCTURE = re.compile(
    r"\W*(?:(?:of|the|in|size|and|or|but|stable|unchanged|overall|appearance|appearing|contours?|silhouettes?|shadow|"
    r"configuration|caliber|heart|cardiac|mediastin\w+|cardiomediastin\w+|hilar|hila|pulmonary|vascular\w*|aort\w+|"
    r"superior|upper|this|mild|global|transverse|diameter|central)\b\W*)*"
)


class Statement(NamedTuple):
    """What a sentence says of some observations; spans lie in the sentence."""

    observations: tuple[str, ...]
    state: ObservationState
    mention: Span
    cue: Span | None


@dataclass(slots=True)
class _Mention:
    """A mention while its sentence is read.

    Attributes:
        observations: Observations that the mention names.
        begin, end: Place of the mention among the cues.
        span: Span of the whole mention; for a structure it covers the structure and the word for its size.
        denied, left_open: Cue that denies the mention, and cue that leaves it open.
    """

    observations: tuple[str, ...]
    begin: int
    end: int
    span: Span
    denied: Span | None = None
    left_open: Span | None = None


class _Cue(NamedTuple):
    begin: int
    end: int
    kind: str


# Reports repeat sentences; a sentence is read the same wherever it stands.
@lru_cache(maxsize=16384)
def read_sentence(sentence: str) -> tuple[Statement, ...]:
    """The statements that a sentence in lower case makes about observations."""
    mentions = [
        _Mention(observations, match.start(), match.end(), match.span())
        for match in _FINDINGS.finditer(sentence)
        if (observations := _FINDING_OBSERVATIONS[match.lastindex or 0])
    ]
    sized, statements = _read_structures(sentence)
    mentions = sorted([*mentions, *sized], key=lambda mention: mention.begin)
    if mentions:
        _apply_cues(sentence, mentions)
    for found in mentions:
        state: ObservationState = "absent" if found.denied else "uncertain" if found.left_open else "present"
        statements.append(Statement(found.observations, state, found.span, found.denied or found.left_open))
    return tuple(statements)


def _read_structures(sentence: str) -> tuple[list[_Mention], list[Statement]]:
    """Structures with a word for their size: enlarged ones as mentions, the others as statements."""
    mentions: list[_Mention] = []
    statements: list[Statement] = []
    structures = list(_STRUCTURES.finditer(sentence))
    sizes = list(_SIZES.finditer(sentence)) if structures else []
    taken = 0  # end of the last word for size that belongs to a structure before it
    for structure in structures:
        observations = _STRUCTURE_OBSERVATIONS[structure.lastindex or 0]
        size = _size_of(structure.span(), sizes, sentence, taken) if observations else None
        if not observations or size is None:
            continue
        if size.start() >= structure.end():
            taken = size.end()
        name = _SIZE_NAMES[size.lastindex or 0]
        span = min(structure.start(), size.start()), max(structure.end(), size.end())
        if name == "normal":
            statements.append(Statement(observations, "absent", structure.span(), size.span()))
        elif name == "borderline":
            statements.append(Statement(observations, "uncertain", structure.span(), size.span()))
        else:
            negation = _NOT_BEFORE.search(sentence, 0, size.start())
            denied = negation.span() if negation else None
            mentions.append(_Mention(observations, size.start(), size.end(), span, denied=denied))
    return mentions, statements


def _size_of(structure: Span, sizes: list[re.Match[str]], sentence: str, taken: int) -> re.Match[str] | None:
    """The word for the size of a structure: the one just before it, or else the next one in its statement.

    Words before `taken` belong to another structure.
    """
    begin, end = structure
    following = next((size for size in sizes if size.start() >= end), None)
    preceding = next((size for size in reversed(sizes) if taken < size.end() <= begin), None)
    if preceding and _BETWEEN_SIZE_AND_STRUCTURE.fullmatch(sentence, preceding.end(), begin):
        return preceding
    if following:
        gap = sentence[end : following.start()]
        if (
            not _STATEMENT_ENDS.search(gap)
            and not _UNCHANGED.search(gap)
            and len(_FINITE_VERB.findall(gap)) <= 1
            and len(gap.split()) <= 12
        ):
            return following
    return None


def _apply_cues(sentence: str, mentions: list[_Mention]) -> None:
    """Let the cues of a sentence deny its mentions or leave them open."""
    cues = [
        _Cue(match.start(), match.end(), _CUE_KINDS[match.lastindex or 0])
        for match in _CUES.finditer(sentence)
    ]
    cues = [cue for cue in cues if not any(m.begin <= cue.begin < m.end for m in mentions)]
    _apply_forward(sentence, mentions, cues)
    for cue in cues:
        if cue.kind.endswith("_before"):
            _apply_backward(sentence, mentions, cues, cue)
    _apply_alternatives(sentence, mentions, cues)


def _apply_forward(sentence: str, mentions: list[_Mention], cues: list[_Cue]) -> None:
    denial: _Scope | None = None
    opening: _Scope | None = None
    events: list[_Cue | _Mention] = sorted([*cues, *mentions], key=lambda event: event.begin)
    for event in events:
        if isinstance(event, _Mention):
            if denial and not denial.reaches(event, mentions, sentence):
                denial = None
            if opening and not opening.reaches(event, mentions, sentence):
                opening = None
            event.denied = event.denied or (denial.cue[:2] if denial else None)
            event.left_open = opening.cue[:2] if opening else None
            continue
        backward = (
            event.kind.endswith("_before") and _mention_before(sentence, mentions, cues, event) is not None
        )
        if event.kind in ("ends", "verb") or backward:
            denial = opening = None
        elif event.kind == "seen":
            if _LISTED.search(sentence, 0, event.begin):  # `no effusion or visible pneumothorax`
                continue
            denial = denial if denial and denial.last is None else None
            opening = opening if opening and opening.last is None else None
        elif event.kind in ("denied_after", "denied_before"):
            denial, opening = _Scope(event, denies=True), None
        elif event.kind in ("open_after", "open_before", "excluded_before"):
            opening = _Scope(event, denies=False)


@dataclass(slots=True)
class _Scope:
    """How far a cue reaches forward.

    Attributes:
        cue: Cue that opens the scope.
        denies: Whether the cue denies; otherwise it leaves open.
        last: Last mention that the scope reached.
    """

    cue: _Cue
    denies: bool
    last: _Mention | None = None

    def reaches(self, mention: _Mention, mentions: list[_Mention], sentence: str) -> bool:
        """Whether the scope reaches a mention; no word before the mention has closed the scope."""
        gap = sentence[self.last.end if self.last else self.cue.end : mention.begin]
        reached = self._continues(gap, mention, mentions, sentence)
        self.last = mention
        return reached

    def _continues(self, gap: str, mention: _Mention, mentions: list[_Mention], sentence: str) -> bool:
        if _OR.search(gap):
            return True
        if self.last is None and "," not in gap:
            return True
        if _list_goes_on(mention, mentions, sentence):
            return True
        if not self.denies and _OR_AHEAD.match(sentence, mention.end):
            return True
        if _AFFIRMATIVE.search(gap if self.last is None else gap.strip()):
            return False
        if self.last is None or _AND.search(gap):
            return True
        if "," not in gap and _LEADS_ON.search(gap):  # `no opacity to suggest pneumonia`
            return True
        return self.denies and len(gap.split()) <= 3


def _list_goes_on(mention: _Mention, mentions: list[_Mention], sentence: str) -> bool:
    """Whether a mention is in a list that an `or` closes later."""
    rest = [other for other in mentions if other.begin > mention.begin]
    for before, after in pairwise([mention, *rest]):
        gap = sentence[before.end : after.begin]
        if _OR.search(gap):
            return not _FINITE_VERB.search(gap)
        if "," not in gap or len(gap.split()) > 4:
            return False
    return False


def _mention_before(sentence: str, mentions: list[_Mention], cues: list[_Cue], cue: _Cue) -> int | None:
    """Index of the mention that a cue applies to backwards: the last one before it in its statement."""
    if _ATTRIBUTIVE.search(sentence, 0, cue.begin):
        return None
    start = max((other.end for other in cues if other.kind == "ends" and other.end <= cue.begin), default=0)
    before = [index for index, mention in enumerate(mentions) if start <= mention.begin < cue.begin]
    return before[-1] if before else None


def _apply_backward(sentence: str, mentions: list[_Mention], cues: list[_Cue], cue: _Cue) -> None:
    index = _mention_before(sentence, mentions, cues, cue)
    if index is None:
        return
    chain = [mentions[index]]
    joined = False
    for before in reversed(mentions[:index]):
        gap = sentence[before.end : chain[-1].begin]
        if not _CHAIN.fullmatch(gap):
            break
        joined = joined or bool(_OR.search(gap) or _AND.search(gap))
        if not joined:
            break
        chain.append(before)
    span = cue.begin, cue.end
    for mention in chain:
        if cue.kind == "denied_before":
            mention.denied = mention.denied or span
        elif cue.kind == "excluded_before" and mention is chain[0]:
            mention.denied, mention.left_open = None, span
        else:
            mention.left_open = mention.left_open or span


def _apply_alternatives(sentence: str, mentions: list[_Mention], cues: list[_Cue]) -> None:
    """Leave both alternatives open, as in `atelectasis versus pneumonia` and `atelectasis or pneumonia`."""
    for mention in mentions:
        if word := _EITHER_WITHIN.search(sentence, mention.begin, mention.end):
            mention.left_open = mention.left_open or word.span()
    for cue in cues:
        if cue.kind == "either":
            sides = [mention for mention in mentions if mention.end <= cue.begin][-1:]
            sides += [mention for mention in mentions if mention.begin >= cue.end][:1]
            for mention in sides:
                mention.left_open = mention.left_open or (cue.begin, cue.end)
    for before, after in pairwise(mentions):
        if before.observations == after.observations or before.denied or after.denied:
            continue
        word = _OR.search(sentence, before.end, after.begin)
        kinds = {cue.kind for cue in cues if before.end <= cue.begin < after.begin}
        if word and not kinds & {"ends", "verb", "none"}:
            before.left_open = before.left_open or word.span()
            after.left_open = after.left_open or word.span()
