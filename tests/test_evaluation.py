"""Evaluation of texts by study id: the table, its provenance, the baselines, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from radscribe.errors import RadScribeError
from radscribe.evaluation.baselines import best_constant_report, nearest_neighbour_reports
from radscribe.evaluation.clinical import CLINICAL_BLOCKS
from radscribe.evaluation.diversity import measure_diversity
from radscribe.evaluation.evaluate import compare, evaluate_texts
from radscribe.evaluation.families import METRICS
from radscribe.evaluation.repetition import REPETITION
from radscribe.evaluation.summary import short_summary
from radscribe.evaluation.text_files import read_texts
from radscribe.studies.study import RenderedView, Study, View
from radscribe.text.vocabulary import Vocabulary

REFERENCES = {
    "a": "The heart is normal. No effusion.",
    "b": "The heart is enlarged. Small left effusion.",
    "c": "Lungs are clear. No pneumothorax.",
    "d": "Lungs are clear. The heart is normal. No acute disease.",
}
CONSTANT = dict.fromkeys(REFERENCES, "the heart is normal . no effusion .")
QUICK = {"protocol": "clean_full", "cleaning": "iu_xray", "resamples": 50, "meteor": False}


def test_the_table_names_every_row_metric_and_rule():
    vocabulary = Vocabulary.build(REFERENCES.values(), minimum_count=1)
    evaluation = evaluate_texts(
        REFERENCES,
        REFERENCES,
        protocol="r2gen",
        cleaning="iu_xray",
        vocabulary=vocabulary,
        maximum_length=11,
        baselines={"constant report": CONSTANT},
        resamples=50,
        seed=7,
        meteor=False,
    )
    text = str(evaluation)
    for metric in METRICS:
        assert metric in text.splitlines()[0]
    for row in ("system", "constant report", "references", "system - constant report"):
        assert any(line.startswith(row) for line in text.splitlines())
    provenance = text.splitlines()[-1]
    for part in (
        "protocol r2gen",
        "cleaning iu_xray",
        f"vocabulary of {len(vocabulary)} entries",
        "cut at 11 ids (25.0% lost words)",
        "4 studies",
        evaluation.provenance.references_sha256[:12],
        "50 resamples, seed 7",
        "radscribe ",
        "research use, not for clinical diagnosis",
    ):
        assert part in provenance
    assert "METEOR is not there: it was not asked for" in text
    content = evaluation.to_json()
    assert json.loads(json.dumps(content)) == content
    scored = content["scores"]["constant report"].keys()
    assert scored & set(METRICS) == set(METRICS) - {"METEOR"}
    clinical = {name for block in CLINICAL_BLOCKS for name in block.names.values()}
    assert scored - set(METRICS) == clinical | {REPETITION}


def test_perfect_drafts_score_one_and_beat_the_constant():
    evaluation = evaluate_texts(REFERENCES, REFERENCES, **QUICK, baselines={"constant": CONSTANT})
    assert evaluation.rows["system"].scores["BLEU-4"].value == pytest.approx(1)
    assert evaluation.rows["constant"].diversity.distinct_reports == 1
    assert evaluation.differences["constant"]["BLEU-4"].value > 0.3


def test_the_short_summary_has_few_lines_and_says_who_is_better():
    baselines = {"constant report": CONSTANT, "nearest neighbour": dict(reversed(REFERENCES.items()))}
    many = {f"{study}{n}": text for study, text in REFERENCES.items() for n in range(10)}
    constant = dict.fromkeys(many, "the heart is normal . no effusion .")
    worse = short_summary(evaluate_texts(constant, many, **QUICK, baselines={"other": many}))
    assert "Does not beat the other baseline on any text metric: clearly lower on BLEU-1, BLEU-4" in worse
    assert "Writes the same report for all 40 studies" in worse
    better = short_summary(evaluate_texts(many, many, **QUICK, baselines={"constant report": constant}))
    assert "Beats the constant report baseline on every text metric." in better
    for text in (worse, better, short_summary(evaluate_texts(CONSTANT, REFERENCES, **QUICK))):
        assert len(text.splitlines()) <= 24
        assert max(map(len, text.splitlines())) <= 120
        assert text.endswith("research use, not for clinical diagnosis")
        assert "METEOR (it was not asked for)" in text
    alone = short_summary(evaluate_texts(CONSTANT, REFERENCES, **QUICK))
    assert "No baseline was scored" in alone
    both = short_summary(evaluate_texts(CONSTANT, REFERENCES, **QUICK, baselines=baselines))
    assert [line.split("  ")[0] for line in both.splitlines()[1:7:2]] == ["system", *baselines]


def test_drafts_and_references_meet_by_id_not_by_order():
    backwards = dict(reversed(REFERENCES.items()))
    forth, back = (evaluate_texts(texts, REFERENCES, **QUICK) for texts in (REFERENCES, backwards))
    assert forth.to_json() == back.to_json()


def test_the_references_hash_follows_the_text_as_scored():
    spaced = REFERENCES | {"a": "The  heart is normal. No effusion. "}
    other = REFERENCES | {"a": "The heart is large. No effusion."}
    hashes = [
        evaluate_texts(CONSTANT, texts, **QUICK).provenance.references_sha256
        for texts in (REFERENCES, spaced, other)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_ids_that_do_not_match_are_counted_and_named():
    drafts = {study: text for study, text in CONSTANT.items() if study != "b"} | {"x1": "t", "x2": "t"}
    with pytest.raises(
        RadScribeError,
        match=r"'system'.*1 of 4 references have no draft \(b\), and 2 drafts have no reference \(x1, x2\)",
    ):
        evaluate_texts(drafts, REFERENCES, **QUICK)
    with pytest.raises(RadScribeError, match=r"'near'.*4 of 4 references have no draft \(a, b, c, \.\.\.\)"):
        evaluate_texts(CONSTANT, REFERENCES, **QUICK, baselines={"near": {}})
    with pytest.raises(RadScribeError, match="cannot be called 'system'"):
        evaluate_texts(CONSTANT, REFERENCES, **QUICK, baselines={"system": CONSTANT})
    with pytest.raises(RadScribeError, match="no studies"):
        evaluate_texts({}, {}, **QUICK)


def test_two_evaluations_are_compared_only_on_the_same_references():
    constant, perfect = (evaluate_texts(texts, REFERENCES, **QUICK) for texts in (CONSTANT, REFERENCES))
    difference = compare(perfect, constant)["BLEU-4"]
    assert difference.value == pytest.approx(1 - constant.rows["system"].scores["BLEU-4"].value)
    elsewhere = evaluate_texts(CONSTANT, REFERENCES, **(QUICK | {"protocol": "raw"}))
    with pytest.raises(RadScribeError, match=r"not scored on the same references.*protocol raw"):
        compare(constant, elsewhere)
    # Under `raw` these references are scored as the same text, but drafts are not treated alike.
    cleaned, raw = (
        evaluate_texts(CONSTANT, CONSTANT, **(QUICK | {"protocol": name})) for name in ("clean_full", "raw")
    )
    assert cleaned.provenance.references_sha256 == raw.provenance.references_sha256
    with pytest.raises(RadScribeError, match="under the same rules"):
        compare(cleaned, raw)


def test_meteor_that_cannot_run_is_absent_with_its_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    evaluation = evaluate_texts(CONSTANT, REFERENCES, **(QUICK | {"meteor": True}))
    assert "METEOR" not in evaluation.rows["system"].scores
    assert "METEOR is not there: Java is not installed" in str(evaluation)


def test_texts_are_read_by_id(tmp_path):
    path = tmp_path / "drafts.jsonl"
    path.write_text('\ufeff{"id": "a", "text": "Ödem\\nright", "score": 1}\r\n\n{"id": "b", "text": ""}\n')
    assert read_texts(path) == {"a": "Ödem\nright", "b": ""}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not valid JSON"),
        ("[1]", "line 2 has no string 'id'"),
        ('{"id": 5, "text": "t"}', "line 2 has no string 'id'"),
        ('{"id": "b"}', "line 2 has no string 'text'"),
        ('{"id": "a", "text": "t"}', "line 2 repeats the id 'a' of line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "drafts.jsonl"
    path.write_text('{"id": "a", "text": "t"}\n' + line + "\n")
    with pytest.raises(RadScribeError, match=message):
        read_texts(path)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(RadScribeError, match="cannot read"):
        read_texts(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(RadScribeError, match=r"empty\.jsonl has no texts"):
        read_texts(tmp_path / "empty.jsonl")


def test_diversity_of_a_constant_and_of_varied_reports():
    constant = measure_diversity(["a b c"] * 4)
    assert (constant.distinct_reports, constant.most_frequent) == (1, 1.0)
    assert constant.distinct_ngrams["distinct-1"] == 3 / 12
    assert constant.distinct_ngrams["distinct-4"] == 0
    varied = measure_diversity(["a b", "c d", "c d", "e f g h"])
    assert (varied.distinct_reports, varied.most_frequent, varied.length_mean) == (3, 0.5, 2.5)
    assert varied.length_percentiles["50%"] == 2
    assert measure_diversity(["a <unk> b <unk>", "c d e f"]).unknown_words == 0.25


def test_drafts_of_unknown_words_are_called_inflated():
    """Rare words of references become <unk>, and a draft of nothing else matches them."""
    references = {str(n): f"rare{n} effusion other{n}" for n in range(4)}
    vocabulary = Vocabulary.build(["effusion"] * 3, "none", 3)
    drafts = dict.fromkeys(references, "<unk> effusion <unk>")
    settings = {"cleaning": "none", "meteor": False, "resamples": 10}
    inflated = evaluate_texts(
        drafts, references, protocol="r2gen", vocabulary=vocabulary, maximum_length=60, **settings
    )
    honest = evaluate_texts(drafts, references, protocol="clean_full", **settings)
    assert inflated.rows["system"].scores["BLEU-1"].value == pytest.approx(1)
    assert "CAUTION: 66.7% of the system's words are <unk>" in str(inflated)
    assert honest.rows["system"].scores["BLEU-1"].value < 0.4
    assert "CAUTION" not in str(honest)


def test_the_constant_is_a_stock_report():
    train = ["no effusion seen here .", "a b .", "a b .", "the heart is normal .", "the heart is normal ."]
    references = ["no effusion seen here .", "the heart is normal now .", "no effusion seen here ."]
    chosen = best_constant_report(train, references)
    assert (chosen.text, chosen.frequency) == ("the heart is normal .", 2)
    assert best_constant_report(train[:2], references).text == "no effusion seen here ."
    with pytest.raises(RadScribeError, match="no training reports"):
        best_constant_report([], references)


def shaded(left: int, right: int):
    """A view that is brighter on one side."""

    def render() -> RenderedView:
        pixels = np.zeros((48, 64), np.uint8)
        pixels[:, :32], pixels[:, 32:] = left, right
        return RenderedView(pixels)

    return render


def study(name, report, *views):
    return Study(name, name, views, sections={"findings": report} if report else {})


def test_the_nearest_neighbour_looks_at_the_frontal_view(tmp_path):
    left, right = View(shaded(200, 90), "frontal"), View(shaded(90, 200), "frontal")
    dark_left = View(shaded(120, 40), "frontal")
    lateral = View(shaded(90, 200), "lateral")
    broken = View(tmp_path / "absent.png", "frontal")
    train = [
        study("t1", "left", lateral, left),
        study("t2", "right", right),
        study("t3", "", dark_left),
        study("t4", "never", broken),
    ]
    test = [
        study("s1", "", lateral, dark_left),
        study("s2", "", right),
        study("s3", "", broken, lateral),
        study("s4", "", broken),
    ]
    assert nearest_neighbour_reports(train, test) == {"s1": "left", "s2": "right", "s3": "right"}
    with pytest.raises(RadScribeError, match="no training study has both"):
        nearest_neighbour_reports(train[2:], test)


def test_the_constant_report_on_the_benchmark(constant_report_on_the_benchmark):
    evaluation = constant_report_on_the_benchmark
    scores = {name: round(score.value, 3) for name, score in evaluation.rows["system"].scores.items()}
    assert evaluation.provenance.studies == 590
    assert [scores[f"BLEU-{order}"] for order in (1, 2, 3, 4)] == [0.476, 0.296, 0.201, 0.147]
    assert scores["ROUGE-L"] == 0.364
    assert evaluation.provenance.truncation_rate == 29 / 590
