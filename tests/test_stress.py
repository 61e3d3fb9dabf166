"""Sensitivity: texts are changed as said, and each metric moves as far as it does."""

import json
import re

import pytest

from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.evaluation.perturbations import PERTURBATIONS, drop_sentences, negate, reverse_sentences
from radscribe.evaluation.repetition import REPETITION, repeated_ngrams
from radscribe.evaluation.result import Evaluation
from radscribe.evaluation.stress import DRAFTS, REFERENCES, stress_tables
from radscribe.studies.phantom.reports import describe
from radscribe.studies.phantom.sampling import sample_study
from radscribe.text.observation_labeller import label_report

STUDIES = 60


@pytest.fixture(scope="module")
def reports() -> dict[str, str]:
    return {f"{index:03}": describe(sample_study(0, index))[0]["findings"] for index in range(STUDIES)}


@pytest.fixture(scope="module")
def stressed(reports) -> Evaluation:
    drafts = dict(zip(reports, [*list(reports.values())[1:], "No pleural effusion."], strict=True))
    return evaluate_texts(
        drafts, reports, protocol="clean_full", cleaning="iu_xray", meteor=False, resamples=2, stress=True
    )


# --- perturbations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("No pleural effusion or pneumothorax.", "Pleural effusion and pneumothorax."),
        ("There is a small left pleural effusion.", "There is no small left pleural effusion."),
        ("Moderate right pneumothorax.", "No moderate right pneumothorax."),
        ("the heart is mildly enlarged .", "the heart is normal ."),
        ("Heart size is within normal limits.", "Heart size is enlarged."),
        ("lungs are free of consolidation .", "lungs are positive for consolidation ."),
        ("Pneumothorax is not seen; no edema.", "Pneumothorax is seen; edema."),
        ("Pneumonia cannot be excluded.", "Pneumonia cannot be excluded."),
        ("Endotracheal tube in place.", "Endotracheal tube in place."),
        ("", ""),
    ],
)
def test_what_is_denied_is_asserted_and_the_other_way_round(text, negated):
    assert negate(text) == negated


def test_only_the_first_sentence_that_can_be_is_negated():
    text = "Frontal view. No edema. No effusion."
    assert negate(text, first_only=True) == "Frontal view. Edema. No effusion."


def test_negated_reports_of_the_phantom_say_the_opposite(reports):
    turned = {"present": "absent", "absent": "present"}
    opposite = total = 0
    for text in reports.values():
        before, after = label_report(text).states, label_report(negate(text)).states
        for name, state in before.items():
            if name != "No Finding" and state in turned:
                total += 1
                opposite += after[name] == turned[state]
    assert opposite > 0.9 * total > 100


def test_sides_severities_and_sentences_change():
    text = "Small Left effusion. No edema.\nThe right lung is clear"
    assert PERTURBATIONS["sides swapped"].change(text).startswith("Small Right effusion. No edema.\nThe left")
    assert PERTURBATIONS["severity changed"].change(text).startswith("Large Left effusion.")
    assert reverse_sentences(text) == "The right lung is clear No edema. Small Left effusion."
    assert drop_sentences(text) == "Small Left effusion. The right lung is clear"
    assert PERTURBATIONS["sides swapped"].change("leftover") == "leftover"


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_no_perturbation_fails_on_odd_texts(name):
    for text in ("", " ", ".", "İ no effusion", "\n\n", "<unk> . <unk>", "no . no effusion ."):
        assert isinstance(PERTURBATIONS[name].change(text), str)


# --- scores -------------------------------------------------------------------------------------------------


def test_a_negation_moves_clinical_f1_far_more_than_bleu(stressed):
    row = stressed.stress[REFERENCES]["one negated"]
    f1, bleu = row.scores["micro F1 (14, as_present)"], row.scores["BLEU-1"]
    assert (f1.before, bleu.before) == pytest.approx((1, 1))
    assert f1.after < 0.8
    assert bleu.after > 0.9
    assert row.texts == STUDIES
    assert 0 < row.words < 0.1


def test_clinical_f1_is_blind_to_sides_and_to_order(stressed):
    for name in ("sides swapped", "reversed"):
        score = stressed.stress[REFERENCES][name].scores["micro F1 (14, as_present)"]
        assert score.before == score.after == 1
    assert stressed.stress[REFERENCES]["reversed"].words == 0
    assert stressed.stress[REFERENCES]["reversed"].scores["ROUGE-L"].after < 0.8


def test_only_changed_texts_count(stressed, reports):
    """BLEU of the studies with a side, scored alone, is the score before and after."""
    sided = {study: text for study, text in reports.items() if re.search(r"\b(?:left|right)\b", text, re.I)}
    row = stressed.stress[REFERENCES]["sides swapped"]
    assert row.texts == len(sided) < STUDIES
    swapped = {study: PERTURBATIONS["sides swapped"].change(text) for study, text in sided.items()}
    alone = evaluate_texts(
        swapped, sided, protocol="clean_full", cleaning="iu_xray", meteor=False, resamples=1
    )
    assert row.scores["BLEU-4"].after == pytest.approx(alone.scores["system"]["BLEU-4"].value)
    assert row.scores["BLEU-4"].before == pytest.approx(1)


def test_the_tables_and_the_sentences_name_what_hardly_moves(stressed):
    text = stress_tables(stressed.stress)
    assert text in str(stressed)
    assert all(name in text for name in (REFERENCES, DRAFTS, *PERTURBATIONS))
    (line,) = [line for line in text.splitlines() if line.startswith("References with sides swapped hardly")]
    assert "micro F1" in line
    assert max(map(len, text.splitlines())) <= 120
    read = Evaluation.from_json(json.loads(json.dumps(stressed.to_json())))
    assert read.stress == stressed.stress


def test_nothing_is_stressed_unless_it_was_asked_for(reports):
    plain = evaluate_texts(reports, reports, protocol="raw", cleaning="none", meteor=False, resamples=1)
    assert plain.stress == {}


# --- repetition ---------------------------------------------------------------------------------------------


def test_repeated_ngrams_are_those_that_stood_there_before():
    assert repeated_ngrams("a b c a b c") == pytest.approx(1 / 4)
    assert repeated_ngrams("a a a a a a") == pytest.approx(3 / 4)
    assert repeated_ngrams("a b") == repeated_ngrams("") == repeated_ngrams("a b c d") == 0


def test_a_loop_is_seen_in_the_scores():
    texts = {"a": "no effusion . " * 10, "b": "clear lungs ."}
    loop = evaluate_texts(texts, texts, protocol="raw", cleaning="none", meteor=False, resamples=1)
    assert loop.scores["system"][REPETITION].value == pytest.approx((1 - 3 / 28) / 2)
    assert "repetition (lower is better)" in str(loop)
