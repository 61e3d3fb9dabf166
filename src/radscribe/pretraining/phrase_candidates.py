"""The phrases that a phrase table may have: segments of sentences whose words belong together.

The rules are those of ORGan's released code (Hou et al., ACL 2023), whose phrases CmEAA takes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import pairwise

from radscribe.text.stop_words import stop_words

#: The words of a phrase.
Words = tuple[str, ...]
#: Words of a phrase at most.
LONGEST = 4
#: Words, pairs of neighbours and segments count only where they occur more often than this.
_SEEN = 3
#: Two neighbours stay together from this PMI on, in nats.
_TOGETHER = 1.0
#: Placeholder of de-identified reports that ORGan takes for a stop word; its `xxxx` is none.
_PLACEHOLDER = "xx"


def sentences(text: str) -> list[Words]:
    """The sentences of a cleaned report, in words; a `.` ends a sentence, and empty ones are left out."""
    return [words for sentence in text.split(".") if (words := tuple(sentence.split()))]


def candidates(reports: Iterable[Sequence[Words]], minimum_count: int) -> dict[Words, int]:
    """The phrases of reports that may describe an observation.

    A sentence is cut between two neighbours that do not belong together. Its last segment does not count, as
    in the released code. Segments that are seen often enough lose the stop words at both ends. A phrase is
    left out if half of its words are stop words, if it has a digit or a word without a letter, or if it is no
    frequent segment itself.

    Args:
        reports: Sentences of each report.
        minimum_count: Occurrences that a segment must exceed, wherever in a sentence they are.

    Returns:
        The occurrences of each phrase, in alphabetical order of the phrases.
    """
    all_sentences = [sentence for report in reports for sentence in report]
    segments = _segments(all_sentences)
    counts = Counter(words for sentence in all_sentences for words in occurrences(sentence, segments))
    frequent = {words for words, count in counts.items() if count > minimum_count}
    stripped = {_without_stop_words(words) for words in frequent}
    return {words: counts[words] for words in sorted(stripped & frequent) if _tells(words)}


def occurrences(sentence: Words, phrases: Container[Words]) -> Iterator[Words]:
    """Every occurrence of a phrase in a sentence; occurrences may overlap."""
    for begin in range(len(sentence)):
        for end in range(begin + 1, min(begin + LONGEST, len(sentence)) + 1):
            if (words := sentence[begin:end]) in phrases:
                yield words


def _segments(all_sentences: Sequence[Words]) -> set[Words]:
    """The segments that sentences fall into, if they are short and seen often enough."""
    words = Counter(word for sentence in all_sentences for word in sentence)
    pairs = Counter(pair for sentence in all_sentences for pair in pairwise(sentence))
    total = pairs.total()
    together = {
        (first, second)
        for (first, second), count in pairs.items()
        if count > _SEEN and math.log(total * count / (words[first] * words[second])) >= _TOGETHER
    }
    segments: Counter[Words] = Counter()
    for sentence in all_sentences:
        begin = 0
        for end, pair in enumerate(pairwise(sentence), start=1):
            if pair not in together:
                segments[sentence[begin:end]] += 1
                begin = end
    return {segment for segment, count in segments.items() if count > _SEEN and len(segment) <= LONGEST}


def _is_stop_word(word: str) -> bool:
    return word == _PLACEHOLDER or word in stop_words()


def _without_stop_words(words: Words) -> Words:
    """The words from the first to the last that is no stop word; empty where all are."""
    telling = [place for place, word in enumerate(words) if not _is_stop_word(word)]
    return words[telling[0] : telling[-1] + 1] if telling else ()


def _tells(words: Words) -> bool:
    """Whether a phrase can describe something."""
    return (
        2 * sum(map(_is_stop_word, words)) < len(words)
        and all(any(map(str.isalpha, word)) for word in words)
        and not any(map(str.isdigit, "".join(words)))
    )
