"""The exact metrics against the reference implementation, their speed, and the statistics on top of them."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from radscribe.errors import RadScribeError
from radscribe.evaluation.bootstrap import paired_test, resampled_scores, scores_with_intervals
from radscribe.evaluation.meteor import MeteorUnavailableError, meteor_statistics
from radscribe.evaluation.metrics import constant_bleu, text_statistics
from radscribe.text.protocols import get_protocol
from radscribe.text.vocabulary import Vocabulary

METRICS = {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"}


def reference_scores(hypotheses, references):
    """Corpus scores by pycocoevalcap, without its PTB tokenizer."""
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    expected = {study: [text] for study, text in enumerate(references)}
    drafts = {study: [text] for study, text in enumerate(hypotheses)}
    bleu, _ = Bleu(4).compute_score(expected, drafts, verbose=0)
    return {f"BLEU-{order}": score for order, score in enumerate(bleu, start=1)} | {
        "ROUGE-L": Rouge().compute_score(expected, drafts)[0],
        "CIDEr": Cider().compute_score(expected, drafts)[0],
    }


def random_reports(number: int, seed: int, mean_sentences: int = 5) -> list[str]:
    """Reports whose sentences and words repeat about as much as real ones."""
    chance = random.Random(seed)
    words = [f"word{index}" for index in range(800)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    sentences = [
        " ".join(chance.choices(words, weights, k=chance.randint(3, 14))) + " ."
        for _ in range(number // 2 + 5)
    ]
    return [
        " ".join(chance.choices(sentences, k=chance.randint(1, 2 * mean_sentences - 1)))
        for _ in range(number)
    ]


short_texts = st.lists(st.sampled_from(["a", "b", "c", "."]), max_size=9).map(" ".join)


#: All that `str.split` takes for white space, and two characters that look like it and are not.
blanks = st.text(
    [chr(code) for code in range(0x3001) if chr(code).isspace()] + ["\u200b", "\ufeff"], max_size=3
)
spaced_texts = st.lists(st.one_of(blanks, st.sampled_from([" ", "  ", "a", "b", "c", "."])), max_size=12).map(
    "".join
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.lists(st.tuples(texts, texts), min_size=1, max_size=6) for texts in (short_texts, spaced_texts)
    )
)
def test_scores_equal_the_reference_implementation_on_any_texts(pairs):
    hypotheses, references = map(list, zip(*pairs, strict=True))
    assume(any(text.split() for text in references))  # see the next test
    scores = text_statistics(hypotheses, references).scores()
    assert scores.keys() == METRICS
    assert scores == pytest.approx(reference_scores(hypotheses, references), abs=1e-9)


@pytest.mark.parametrize("references", [[""], ["", " \n "]])
def test_without_any_word_in_the_references_cider_is_zero(references):
    """The reference implementation has no CIDEr there: it raises."""
    from pycocoevalcap.cider.cider import Cider

    texts = {study: [text] for study, text in enumerate(references)}
    with pytest.raises(ValueError, match="empty"):
        Cider().compute_score(texts, texts)
    assert text_statistics(references, references).scores()["CIDEr"] == 0


def test_two_blanks_enclose_a_word_of_rouge_l_alone():
    """As in the reference implementation, so that drafts score the same whoever scores them."""
    once, twice = (text_statistics([draft], ["a b c"]).scores() for draft in ("a b c", "a  b c"))
    assert once["ROUGE-L"] == pytest.approx(1)
    assert twice["ROUGE-L"] == pytest.approx(reference_scores(["a  b c"], ["a b c"])["ROUGE-L"])
    assert twice["ROUGE-L"] < 0.9
    assert once["BLEU-2"] == twice["BLEU-2"]


@settings(max_examples=60, deadline=None)
@given(st.lists(short_texts, min_size=1, max_size=5), st.lists(short_texts, min_size=1, max_size=5))
def test_constants_score_as_if_written_for_every_study(constants, references):
    bleu = constant_bleu(constants, references)
    for constant, scores in zip(constants, bleu, strict=True):
        expected = text_statistics([constant] * len(references), references).scores()
        assert scores == pytest.approx([expected[f"BLEU-{order}"] for order in (1, 2, 3, 4)], abs=1e-12)


@pytest.mark.slow
def test_scores_equal_the_reference_implementation_on_real_reports(shared):
    annotation = json.loads((shared / "data/iu_xray/annotation.json").read_text())
    train = [study["report"] for study in annotation["train"]]
    rules = {"cleaning": "iu_xray", "vocabulary": Vocabulary.build(train), "maximum_length": 60}
    references = [get_protocol("r2gen").reference(study["report"], **rules) for study in annotation["test"]]
    chance = random.Random(0)
    drafts = [get_protocol("r2gen").reference(chance.choice(train), **rules) for _ in references]
    scores = text_statistics(drafts, references).scores()
    assert len(references) == 590
    assert scores == pytest.approx(reference_scores(drafts, references), abs=1e-9, rel=0)


@pytest.mark.slow
def test_scores_with_intervals_equal_the_reference_implementation_on_many_pairs():
    references, drafts = random_reports(3858, seed=1), random_reports(3858, seed=2)
    drafts = [
        draft if index % 3 else reference
        for index, (draft, reference) in enumerate(zip(drafts, references, strict=True))
    ]
    intervals = scores_with_intervals([text_statistics(drafts, references)], resamples=1000, seed=0)
    expected = reference_scores(drafts, references)
    assert {name: score.value for name, score in intervals.items()} == pytest.approx(expected, abs=1e-9)
    assert all(score.low < score.value < score.high for score in intervals.values())


def test_a_resample_scores_as_its_studies_would():
    references, drafts = random_reports(30, seed=1), random_reports(30, seed=2)
    statistics = text_statistics(drafts, references)
    drawn = np.random.default_rng(0).integers(30, size=30)
    resampled = statistics.scores_of_sums(statistics.columns[drawn].sum(axis=0))
    expected = reference_scores([drafts[i] for i in drawn], [references[i] for i in drawn])
    for metric in METRICS - {"CIDEr"}:  # CIDEr keeps the document frequencies of the whole set
        assert resampled[metric] == pytest.approx(expected[metric], abs=1e-12)


def test_intervals_agree_with_theory_and_repeat():
    references = random_reports(300, seed=1)
    drafts = [text if i % 2 else "nothing ." for i, text in enumerate(references)]
    statistics = text_statistics(drafts, references)
    scores = scores_with_intervals([statistics], resamples=2000, seed=3)
    assert scores == scores_with_intervals([statistics], resamples=2000, seed=3)
    assert scores != scores_with_intervals([statistics], resamples=2000, seed=4)
    per_study = statistics.scores_of_sums(statistics.columns)["ROUGE-L"]
    margin = 1.96 * per_study.std() / np.sqrt(300)
    assert scores["ROUGE-L"].value == pytest.approx(per_study.mean())
    assert scores["ROUGE-L"].low == pytest.approx(per_study.mean() - margin, abs=0.15 * margin)
    assert scores["ROUGE-L"].high == pytest.approx(per_study.mean() + margin, abs=0.15 * margin)


def test_the_paired_test_tells_better_from_equal():
    references, drafts = random_reports(200, seed=1), random_reports(200, seed=2)
    better = [*references[:50], *drafts[50:]]
    worse = text_statistics(drafts, references)
    differences = paired_test([text_statistics(better, references)], [worse], resamples=500, seed=0)
    assert differences.keys() == METRICS
    for difference in differences.values():
        assert 0 < difference.low < difference.value < difference.high
        assert difference.p == pytest.approx(2 / 501)
    for difference in paired_test([worse], [worse], resamples=500, seed=0).values():
        assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_a_chance_difference_is_not_significant():
    references, drafts = random_reports(200, seed=1), random_reports(200, seed=2)
    other = random_reports(200, seed=2)
    random.Random(0).shuffle(other)
    pair = [[text_statistics(texts, references)] for texts in (drafts, other)]
    forth, back = (paired_test(*order, resamples=500, seed=0)["ROUGE-L"] for order in (pair, pair[::-1]))
    assert forth.p == back.p > 0.05
    assert forth.value == -back.value


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(RadScribeError, match="no studies"):
        text_statistics([], [])
    with pytest.raises(RadScribeError, match="1 drafts for 2 references"):
        text_statistics(["a"], ["a", "b"])
    with pytest.raises(RadScribeError, match=r"different numbers of studies: \[1, 2\]"):
        resampled_scores([text_statistics(["a"], ["a"]), text_statistics(["a", "b"], ["a", "b"])], 10, 0)
    for resamples in (0, -1, 100_001, 10**10):
        with pytest.raises(RadScribeError, match="from 1 to 100,000 resamples"):
            resampled_scores([text_statistics(["a"], ["a"])], resamples, 0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs Java")
def test_meteor_equals_the_reference_wrapper():
    meteor = pytest.importorskip("pycocoevalcap.meteor.meteor")
    references = [
        "the heart is normal in size . no pleural effusion is seen .",
        "lungs are clear . there is no pneumothorax .",
        "small left effusion .",
        "the cardiac silhouette is enlarged .",
        "no acute disease .",
    ]
    drafts = [
        "heart size is normal . there is no pleural effusion .",
        "the lungs are clear bilaterally . no pneumothorax is seen .",
        "small left effusion .",
        "",
        "wörter – “quoted” 1,000.5 | disease",
    ]
    statistics = meteor_statistics(drafts, references)
    wrapper = meteor.Meteor()
    corpus, each = wrapper.compute_score(
        {study: [text] for study, text in enumerate(references)},
        {study: [text] for study, text in enumerate(drafts)},
    )
    assert statistics.scores()["METEOR"] == pytest.approx(corpus, abs=1e-12)
    assert statistics.scores_of_sums(statistics.columns)["METEOR"] == pytest.approx(each, abs=1e-12)


def test_meteor_without_java_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeteorUnavailableError, match="Java is not installed"):
        meteor_statistics(["a"], ["a"])
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'out of memory' >&2\nexit 1\n")
    java.chmod(0o755)
    with pytest.raises(MeteorUnavailableError, match="out of memory"):
        meteor_statistics(["a"], ["a"])
