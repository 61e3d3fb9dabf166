"""BERTScore, RadCliQ, RaTEScore and GREEN against what the released codes computed, to 1e-6."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_encoders import tiny_encoder, tiny_metric_files

from radscribe.errors import RadScribeError
from radscribe.evaluation.bertscore import SETTINGS, bertscore
from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.evaluation.green import ERRORS, green_statistics, read_reply
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.evaluation.radcliq import V0, V1, fast_bleu2, radcliq_columns
from radscribe.evaluation.radcliq_scores import radcliq_statistics
from radscribe.evaluation.radgraph_scores import RADGRAPHS
from radscribe.evaluation.ratescore import LONG, SHORT, Entities, ratescore
from radscribe.evaluation.stress import REFERENCES as AS_DRAFTS
from radscribe.evaluation.text_encoder import TextEncoder

GOLDEN = Path(__file__).parent / "golden/metrics"
BERTSCORES = json.loads((GOLDEN / "bertscore.json").read_text())
ARITHMETIC = json.loads((GOLDEN / "arithmetic.json").read_text())
REPORTS = {
    "a": "The heart is enlarged. No effusion.",
    "b": "There is a small left pleural effusion.",
    "c": "Lungs are clear. No pneumothorax.",
    "d": "There is edema and cardiomegaly.",
}


# --- BERTScore ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, TextEncoder]:
    folder = tmp_path_factory.mktemp("encoders")
    return {
        family: TextEncoder(tiny_encoder(folder / family, family), layers=BERTSCORES["layer"])
        for family in ("roberta", "distilbert")
    }


@pytest.mark.parametrize("case", BERTSCORES["f1"])
def test_bertscore_is_that_of_the_package(case, encoders):
    """Texts of other lengths, with blanks around them, too long, empty, and equal."""
    family, _, idf = case.partition(", ")
    drafts, references = BERTSCORES["drafts"], BERTSCORES["references"]
    ours = bertscore(drafts, references, encoders[family], BERTSCORES["baseline"], idf=bool(idf))
    assert ours == pytest.approx(BERTSCORES["f1"][case], abs=1e-6)


def test_an_empty_draft_lies_far_below_zero(encoders):
    (score,) = bertscore([""], ["no effusion"], encoders["roberta"], SETTINGS[0].baseline)
    assert score == pytest.approx(-0.8473319 / (1 - 0.8473319))


def test_an_encoder_with_too_few_layers_is_refused(tmp_path):
    folder = tiny_encoder(tmp_path / "e", "distilbert", layers=2)
    with pytest.raises(RadScribeError, match="has 2 layers, and 5 are needed"):
        TextEncoder(folder, layers=5)


# --- RadCliQ ------------------------------------------------------------------------------------------------


def test_radcliq_is_that_of_the_released_models():
    given = ARITHMETIC["radcliq"]
    columns = np.array(given["columns"])
    assert V0.score(columns) == pytest.approx(given["v0"], abs=1e-12)
    assert V1.score(columns) == pytest.approx(given["v1"], abs=1e-12)


def test_radcliq_of_the_mean_study_is_the_intercept_and_better_columns_lower_it():
    for model in (V0, V1):
        mean = np.array([model.mean])
        assert model.score(mean) == pytest.approx(model.intercept, abs=1e-12)
        for column in range(3):
            assert model.score(mean + 0.1 * np.eye(4)[column]) < model.score(mean)


def test_a_score_of_radcliq_is_the_mean_and_its_inverse():
    statistics = radcliq_statistics(np.array(ARITHMETIC["radcliq"]["columns"]))
    mean = np.mean(ARITHMETIC["radcliq"]["v1"])
    assert statistics.scores()["RadCliQ-v1"] == pytest.approx(mean)
    assert statistics.scores()["1/RadCliQ-v1"] == pytest.approx(1 / mean)


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(RadScribeError, match="different lengths"):
        radcliq_columns([0.1], [0.2], [0.3, 0.4], [0.5])


def test_bleu_2_is_that_of_fast_bleu():
    ours = [fast_bleu2(draft, reference) for draft, reference in ARITHMETIC["texts"]]
    assert ours == pytest.approx(ARITHMETIC["bleu"], abs=1e-12)
    assert fast_bleu2("", "") == 0


# --- RaTEScore and GREEN ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "weights"), [("long", LONG), ("short", SHORT)])
def test_ratescore_is_that_of_the_released_code(name, weights):
    given = ARITHMETIC["ratescore"]

    def entities(side: list) -> Entities:
        return Entities([kind.lower() for _, kind, _ in side], np.array([row for _, _, row in side]))

    ours = [
        ratescore(entities(draft), entities(reference), weights)
        for draft, reference in zip(given["drafts"], given["references"], strict=True)
    ]
    assert ours == pytest.approx(given["scores"][name], abs=1e-6)
    assert 0.5 in ours


@pytest.mark.parametrize("number", range(len(ARITHMETIC["replies"])))
def test_a_reply_is_read_as_the_package_reads_it(number):
    counts = read_reply(ARITHMETIC["replies"][number])
    score, (*errors, matched) = ARITHMETIC["green"][number]
    assert (*counts.errors, counts.matched) == (*errors, matched)
    assert counts.score == pytest.approx(score)


def test_green_counts_each_category():
    scores = green_statistics([read_reply(reply) for reply in ARITHMETIC["replies"][:2]]).scores()
    assert scores["GREEN"] == pytest.approx((0.5 + 1) / 2)
    assert scores[f"GREEN {ERRORS['b']}"] == 1


# --- families -----------------------------------------------------------------------------------------------


def test_every_metric_of_a_model_has_its_row_its_interval_and_its_stress():
    evaluation = evaluate_texts(
        REPORTS | {"b": "No effusion."},
        REPORTS,
        protocol="clean_full",
        cleaning="iu_xray",
        baselines={"same": REPORTS},
        resamples=20,
        meteor=False,
        files=MetricFiles(*tiny_metric_files()),
        stress=True,
    )
    of_baselines = {f"{name} of the baselines" for name in RADGRAPHS.values()}
    assert evaluation.missing.keys() == {"METEOR"} | of_baselines
    ours, same = evaluation.scores["system"], evaluation.scores["same"]
    assert same["BERTScore (roberta-large)"].value == pytest.approx(1, abs=1e-5)
    assert ours["BERTScore (roberta-large)"].low < ours["BERTScore (roberta-large)"].value < 1
    assert ours["RaTEScore"].value == pytest.approx(LONG.affinity[12] / LONG.affinity[12])
    assert ours["GREEN"].value == 0.75
    assert {"RadCliQ-v0", "RadCliQ-v1"} <= ours.keys()
    # What a file says of the system's drafts is not said of a baseline's, nor of changed drafts.
    assert not {"GREEN", "RaTEScore", "RadCliQ-v1", "RadGraph F1 partial"} & same.keys()
    stressed = evaluation.stress[AS_DRAFTS]["all negated"].scores
    assert stressed["BERTScore (distilroberta-base)"].before == pytest.approx(1, abs=1e-5)
    assert stressed["BERTScore (distilroberta-base)"].after < 0.9999
    assert "GREEN" not in stressed
    assert "RadCliQ (lower is better)" in str(evaluation)


def test_radcliq_takes_its_column_from_radgraph_where_no_file_gives_it(tmp_path):
    models, outputs = tiny_metric_files()
    without = Path(shutil.copytree(outputs, tmp_path / "outputs"))
    (without / "radcliq.csv").unlink()
    given, computed = (
        evaluate_texts(
            REPORTS,
            REPORTS,
            protocol="clean_full",
            cleaning="iu_xray",
            resamples=20,
            meteor=False,
            files=MetricFiles(models, folder),
        ).scores["system"]["RadCliQ-v1"]
        for folder in (outputs, without)
    )
    assert given.value != computed.value
