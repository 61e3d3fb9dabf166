"""Cleaning rules, vocabularies and protocols."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import FrozenInstanceError
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_language_models import tiny_language_model

from radscribe.errors import RadScribeError
from radscribe.text.cleaning import (
    CLEANERS,
    CleaningName,
    clean_iu_xray,
    clean_mimic_cxr,
    clean_mimic_cxr_as_r2gengpt,
    is_cleaned,
)
from radscribe.text.language_model_files import LanguageModelFiles
from radscribe.text.language_model_tokenizer import LanguageModelTokenizer
from radscribe.text.protocols import PROTOCOLS, ProtocolName, get_protocol
from radscribe.text.vocabulary import Vocabulary

REPORTS = [
    "The heart is normal. No effusion.",
    "The heart is large. No effusion.",
    "The heart is normal in size. Small effusion.",
]
report_texts = st.text(alphabet="abcN 12345.,:;-<>@[]{}()\\/\"'%_\n", max_size=80)


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        ("The heart is normal. No effusion.", "the heart is normal . no effusion ."),
        ("1. Clear lungs. 2. No effusion. 3. XXXX.", "clear lungs . no effusion . xxxx ."),
        ("Clear 2. No effusion", "clear . no effusion ."),
        ("A 1.5 cm nodule, well-defined; left/right.", "a 15 cm nodule well-defined leftright ."),
        ('It\'s "normal": (yes) <a> = [b] {c} @ ?', "its normal yes a  b c   ."),
        ("Heart normal.... Lungs clear", "heart normal . lungs clear ."),
        ("One. . Two.", "one .  . two ."),
        ("", " ."),
    ],
)
def test_iu_xray_cleaning(written, cleaned):
    assert clean_iu_xray(written).split() == cleaned.split()


def test_six_and_higher_list_numbers_stay():
    assert clean_iu_xray("Clear. 6. Normal.") == "clear . 6 . normal ."


def test_mimic_cleaning_joins_lines_and_runs():
    assert clean_mimic_cxr("Seen on ____\n at 2:30.\n\n Clear......") == "seen on  at 230 . clear ."
    assert "_" not in clean_mimic_cxr("a " + "_" * 40)
    assert clean_mimic_cxr("a:b<c") == "abc ."


def test_r2gengpt_keeps_colons_apart_on_mimic():
    text = "FINDINGS: Seen on ____\n at 2:30. Size <5 mm; 3.5 @ rest = stable?\nIMPRESSION: 1. Clear......"
    cleaned = clean_mimic_cxr_as_r2gengpt(text)
    assert " ".join(cleaned.split()) == (
        "findings : seen on at 2 :30 . size <5 mm 35 @ rest = stable impression : clear ."
    )
    assert is_cleaned(cleaned, "mimic_cxr_r2gengpt")
    assert not is_cleaned(cleaned)
    # A draft that stopped in mid-sentence stays as it is.
    draft = "impression : the heart"
    assert get_protocol("r2gengpt").hypothesis(draft, cleaning="mimic_cxr_r2gengpt") == draft


def test_cleaning_none_leaves_the_text():
    text = "  As  Written.\n"
    assert CLEANERS["none"](text) is text


@given(report_texts)
def test_r2gengpt_cleans_as_its_rules_are_written(text):
    """The rules one by one, as a chain of replacements."""
    expected = text.replace("\n", " ")
    for run, times in (("__", 7), ("  ", 6), ("..", 8)):
        for _ in range(times):
            expected = expected.replace(run, run[0])
    expected = expected.replace("1. ", "")
    for before in (". ", " "):
        for number in "2345":
            expected = expected.replace(f"{before}{number}. ", ". ")
    sentences = expected.replace(":", " :").strip().lower().split(". ")
    cleaned = [
        re.sub(r"[.,?;*!%^&_+()\[\]{}]", "", re.sub(r"""["/\\']""", "", each).strip()).strip()
        for each in sentences
    ]
    assert clean_mimic_cxr_as_r2gengpt(text).split() == (" . ".join(cleaned) + " .").split()


@given(report_texts, st.sampled_from(["iu_xray", "mimic_cxr"]))
def test_cleaned_text_is_recognised_and_cleans_to_itself(text, cleaning):
    cleaned = CLEANERS[cleaning](text)
    assert is_cleaned(cleaned)
    assert CLEANERS[cleaning](cleaned).split() == cleaned.split()
    assert cleaned.split()[-1] == "."


