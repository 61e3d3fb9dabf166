"""Whether a text is English as reports are written, so that the observation labeller can read it.

The labeller knows English words only. In a report in another language it finds no finding, which is not the
same as a report without findings; so it must know which texts it cannot read.

A text is judged by its words, against the list in `report_words.txt`. Words that reports in other languages
have too (`pleural`, `normal`, `edema`) count for nothing. A text is unreadable where fewer than
`ENGLISH_SHARE` of its other words are in the list. Misspelt, rare and abbreviated words are few enough in
English reports: docs/labeller.md has the figures.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Literal

Readability = Literal["readable", "unreadable", "empty"]

#: Share of English words from which on a text is readable, among those that are not shared by languages.
ENGLISH_SHARE = 0.4

# Words of two letters or more; letters that are not ASCII, even one; what decoding makes of bytes that are no
# text. Other single letters, and all that stands together with digits, belong to every language.
_WORDS = re.compile(r"\b[^\W\d_]{2,}\b|[^\W\d_a-z]+|[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]+")
# What takes the place of a word: the `xxxx` of de-identified reports, and `<unk>`.
_PLACEHOLDERS = frozenset({"unk", "xx", "xxx", "xxxx", "xxxxx"})


def readability(text: str) -> Readability:
    """Whether a report can be read.

    Args:
        text: a report or a part of one, as written or cleaned.

    Returns:
        `empty` where there is no word at all, as in `.` or `<unk>`; else `readable` or `unreadable`.
    """
    english, shared = _word_lists()
    words = [word for word in _WORDS.findall(text.lower()) if word not in _PLACEHOLDERS]
    if not words:
        return "empty"
    telling = [word for word in words if word not in shared]
    known = len([word for word in telling if word in english])
    return "readable" if known >= ENGLISH_SHARE * len(telling) else "unreadable"


@cache
def _word_lists() -> tuple[frozenset[str], frozenset[str]]:
    """English words, and those that several languages share, from `report_words.txt`."""
    lists: dict[str, set[str]] = {"english": set(), "shared": set()}
    for line in files("radscribe.text").joinpath("report_words.txt").read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            kind, _, words = line.partition(": ")
            lists[kind].update(words.split())
    return frozenset(lists["english"]), frozenset(lists["shared"])
