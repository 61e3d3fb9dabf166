"""The rules that find the sections of a MIMIC-CXR report, each on a text that needs it."""

import pytest

from radscribe.studies.sections import (
    HAND_RULED,
    hand_ruled_conclusion,
    report_sections,
    split_report,
    unified_name,
)

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)
 
 INDICATION:  ___ year old woman with cough  // pneumonia?
 
 TECHNIQUE:  Chest PA and lateral
 
 COMPARISON:  None.
 
 FINDINGS: 
 
 The lungs are clear.  There is no
 pleural effusion.
 
 IMPRESSION: 
 
 No acute cardiopulmonary process.
"""


def test_a_usual_report():
    assert report_sections(REPORT) == {
        "preamble": "FINAL REPORT",
        "examination": "CHEST (PA AND LAT)",
        "indication": "___ year old woman with cough  // pneumonia?",
        "technique": "Chest PA and lateral",
        "comparison": "None.",
        "findings": "The lungs are clear.  There is no\n pleural effusion.",
        "impression": "No acute cardiopulmonary process.",
    }


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("", {"full report": ""}),
        ("Clear.", {"full report": "Clear."}),
        # The header needs a line before it, a space, capitals, and white space behind the colon.
        (" FINDINGS: Clear.", {"full report": "FINDINGS: Clear."}),
        ("\nFINDINGS: Clear.", {"full report": "FINDINGS: Clear."}),
        ("\n\tFINDINGS: Clear.", {"full report": "FINDINGS: Clear."}),
        ("\n   FINDINGS : Clear.", {"preamble": "", "findings": "Clear."}),
        ("\n Findings: Clear.", {"full report": "Findings: Clear."}),
        ("\n FINDINGS:Clear.", {"full report": "FINDINGS:Clear."}),
        ("\n FINDINGS2: Clear.", {"full report": "FINDINGS2: Clear."}),
        ("\n FINDINGS:\nClear.", {"preamble": "", "findings": "Clear."}),
        # A header on the line on which a section begins is text.
        ("\n HISTORY:\n FINDINGS: Clear.", {"preamble": "", "history": "FINDINGS: Clear."}),
        (
            "\n HISTORY: Pain.\n FINDINGS: Clear.",
            {"preamble": "", "history": "Pain.", "findings": "Clear."},
        ),
        # The last of equal names counts, and an empty one of findings does not.
        (
            "\n FINDINGS: Old.\n FINDINGS: New.\n FINDINGS: \n IMPRESSION: Fine.",
            {"preamble": "", "findings": "New.", "impression": "Fine."},
        ),
        (
            "\n FINDINGS: Old.\n COMPARISON: A.\n FINDINGS: New.\n COMPARISON:  \n\n",
            {"preamble": "", "findings": "New.", "comparison": ""},
        ),
        (
            "\n CHEST, PA LATERAL: \n\n INDICATION: Cough.\n IMPRESSION: Clear.",
            {"preamble": "", "indication": "Cough.", "impression": "Clear."},
        ),
    ],
)
def test_headers(text, sections):
    assert report_sections(text) == sections


def test_last_paragraph():
    text = "\n HISTORY: Fever.\n \n The lungs are clear.\n \n No effusion.\n"
    assert [tuple(section) for section in split_report(text)] == [
        ("preamble", "\n "),
        ("history", "Fever."),
        ("last_paragraph", " The lungs are clear.\n \n No effusion.\n"),
    ]
    # Of a text without header, too; and a blank line without its space is none.
    assert report_sections("Chest.\n \n Clear.") == {"full report": "Chest.", "last_paragraph": "Clear."}
    assert report_sections("Chest.\n\n Clear.") == {"full report": "Chest.\n\n Clear."}
    # Empty findings do not count, so the section before them is the last one.
    text = "A line.\n \n Clear.\n FINDINGS: \n"
    assert report_sections(text) == {"preamble": "A line.", "last_paragraph": "Clear."}
    assert "last_paragraph" not in report_sections("\n FINDINGS: A.\n COMPARISON: B.\n \n C.")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("IMPRESSION", "impression"),
        ("CONCLUSION", "impression"),
        ("NDICATION", "impression"),
        ("FINDINGS/ IMPRESSION", "impression"),
        ("CHEST, TWO VIEWS", "findings"),
        ("FINIDNGS", "findings"),
        ("REASON FOR EXAM", "indication"),
        ("PFI", "history"),
        ("RECOMMENDATION(S)", "recommendations"),
        ("COMPARISON FILM", "comparison"),
        ("WETREAD", "wet read"),
        # The order of the main names decides, not the place in the header.
        ("FINDINGS AND FINAL IMPRESSION", "impression"),
        ("HISTORY AND COMPARISON", "history"),
        ("COMPARISON WITH ADDENDUM", "comparison"),
        ("PORTABLE UPRIGHT FILM", "findings"),
        ("LEFT RIBS, THREE VIEWS", "findings"),
        ("EXAMINATION OF THE CHEST", "findings"),
        ("NOTE", "note"),
        ("  DATE ", "date"),
    ],
)
def test_unified_names(header, name):
    assert unified_name(header) == name


def test_hand_ruled_studies():
    assert len(HAND_RULED) == 54
    by_name = {study: ruling for study, ruling in HAND_RULED.items() if isinstance(ruling, str)}
    assert len(by_name) == 23
    assert sum(ruling == (0, 0) for ruling in HAND_RULED.values()) == 8
    text = "\n INDICATION: First.\n INDICATION: The lungs are clear.\n COMPARISON: None."
    assert hand_ruled_conclusion("57936451", text) == "The lungs are clear."
    assert hand_ruled_conclusion("59279892", text) == ""
    assert hand_ruled_conclusion("50196495", "x" * 59 + " Clear.  " + "y" * 391) == "Clear.  " + "y" * 331
    assert hand_ruled_conclusion("58235663", text) == ""