@pytest.mark.parametrize("text", ["Heart normal .", "no effusion.", "a (b)", "<UNK>"])
def test_uncleaned_text_is_recognised(text):
    assert not is_cleaned(text)


def test_vocabulary_counts_sorts_and_numbers_words():
    vocabulary = Vocabulary.build(REPORTS, "iu_xray", minimum_count=2)
    assert vocabulary.tokens == (".", "<unk>", "effusion", "heart", "is", "no", "normal", "the")
    assert (len(vocabulary), vocabulary.logits) == (8, 9)
    ids = vocabulary.encode("The heart is huge.", 60)
    assert ids == [0, 8, 4, 5, 2, 1, 0]
    assert vocabulary.decode(ids[1:]) == "the heart is <unk> ."
    with pytest.raises(FrozenInstanceError):
        vocabulary.minimum_count = 1


def test_a_long_report_loses_its_end():
    vocabulary = Vocabulary.build(REPORTS, minimum_count=1)
    assert vocabulary.encode(REPORTS[0], 4) == vocabulary.encode(REPORTS[0], 60)[:4]
    assert vocabulary.decode(vocabulary.encode(REPORTS[0], 4)[1:]) == "the heart is"


def test_decode_stops_at_zero_and_refuses_foreign_ids():
    vocabulary = Vocabulary.build(REPORTS, minimum_count=1)
    first = vocabulary.tokens[0]
    assert vocabulary.decode([1, 1, 0, 2, 10**6]) == f"{first} {first}"
    for foreign in (len(vocabulary) + 1, -1):
        with pytest.raises(RadScribeError, match=rf"id {foreign} .* {len(vocabulary)} entries"):
            vocabulary.decode([foreign])


@given(st.lists(report_texts, max_size=6), st.sampled_from(sorted(CLEANERS)), st.integers(1, 3))
def test_round_trip_is_the_cleaned_text_with_rare_words_replaced(reports, cleaning, minimum_count):
    vocabulary = Vocabulary.build(reports, cleaning, minimum_count)
    counts = Counter(word for report in reports for word in CLEANERS[cleaning](report).split())
    for report in reports:
        expected = [
            word if counts[word] >= minimum_count else "<unk>" for word in CLEANERS[cleaning](report).split()
        ]
        assert vocabulary.decode(vocabulary.encode(report, 1000)[1:]).split() == expected


def test_saved_vocabulary_loads_equal(tmp_path):
    vocabulary = Vocabulary.build([*REPORTS, "Ödem Ödem Ödem"], "mimic_cxr", minimum_count=2)
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read vocabulary"),
        ("{", "not valid JSON"),
        ("[]", "lacks a valid cleaning and minimum_count and tokens"),
        ('{"cleaning": "iu_xray", "minimum_count": 3, "tokens": [1]}', "lacks a valid tokens"),
        ('{"cleaning": "iu_xry", "minimum_count": 3, "tokens": ["<unk>"]}', "Did you mean 'iu_xray'"),
        ('{"cleaning": "iu_xray", "minimum_count": 3, "tokens": ["b", "a", "<unk>"]}', "sorted tokens"),
        ('{"cleaning": "iu_xray", "minimum_count": 3, "tokens": ["a"]}', "needs <unk>"),
    ],
)
def test_a_bad_vocabulary_file_is_named_with_its_fault(tmp_path, content, message):
    path = tmp_path / "words.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RadScribeError, match=message) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)


def test_protocols_treat_references_as_named():
    assert set(PROTOCOLS) == {"r2gen", "r2gengpt", "clean_full", "raw"}
    vocabulary = Vocabulary.build(REPORTS, minimum_count=2)
    rules = {"cleaning": "iu_xray", "vocabulary": vocabulary, "maximum_length": 6}
    text = "The heart is  enormous. No effusion."
    assert get_protocol("r2gen").reference(text, **rules) == "the heart is <unk> ."
    assert get_protocol("clean_full").reference(text, **rules) == "the heart is enormous . no effusion ."
    assert get_protocol("raw").reference(text, **rules) == text


@pytest.fixture(scope="module")
def tokenizer():
    return LanguageModelTokenizer(LanguageModelFiles.find(str(tiny_language_model("llama"))))


