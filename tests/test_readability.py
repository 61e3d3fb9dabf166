"""The labeller knows what it cannot read: other languages, and bytes that are no text."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from radscribe.cli import main
from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.evaluation.summary import short_summary
from radscribe.observations import OBSERVATIONS
from radscribe.runs.config import DataConfig, LabelConfig
from radscribe.runs.labels import labels_of
from radscribe.studies.phantom.reader import read_phantom
from radscribe.studies.study import Study
from radscribe.text.cleaning import clean_iu_xray, clean_mimic_cxr_as_r2gengpt
from radscribe.text.observation_labeller import label_report
from radscribe.text.readability import readability
from radscribe.text.vocabulary import Vocabulary

HERE = Path(__file__).parent
QUICK = {"protocol": "clean_full", "cleaning": "iu_xray", "resamples": 20, "meteor": False}


def column(name: str, column: str) -> list[str]:
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return [row[column] for row in csv.DictReader(file)]


#: Sentences of our own in 24 languages, as reports are written.
FOREIGN = column("foreign_sentences.csv", "sentence")
ENGLISH = column("labelled_sentences.csv", "sentence")


def kinds(texts) -> dict[str, int]:
    found = [readability(text) for text in texts]
    return {kind: found.count(kind) for kind in sorted(set(found))}


@pytest.mark.parametrize("clean", [str, str.upper, clean_iu_xray, clean_mimic_cxr_as_r2gengpt])
def test_english_is_read_as_written_and_cleaned(clean):
    phantom = [text for study in read_phantom(studies=100, seed=3) for text in study.sections.values()]
    # Cleaning makes one word of two with a stroke between them, which may be the only ones that tell.
    sentences = [sentence for sentence in ENGLISH if "/" not in sentence]
    assert kinds(map(clean, [*phantom, *sentences])) == {"readable": len(phantom) + len(sentences)}


@pytest.mark.parametrize("clean", [str, clean_iu_xray])
def test_other_languages_are_unreadable(clean):
    assert len(FOREIGN) == 160
    assert kinds(map(clean, FOREIGN)) == {"unreadable": len(FOREIGN)}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-16"])
def test_bytes_that_are_no_text_are_never_labelled(encoding):
    chance = random.Random(0)
    for _ in range(300):
        labels = label_report(chance.randbytes(100).decode(encoding, errors="replace"))
        assert labels.unreadable
        assert labels.states == {}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Normal chest.",
            "No acute disease.",
            "normal .",
            "Unremarkable",
            "No change.",
            "CABG",
            "As above.",
        ),
        *("No edema.", "Pectus excavatum.", "the <unk> is <unk> .", "XXXX effusion.", "9th rib fracture"),
        "Comparison XXXX, XXXX. • No effusion – stable.",
    ],
)
def test_short_reports_are_read(text):
    assert readability(text) == "readable"


@pytest.mark.parametrize("text", ["", " \n", ".", " .", "1. 2.", "<unk> <unk> .", "XXXX", "-"])
def test_a_text_without_a_word_mentions_nothing(text):
    assert readability(text) == "empty"
    labels = label_report(text)
    assert not labels.unreadable
    assert set(labels.states.values()) == {"not_mentioned"}


def test_real_english_reports_are_read(shared):
    """The figures of docs/labeller.md; shown with -s."""
    with (shared / "data/iu_xray/indiana_reports.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (shared / "data/open_cxr/metadata.csv").open(newline="") as file:
        notes = [row["notes"] for row in csv.DictReader(file)]
    annotation = json.loads((shared / "data/iu_xray/annotation.json").read_text())
    texts = {
        "reports of annotation.json": [entry["report"] for split in annotation.values() for entry in split],
        "Indiana findings": [row["findings"] for row in rows],
        "Indiana impressions": [row["impression"] for row in rows],
        "clinical notes": notes,
        "sentences in other languages": FOREIGN,
    }
    found = {name: kinds(filter(str.strip, of_kind)) for name, of_kind in texts.items()}
    for name, counts in found.items():
        print(f"{name}: {counts}")
    assert [counts.get("unreadable", 0) for counts in found.values()] == [0, 0, 0, 1, 160]


def test_the_word_list_has_the_words_of_our_own_reports():
    """Each is either English or shared, so that no report of ours rests on its other words."""
    words = (HERE.parent / "src/radscribe/text/report_words.txt").read_text().split()
    assert len(words) < 2000
    own = [text for study in read_phantom(studies=300, seed=0) for text in study.sections.values()]
    missing = {word for text in [*own, *ENGLISH] for word in re.findall(r"\b[a-z]{2,}\b", text.lower())}
    assert missing - set(words) - {"xxxx"} == set()


CHINESE = [f"第{n}例：双肺纹理清晰，未见明显实变影。" for n in "一二三四五六七八九十"]


def test_clinical_scores_of_unreadable_texts_are_missing_with_the_reason():
    texts = {str(n): text for n, text in enumerate(CHINESE * 2)}
    evaluation = evaluate_texts(texts, texts, **QUICK, baselines={"constant": dict.fromkeys(texts, "无")})
    assert not any("F1" in name for name in evaluation.rows["system"].scores)
    assert evaluation.unreadable == {"system": 20, "constant": 20, "references": 20}
    reason = evaluation.missing["clinical efficacy"]
    assert "20 of 20 references are unreadable to the labeller, which knows English only" in reason
    for text in (str(evaluation), short_summary(evaluation)):
        assert "20 of 20 references are unreadable" in " ".join(text.split())
    content = json.loads(json.dumps(evaluation.to_json()))
    assert content["unreadable"] == evaluation.unreadable
    assert content["observations"] == {}
    assert "BLEU-4" in content["scores"]["system"]


def test_a_system_that_writes_another_language_has_no_clinical_scores_but_its_baselines_have():
    references = {str(n): "The heart is enlarged. No effusion." for n in range(20)}
    drafts = dict.fromkeys(references, "Derrame pleural.")
    evaluation = evaluate_texts(drafts, references, **QUICK, baselines={"constant": references})
    assert "20 of 20 drafts of the system are unreadable" in evaluation.missing["clinical efficacy"]
    assert evaluation.rows["constant"].scores["micro F1 (14, as_present)"].value == 1
    assert "micro F1 (14, as_present)" not in evaluation.rows["system"].scores
    assert "clinical efficacy is not there" in str(evaluation)


def test_one_unreadable_draft_in_twenty_states_nothing_and_is_counted():
    references = {str(n): "The heart is enlarged. No effusion." for n in range(20)}
    evaluation = evaluate_texts(references | {"0": "Derrame pleural."}, references, **QUICK)
    assert evaluation.unreadable == {"system": 1, "references": 0}
    assert evaluation.rows["system"].scores["micro R (14, as_present)"].value == pytest.approx(19 / 20)
    assert evaluation.rows["system"].scores["micro P (14, as_present)"].value == 1
    assert "of 20 texts each: 1 of system." in str(evaluation)
    drafts = references | {"0": "Derrame pleural.", "1": "心影增大。"}
    assert "clinical efficacy" in evaluate_texts(drafts, references, **QUICK).missing


def test_unreadable_training_reports_have_ignored_labels(capsys):
    reports = ["The heart is enlarged.", "心影增大。", "Derrame pleural.", "No effusion."]
    studies = [Study(str(n), str(n), (), sections={"findings": text}) for n, text in enumerate(reports)]
    labels = labels_of(studies, DataConfig(labels=LabelConfig(missing="as_absent")))
    assert np.isnan(labels).all(axis=1).tolist() == [False, True, True, False]
    assert labels[0, OBSERVATIONS.index("Cardiomegaly")] == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "warning: 2 of 4 reports are unreadable to the labeller, such as that of study '1'"
    )
    assert "--data.labels.source" in error
    labels_of(studies[:1], DataConfig())
    assert capsys.readouterr().err == ""


def test_the_command_says_unreadable(tmp_path, capsys):
    path = tmp_path / "texts.txt"
    path.write_text("The heart is enlarged.\nDerrame pleural.\n\n心影增大。\n", encoding="utf-8")
    main(["label", str(path)])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "present: Cardiomegaly"
    assert lines[1] == lines[3] == "unreadable: too few known English words"
    assert lines[2] == "nothing mentioned"
    assert printed.err.startswith("warning: 2 of 4 texts are unreadable")
    main(["label", str(path), "--json"])
    labels = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["unreadable"] for entry in labels] == [False, True, False, True]
    assert labels[1]["observations"] == {}


def test_a_vocabulary_of_rare_words_warns(capsys):
    vocabulary = Vocabulary.build(CHINESE)
    assert vocabulary.tokens == (".", "<unk>")
    error = capsys.readouterr().err
    assert error.startswith("warning: 10 of the 10 words of the training reports occur fewer than 3 times")
    assert "text without blanks, as in Chinese, must be split into words" in error
    Vocabulary.build(ENGLISH)
    Vocabulary.build([])
    assert capsys.readouterr().err == ""
