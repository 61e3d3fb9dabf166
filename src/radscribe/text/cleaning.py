"""Text cleaning of the report-generation benchmarks, rule by rule.

The rules are those of the R2Gen code (Chen et al. 2020), which R2GenCMN and CAMANet share. They are kept
with their oddities (`1.5` becomes `15`, empty sentences stay): every published number depends on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

UNKNOWN_TOKEN = "<unk>"

# `:-\[` is a range, as in the original: it deletes `: ; < = > ? @ [` and keeps hyphens.
_PUNCTUATION = re.compile(r"""["/\\'.,?;*!%^&_+():-\[\]{}]""")


def _clean_sentences(text: str) -> str:
    """The steps that IU X-Ray and MIMIC-CXR share: drop list numbers, then clean each sentence."""
    text = text.replace("1. ", "")
    for before in (". ", " "):
        for number in "2345":
            text = text.replace(f"{before}{number}. ", ". ")
    sentences = text.strip().lower().split(". ")
    return " . ".join(_PUNCTUATION.sub("", sentence).strip() for sentence in sentences) + " ."


def clean_iu_xray(text: str) -> str:
    """Clean a report as the IU X-Ray benchmark does: lower-case words, each sentence closed by ` .`.

    Args:
        text: a report section as written.

    Returns:
        The cleaned text. Words may stand more than one space apart where a sentence was empty.
    """
    for _ in range(3):
        text = text.replace("..", ".")
    return _clean_sentences(text)


def clean_mimic_cxr(text: str) -> str:
    """Clean a report as the MIMIC-CXR benchmark does: line breaks and runs of `_`, blanks and `.` first.

    Args:
        text: a report section as written.

    Returns:
        The cleaned text, in the form of `clean_iu_xray`.
    """
    text = text.replace("\n", " ")
    for run, times in (("__", 7), ("  ", 6), ("..", 8)):
        for _ in range(times):
            text = text.replace(run, run[0])
    return _clean_sentences(text)


def leave_as_written(text: str) -> str:
    """The cleaning `none`: the text itself."""
    return text


#: Cleaning rules by the name that vocabularies, recipes and provenance lines use.
CLEANERS: dict[str, Callable[[str], str]] = {
    "iu_xray": clean_iu_xray,
    "mimic_cxr": clean_mimic_cxr,
    "none": leave_as_written,
}


def is_cleaned(text: str) -> bool:
    """Whether a text has the form that cleaning gives already, such as a draft written in a vocabulary.

    Cleaning such a text again would do harm: it turns `<unk>` into the word `unk`, and gives a draft that
    stopped in mid-sentence a full stop that its system never wrote.
    """
    return all(
        token in (".", UNKNOWN_TOKEN) or (token == token.lower() and not _PUNCTUATION.search(token))
        for token in text.split()
    )