def test_references_of_r2gengpt_are_cut_at_tokens_of_the_language_model(tokenizer):
    rules = get_protocol("r2gengpt")
    text = "The heart is normal in size. No pneumothorax."
    cleaned = "the heart is normal in size . no pneumothorax ."
    length = len(tokenizer.encode(cleaned))
    for maximum_length in (1, 5, length - 1, length, 60):
        options = {"cleaning": "iu_xray", "tokenizer": tokenizer, "maximum_length": maximum_length}
        scored = rules.reference(text, **options)
        assert scored == tokenizer.decode(tokenizer.encode(cleaned)[:maximum_length])
        assert (scored == cleaned) == (maximum_length >= length)
        assert rules.truncation_rate([text, "no ."], **options) == (
            0.0 if maximum_length >= length else 0.5 if maximum_length >= 5 else 1.0
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokenizer": None}, "needs the tokenizer of a language model.*--tokenizer"),
        ({"maximum_length": 0}, "needs a maximum length"),
    ],
)
def test_r2gengpt_says_what_it_lacks(tokenizer, changed, message):
    rules = {"cleaning": "iu_xray", "tokenizer": tokenizer, "maximum_length": 60}
    with pytest.raises(RadScribeError, match=message):
        get_protocol("r2gengpt").reference("text", **(rules | changed))


@pytest.mark.parametrize("protocol", ["r2gen", "r2gengpt", "clean_full"])
def test_drafts_are_cleaned_once_and_never_cut(protocol):
    rules = get_protocol(protocol)
    assert rules.hypothesis("No Effusion. " * 50, cleaning="iu_xray").count("effusion") == 50
    # A draft in the vocabulary keeps `<unk>`, and gets no full stop that its system did not write.
    draft = "the heart is <unk> . no"
    assert rules.hypothesis(draft, cleaning="iu_xray") == draft
    assert get_protocol("raw").hypothesis("As  Written.", cleaning="iu_xray") == "As  Written."


def test_truncation_rate_counts_references_that_lose_words():
    vocabulary = Vocabulary.build(REPORTS, minimum_count=1)
    rules = get_protocol("r2gen")
    texts = ["a b.", "a b c.", "a b c d."]  # 3, 4 and 5 words with the full stop
    for maximum_length in (4, 5, 6):
        lost = [
            rules.reference(text, cleaning="iu_xray", vocabulary=vocabulary, maximum_length=maximum_length)
            != rules.reference(text, cleaning="iu_xray", vocabulary=vocabulary, maximum_length=99)
            for text in texts
        ]
        rate = rules.truncation_rate(texts, cleaning="iu_xray", maximum_length=maximum_length)
        assert rate == pytest.approx(sum(lost) / 3)
    assert get_protocol("clean_full").truncation_rate(texts, cleaning="iu_xray", maximum_length=2) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vocabulary": None}, "needs the vocabulary of the training reports"),
        ({"maximum_length": None}, "needs a maximum length"),
        ({"cleaning": "mimic_cxr"}, "built with cleaning 'iu_xray', not 'mimic_cxr'"),
        ({"cleaning": "mimic"}, "Did you mean 'mimic_cxr'"),
    ],
)
def test_r2gen_says_what_it_lacks(changed, message):
    rules = {"cleaning": "iu_xray", "vocabulary": Vocabulary.build(REPORTS), "maximum_length": 60}
    with pytest.raises(RadScribeError, match=message):
        get_protocol("r2gen").reference("text", **(rules | changed))


def test_an_unknown_protocol_lists_the_known():
    with pytest.raises(RadScribeError, match="Known: clean_full, r2gen, r2gengpt, raw"):
        get_protocol("r2gn")


def test_the_benchmark_vocabulary_and_references(shared):
    annotation = json.loads((shared / "data/iu_xray/annotation.json").read_text())
    reports = {split: [study["report"] for study in studies] for split, studies in annotation.items()}
    assert {split: len(texts) for split, texts in reports.items()} == {"train": 2069, "val": 296, "test": 590}
    vocabulary = Vocabulary.build(reports["train"])
    assert (len(vocabulary), vocabulary.logits) == (760, 761)
    rules = {"cleaning": "iu_xray", "vocabulary": vocabulary, "maximum_length": 60}
    scored = [get_protocol("r2gen").reference(text, **rules) for text in reports["test"]]
    # 120 change by the round trip, four of them in blanks only; 29 of them lose words to the cut.
    assert sum(new != clean_iu_xray(old) for new, old in zip(scored, reports["test"], strict=True)) == 120
    rate = get_protocol("r2gen").truncation_rate(reports["test"], cleaning="iu_xray", maximum_length=60)
    assert rate == 29 / 590


def test_every_protocol_and_cleaning_can_be_chosen_by_name():
    assert get_args(ProtocolName) == tuple(PROTOCOLS)
    assert get_args(CleaningName) == tuple(CLEANERS)
