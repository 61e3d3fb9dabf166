"""Text cleaning of the report-generation benchmarks, rule by rule.

The rules are those of the R2Gen code (Chen et al. 2020), which R2GenCMN and CAMANet share. They are kept
with their oddities (`1.5` becomes `15`, empty sentences stay): every published number depends on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

UNKNOWN_TOKEN = "<unk>"

# `:-\[` is a range, as in the original: it deletes `: ; < = > ? @ [` and keeps hyphens.
_PUNCTUATION = re.compile(r"""["/\\'.,?;*!%^&_+():-\[\]{}]""")
# R2GenGPT's character class for MIMIC-CXR lacks the range, so that `: < = > @` stay.
_PUNCTUATION_OF_R2GENGPT = re.compile(r"""["/\\'.,?;*!%^&_+()\[\]{}]""")


def _without_numbers(text: str) -> str:
    """Remove the numbers of a list."""
    text = text.replace("1. ", "")
    for before in (". ", " "):
        for number in "2345":
            text = text.replace(f"{before}{number}. ", ". ")
    return text


def _clean_sentences(text: str, punctuation: re.Pattern[str] = _PUNCTUATION) -> str:
    """The last cleaning steps of all benchmarks: lower case, no punctuation, and ` .` after each sentence."""
    sentences = text.strip().lower().split(". ")
    return " . ".join(punctuation.sub("", sentence).strip() for sentence in sentences) + " ."


def clean_iu_xray(text: str) -> str:
    """Clean a report as the IU X-Ray benchmark does: lower-case words, each sentence closed by ` .`.

    Args:
        text: Report section as it was written.

    Returns:
        The cleaned text. Two words may be more than one space apart if a sentence was empty.
    """
    for _ in range(3):
        text = text.replace("..", ".")
    return _clean_sentences(_without_numbers(text))


def clean_mimic_cxr(text: str) -> str:
    """Clean a report as the MIMIC-CXR benchmark does: line breaks and runs of `_`, blanks and `.` go first.

    Args:
        text: Report section as it was written.

    Returns:
        The cleaned text, in the form of `clean_iu_xray`.
    """
    return _clean_sentences(_without_runs(text))


def clean_mimic_cxr_as_r2gengpt(text: str) -> str:
    """Clean a report as R2GenGPT and its successors do: a blank before each colon, and `: < = > @` stay.

    Args:
        text: Report section as it was written.

    Returns:
        The cleaned text, otherwise in the form of `clean_iu_xray`.
    """
    return _clean_sentences(_without_runs(text).replace(":", " :"), _PUNCTUATION_OF_R2GENGPT)


def _without_runs(text: str) -> str:
    """Replace line breaks, shorten runs and remove list numbers, as for MIMIC-CXR."""
    text = text.replace("\n", " ")
    for run, times in (("__", 7), ("  ", 6), ("..", 8)):
        for _ in range(times):
            text = text.replace(run, run[0])
    return _without_numbers(text)


def leave_as_written(text: str) -> str:
    """The cleaning `none`: the text itself."""
    return text


#: The names of `CLEANERS`.
CleaningName = Literal["iu_xray", "mimic_cxr", "mimic_cxr_r2gengpt", "none"]

#: Cleaning rules by the name that vocabularies, recipes and provenance lines use.
CLEANERS: dict[str, Callable[[str], str]] = {
    "iu_xray": clean_iu_xray,
    "mimic_cxr": clean_mimic_cxr,
    "mimic_cxr_r2gengpt": clean_mimic_cxr_as_r2gengpt,
    "none": leave_as_written,
}


def is_cleaned(text: str, cleaning: str = "iu_xray") -> bool:
    """Whether a text is cleaned already, such as a draft that was written with a vocabulary.

    Cleaning such a text again would do harm: it turns `<unk>` into the word `unk`, and gives a draft that
    stopped in mid-sentence a full stop that its system never wrote.

    Args:
        text: Text that may need cleaning.
        cleaning: Name of the cleaning rules in `CLEANERS`.
    """
    punctuation = _PUNCTUATION_OF_R2GENGPT if cleaning == "mimic_cxr_r2gengpt" else _PUNCTUATION
    return all(
        token in (".", UNKNOWN_TOKEN) or (token == token.lower() and not punctuation.search(token))
        for token in text.split()
    )
