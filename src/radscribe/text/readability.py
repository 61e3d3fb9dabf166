"""Whether a text is in the English of reports, so that the observation labeller can read it.

The labeller knows English words only. It finds nothing in a report in another language, but that report may
have findings. So the labeller must know which texts it cannot read.

A text is judged by its words, which are compared with the list in `report_words.txt`. Words that are also
used in reports in other languages (`pleural`, `normal`, `edema`) do not count. A text is unreadable if fewer
than `ENGLISH_SHARE` of its other words are in the list. Misspelt, rare and abbreviated words are few enough
in English reports: docs/labeller.md has the figures.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Literal

Readability = Literal["readable", "unreadable", "empty"]

#: Smallest share of English words in a readable text, among words that languages do not share.
ENGLISH_SHARE = 0.4

# Words of two letters or more; letters that are not ASCII, even a single one; and characters that come from
# decoding bytes that are no text. Other single letters, and everything that is joined to digits, belong to
# every language.
_WORDS = re.compile(r"\b[^\W\d_]{2,}\b|[^\W\d_a-z]+|[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]+")
# Words that stand for another word: the `xxxx` of de-identified reports, and `<unk>`.
_PLACEHOLDERS = frozenset({"unk", "xx", "xxx", "xxxx", "xxxxx"})


def readability(text: str) -> Readability:
    """Whether a report can be read.

    Args:
        text: Report or part of a report, as written or cleaned.

    Returns:
        `empty` if there is no word at all, as in `.` or `<unk>`; else `readable` or `unreadable`.
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
    """English words, and words that several languages share, from `report_words.txt`."""
    lists: dict[str, set[str]] = {"english": set(), "shared": set()}
    for line in files("radscribe.text").joinpath("report_words.txt").read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            kind, _, words = line.partition(": ")
            lists[kind].update(words.split())
    return frozenset(lists["english"]), frozenset(lists["shared"])
