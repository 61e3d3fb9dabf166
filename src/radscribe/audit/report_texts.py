"""Reports that protocols cut, and odd reports: without text, short, in no English, or repeated."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from radscribe.audit.reports import as_written
from radscribe.text.cleaning import CleaningName
from radscribe.text.protocols import PROTOCOLS, ProtocolName
from radscribe.text.readability import readability

if TYPE_CHECKING:
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer

#: A report of fewer words is short.
SHORT = 3
#: A sentence of fewer words may stand twice in a report.
_TELLING = 3
#: Kinds of odd reports, and what each of them means.
ODD_REPORTS = {
    "empty": "no text",
    "no words": "only punctuation, numbers, single letters and placeholders such as xxxx",
    "short": f"fewer than {SHORT} words",
    "not English": "too few of its words are known English words",
    "repeats itself": f"has a sentence of {_TELLING} words or more twice",
    "repeated": "another study of the same split has the same report",
}


class Cut(NamedTuple):
    """Text rules that may cut reports.

    Attributes:
        protocol: Name of the protocol.
        cleaning: Name of the cleaning rules.
        maximum_length: Largest number of ids; None if nothing is cut.
    """

    protocol: ProtocolName
    cleaning: CleaningName
    maximum_length: int | None

    def __str__(self) -> str:
        if self.maximum_length is None:
            return self.protocol
        return f"{self.protocol}, {self.cleaning}, {self.maximum_length}"

    def rate(self, reports: Sequence[str], tokenizer: LanguageModelTokenizer | None) -> float | None:
        """Share of reports that lose words; None without the tokenizer that the protocol needs.

        Args:
            reports: Reports as they were written.
            tokenizer: Tokenizer of a language model.
        """
        protocol = PROTOCOLS[self.protocol]
        if protocol.through_tokenizer and tokenizer is None:
            return None
        return protocol.truncation_rate(
            reports, cleaning=self.cleaning, maximum_length=self.maximum_length, tokenizer=tokenizer
        )


#: The text rules of the benchmarks: those of IU X-Ray and of MIMIC-CXR, and protocols that never cut.
CUTS = (
    Cut("r2gen", "iu_xray", 60),
    Cut("r2gen", "mimic_cxr", 100),
    Cut("r2gengpt", "iu_xray", 60),
    Cut("r2gengpt", "mimic_cxr_r2gengpt", 100),
    Cut("clean_full", "iu_xray", None),
    Cut("raw", "none", None),
)


def odd_reports(reports: Sequence[str]) -> dict[str, list[int]]:
    """The places of odd reports by their kind; a report may be odd in several ways.

    Args:
        reports: All reports of one split, as they were written.
    """
    times = Counter(map(as_written, reports))
    found: dict[str, list[int]] = {kind: [] for kind in ODD_REPORTS}
    for place, report in enumerate(reports):
        for kind in _oddities(report, times):
            found[kind].append(place)
    return found


def _oddities(report: str, times: Counter[str]) -> list[str]:
    text = as_written(report)
    if not text:
        return ["empty"]
    kinds = []
    readable = readability(text)
    if readable == "empty":
        kinds.append("no words")
    elif len(text.split()) < SHORT:
        kinds.append("short")
    if readable == "unreadable":
        kinds.append("not English")
    sentences = Counter(_sentences(text))
    if any(count > 1 and len(sentence.split()) >= _TELLING for sentence, count in sentences.items()):
        kinds.append("repeats itself")
    if times[text] > 1:
        kinds.append("repeated")
    return kinds


def _sentences(text: str) -> list[str]:
    return [" ".join(sentence.lower().split()) for sentence in re.split(r"[.!?;]+(?=\s|$)", text)]
