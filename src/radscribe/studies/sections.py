"""The sections of a MIMIC-CXR report, by the rules that the field uses (Johnson et al., Sci. Data 2019).

MIMIC-CXR's reports are texts whose sections begin with a header in capitals. The authors of the data set
published rules that find them. `mimic_cxr_sectioned.csv`, on which published figures rest, is what these
rules give. All of them are here, also those that only a few reports need:

- A header is a new line, a space, capitals with spaces and `()/,-`, a colon and white space. A header on the
  line on which a section begins is not one.
- The text before the first header is the section `preamble`; a text without header is one section,
  `full report`.
- Names are unified: misspellings and synonyms by a table, other names by the words in them.
- Empty sections of findings and impression do not count.
- If neither findings nor impression is left, the last section is cut at its first blank line, and what
  follows is the section `last_paragraph`.
- Of several sections of one name, the last counts.

54 reports do not follow the rules, and the authors ruled on each by hand: these studies are in the texts that
were given to the labellers, and are not in `mimic_cxr_sectioned.csv`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

#: Name of the text behind the first blank line of a report without findings and impression.
LAST_PARAGRAPH = "last_paragraph"

_HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
_BLANK_LINE = "\n \n"
#: Names that stand for each unified name; those with an odd spelling are errors of typing in the reports.
_SPELLINGS = {
    "impression": (
        "impression, conclusion, findings and impression, findings/impression, findings/ impression, "
        "impresson, imprression, imoression, impressoin, imprssion, impresion, imperssion, mpression, "
        "impession, ndication"
    ),
    "findings": (
        "findings, finding, reference findings, findins, findindgs, findgings, findngs, findnings, finidngs"
    ),
    "comparison": (
        "comparison, comparisons, comparison exam, reference exam, comparison film, comparision, comparsion, "
        "comparrison, comparisions"
    ),
    "indication": "indication, reason for examination, reason for exam, clinical indication, idication",
    "history": "history, clinical history, clinical information, patient history, pfi",
    "examination": "examination, exam, type of examination",
    "recommendations": "recommendations, recommendation, recommendation(s)",
    "wet read": "wet read, wetread",
    "preamble": "preamble",
    "technique": "technique",
    "notification": "notification",
    "addendum": "addendum",
    "date": "date",
    "comment": "comment",
}
_UNIFIED = {
    spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split(", ")
} | {"chest, two views": "findings"}
#: A name that is not in the table and has one of these in it is unified to the first of them.
_CONTAINED = ("impression", "findings", "history", "comparison", "addendum")
#: A name with one of these in it names the examination, and its section holds the findings.
_OF_FINDINGS = (
    "chest",
    "portable",
    "pa and lateral",
    "lateral and pa",
    "ap and lateral",
    "lateral and ap",
    "frontal and",
    "two views",
    "frontal view",
    "pa view",
    "ap view",
    "one view",
    "lateral view",
    "bone window",
    "frontal upright",
    "frontal semi-upright",
    "ribs",
    "pa and lat",
)
#: Studies whose conclusion stands below a header of another name, by that name.
_UNDER_ANOTHER_HEADER = {
    "recommendations": "50913680 59768032 59067458 59087630 58157373 56482935 58375018",
    "examination": "59363654 53356173 50743547 59215320 55157853",
    "technique": "59279892 53202765 50808053",
    "indication": "57936451 50058765 51966317 55124749 54365831 54654948",
    "note": "56451190",
    "history": "51491012",
}
#: Studies whose conclusion has no header: the places of its first character and behind its last one.
_BY_PLACE = {
    "50525523": (201, 349),
    "57564132": (233, 554),
    "59982525": (313, 717),
    "53488209": (149, 475),
    "54875119": (234, 988),
    "50196495": (59, 399),
    "56579911": (59, 218),
    "52648681": (292, 631),
    "59889364": (172, 453),
    "53514462": (73, 377),
    "59505494": (59, 450),
    "53182247": (59, 412),
    "51410602": (47, 320),
    "56412866": (522, 822),
    "54986978": (59, 306),
    "59003148": (262, 505),
    "57150433": (61, 394),
    "56760320": (219, 457),
    "59562049": (158, 348),
    "52674888": (145, 296),
    "55258338": (192, 568),
    "59330497": (140, 655),
    "52119491": (179, 454),
}
_WITHOUT_CONCLUSION = "58235663 50798377 54168089 53071062 56724958 54231141 53607029 52035334"
#: What the authors ruled on a study, by its id: the section with its conclusion, or the places of it.
HAND_RULED: dict[str, str | tuple[int, int]] = {
    **{study: name for name, studies in _UNDER_ANOTHER_HEADER.items() for study in studies.split()},
    **_BY_PLACE,
    **dict.fromkeys(_WITHOUT_CONCLUSION.split(), (0, 0)),
}


class Section(NamedTuple):
    """A section of a report: its unified name, and its text as it stands in the report."""

    name: str
    text: str


def split_report(text: str) -> list[Section]:
    """All sections of a report in their order, by the rules at the top of this file.

    Args:
        text: The report, with newlines as line ends.
    """
    header = _HEADER.search(text)
    sections = [Section("preamble", text[: header.start(1)]) if header else Section("full report", text)]
    while header:
        begin = header.end()
        following = _HEADER.search(text, max(text.find("\n", begin), begin))
        end = following.start() if following else len(text)
        sections.append(Section(unified_name(header[1]), text[begin:end]))
        header = following
    sections = [
        section
        for section in sections
        if section.name not in ("impression", "findings") or section.text.strip()
    ]
    if not {"impression", "findings"} & {section.name for section in sections}:
        last = sections[-1]
        head, blank_line, rest = last.text.partition(_BLANK_LINE)
        if blank_line:
            sections[-1:] = [Section(last.name, head), Section(LAST_PARAGRAPH, rest)]
    return sections


@cache
def unified_name(header: str) -> str:
    """The unified name of a section, from its header without the colon."""
    name = header.lower().strip()
    if name in _UNIFIED:
        return _UNIFIED[name]
    if contained := next((main for main in _CONTAINED if main in name), ""):
        return contained
    return "findings" if any(words in name for words in _OF_FINDINGS) else name


def report_sections(text: str) -> dict[str, str]:
    """The sections of a report by unified name, without white space around them; the last of each name.

    Args:
        text: The report, with newlines as line ends.
    """
    return {name: section.strip() for name, section in split_report(text)}


def hand_ruled_conclusion(study: str, text: str) -> str:
    """The conclusion of a report on which the authors ruled by hand; empty if the report has none.

    Args:
        study: Id of the study, one of `HAND_RULED`.
        text: The report, with newlines as line ends.
    """
    ruling = HAND_RULED[study]
    if isinstance(ruling, str):
        return report_sections(text).get(ruling, "")
    return text[slice(*ruling)].strip()
