"""CheXbert against its released code, its F1 against scikit-learn, and the agreement of two labellers."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    cohen_kappa_score,
    f1_score,
    precision_recall_fscore_support,
)
from tiny_metric_models import golden_chexbert, tiny_chexbert

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.evaluation.chexbert import CLASSES, ORDER, CheXbert
from radscribe.evaluation.chexbert_scores import MAPPINGS, SETS, chexbert_by_observation, chexbert_statistics
from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.evaluation.label_agreement import label_agreement
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.evaluation.result import Evaluation
from radscribe.observations import OBSERVATION_STATES, OBSERVATIONS
from radscribe.runs.scoring import _has_more
from radscribe.text.observation_labeller import label_report

FILES = MetricFiles(tiny_chexbert())
TEXTS = {"a": "The heart is enlarged.", "b": "no effusion", "c": "small left pleural effusion. No edema."}
DRAFTS = TEXTS | {"b": "lungs are clear", "c": "There may be edema."}


@pytest.fixture(scope="module")
def chexbert() -> CheXbert:
    return CheXbert.load(FILES, "cpu")


def evaluated(files: MetricFiles | None = None, **options) -> Evaluation:
    settings = {"protocol": "clean_full", "cleaning": "iu_xray", "meteor": False, "resamples": 20}
    return evaluate_texts(DRAFTS, TEXTS, **settings | options, files=files)


# --- the released code --------------------------------------------------------------------------------------


def test_labels_logits_and_vectors_are_those_of_the_released_code(chexbert):
    """The oracle is `label.py` of the released code, run by `tests/golden/metrics/make_chexbert.py`.

    Vectors and logits are of double precision, for single precision rounds by more than 1e-6 here.
    """
    tensors, given = golden_chexbert()
    texts = given["texts"]
    assert list(ORDER) == given["conditions"]
    pieces = chexbert._pieces(texts)
    assert list(map(len, pieces)) == tensors["output.lengths"].tolist()
    assert max(map(len, pieces)) == 512
    read = chexbert.read(texts)
    labels = [[CLASSES.index(read[text].states[name]) for name in ORDER] for text in texts]
    assert labels == tensors["output.labels"].tolist()
    exact = dataclasses.replace(chexbert, network=copy.deepcopy(chexbert.network).double())
    vectors = np.stack([found.vector for found in exact.read(texts).values()])
    np.testing.assert_allclose(vectors, tensors["output.cls"].numpy(), rtol=0, atol=1e-9)
    logits = [
        torch.cat([head(torch.tensor(vector)) for head in exact.network.linear_heads]).detach()
        for vector in vectors
    ]
    np.testing.assert_allclose(np.stack(logits), tensors["output.logits"].numpy(), rtol=0, atol=1e-9)
    rounded = np.stack([found.vector for found in read.values()])
    np.testing.assert_allclose(rounded, vectors, rtol=0, atol=1e-4)


def test_a_text_is_read_alike_alone_and_with_others(chexbert):
    texts = golden_chexbert()[1]["texts"]
    together = chexbert.read(texts)
    for text in texts:
        alone = chexbert.read([text])[text]
        assert alone.states == together[text].states
        np.testing.assert_allclose(alone.vector, together[text].vector, atol=1e-5)


@pytest.mark.parametrize("form", ["without module.", "tokenizer.json"])
def test_other_forms_of_the_files_are_read(form, chexbert, tmp_path):
    folder = shutil.copytree(tiny_chexbert(), tmp_path / "models")
    if form == "tokenizer.json":
        (folder / "bert-base-uncased" / "vocab.txt").unlink()
        chexbert.tokenizer.save_pretrained(folder / "bert-base-uncased")
    else:
        state = torch.load(folder / "chexbert.pth")["model_state_dict"]
        del state["module.bert.embeddings.position_ids"]
        torch.save(
            {name.removeprefix("module."): weight for name, weight in state.items()}, folder / "chexbert.pth"
        )
    text = TEXTS["a"]
    found = CheXbert.load(MetricFiles(folder), "cpu").read([text])[text]
    assert found.states == chexbert.read([text])[text].states


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("missing", "missing linear_heads.13.bias"),
        ("further", "unexpected linear_heads.14.bias"),
        ("shape", r"linear_heads.13.bias is \(4,\), not \(2,\)"),
        ("other", "is no checkpoint of CheXbert: it has no bert.embeddings.word_embeddings.weight"),
        ("words", "has 35 entries, and '.*chexbert.pth' has 34"),
    ],
)
def test_a_checkpoint_is_loaded_strictly(change, says, tmp_path):
    folder = shutil.copytree(tiny_chexbert(), tmp_path / "models")
    state = torch.load(folder / "chexbert.pth")["model_state_dict"]
    last = "module.linear_heads.13.bias"
    if change == "missing":
        del state[last]
    elif change == "further":
        state["module.linear_heads.14.bias"] = torch.zeros(2)
    elif change == "shape":
        state[last] = torch.zeros(4)
    elif change == "words":
        with (folder / "bert-base-uncased" / "vocab.txt").open("a") as file:
            file.write("another\n")
    else:
        state = {last: state[last]}
    torch.save({"model_state_dict": state}, folder / "chexbert.pth")
    with pytest.raises(RadScribeError, match=says):
        CheXbert.load(MetricFiles(folder), "cpu")


# --- F1 -----------------------------------------------------------------------------------------------------


def random_states(seed: int, studies: int) -> list[dict]:
    """Random states; one observation is never positive, and some studies have none that is."""
    drawn = np.random.default_rng(seed).choice(4, size=(studies, 14), p=[0.2, 0.2, 0.1, 0.5])
    drawn[:, OBSERVATIONS.index("Fracture")] = OBSERVATION_STATES.index("not_mentioned")
    drawn[::7] = OBSERVATION_STATES.index("absent")
    return [
        {name: OBSERVATION_STATES[state] for name, state in zip(OBSERVATIONS, row, strict=True)}
        for row in drawn
    ]


@pytest.mark.parametrize("seed", range(3))
def test_f1_under_every_mapping_is_that_of_scikit_learn(seed):
    """The oracle is scikit-learn, called as f1chexbert and R2Gen call it."""
    drafts, references = random_states(seed, 40), random_states(seed + 50, 40)
    scores = chexbert_statistics(drafts, references).scores()
    compared = set()
    for mapping, positive in MAPPINGS.items():
        for number, names in SETS.items():
            ours, theirs = (
                np.array([[int(of_text[name] in positive) for name in names] for of_text in states])
                for states in (drafts, references)
            )
            report = classification_report(theirs, ours, output_dict=True, zero_division=0)
            for average in ("micro", "macro", "weighted", "samples"):
                for short, measure in (("P", "precision"), ("R", "recall"), ("F1", "f1-score")):
                    name = f"CheXbert {average} {short} ({number}, {mapping})"
                    assert scores[name] == pytest.approx(report[f"{average} avg"][measure], abs=1e-6), name
                    compared.add(name)
            if (number, mapping) == (5, "rrg"):
                exact = scores["CheXbert accuracy (5, rrg)"]
                assert exact == pytest.approx(accuracy_score(theirs, ours), abs=1e-6)
            if (number, mapping) == (14, "positive only"):
                by_class = f1_score(theirs, ours, average=None, zero_division=np.nan)
                left_out = scores["CheXbert macro F1 (14, positive only, empty left out)"]
                assert np.isnan(by_class).sum() == 1
                assert left_out == pytest.approx(np.nanmean(by_class), abs=1e-6)
                assert left_out > scores["CheXbert macro F1 (14, positive only)"]
    assert len(compared) == 48
    assert len(scores) == 48 + 3 + 1


@pytest.mark.parametrize("seed", range(3))
def test_each_observation_is_that_of_scikit_learn(seed):
    drafts, references = random_states(seed, 40), random_states(seed + 50, 40)
    found = chexbert_by_observation(chexbert_statistics(drafts, references))
    assert list(found) == ["CheXbert (14, rrg)", "CheXbert (14, positive only)"]
    for by_observation, positive in zip(found.values(), MAPPINGS.values(), strict=True):
        assert list(by_observation) == list(OBSERVATIONS)
        for name, values in by_observation.items():
            ours, theirs = ([of_text[name] in positive for of_text in side] for side in (drafts, references))
            *rates, _ = precision_recall_fscore_support(theirs, ours, average="binary", zero_division=0)
            assert [values[measure] for measure in ("P", "R", "F1")] == pytest.approx(rates, abs=1e-6)
            assert values["positive"] == sum(theirs)
        assert by_observation["Fracture"] == {"positive": 0, "P": 0, "R": 0, "F1": 0}


def test_no_positive_at_all_scores_nothing():
    nothing = [dict.fromkeys(OBSERVATIONS, "absent")] * 3
    scores = chexbert_statistics(nothing, nothing).scores()
    assert scores.pop("CheXbert accuracy (5, rrg)") == 1
    assert set(scores.values()) == {0}


def test_drafts_and_references_are_as_many():
    states = random_states(0, 2)
    for drafts, references in ((states, states[:1]), ([], [])):
        with pytest.raises(RadScribeError):
            chexbert_statistics(drafts, references)


# --- an evaluation ------------------------------------------------------------------------------------------


def test_an_evaluation_has_the_scores_of_whole_texts(chexbert):
    found = evaluated(FILES, baselines={"copy": TEXTS})
    read = chexbert.read([*TEXTS.values(), *DRAFTS.values()])
    vectors = [(read[DRAFTS[study]].vector, read[TEXTS[study]].vector) for study in TEXTS]
    cosines = [torch.cosine_similarity(*map(torch.tensor, pair), dim=0).item() for pair in vectors]
    assert found.rows["system"].scores["SembScore"].value == pytest.approx(np.mean(cosines), abs=1e-6)
    assert found.rows["copy"].scores["SembScore"].value == pytest.approx(1)
    assert found.rows["copy"].scores["CheXbert samples F1 (14, rrg)"].value == pytest.approx(1)
    assert found.differences["copy"]["SembScore"].value < 0
    assert found.provenance.further["CheXbert"].startswith("chexbert.pth, sha256 ")
    for title, positive in zip(found.by_observation, MAPPINGS.values(), strict=True):
        assert f"{title}, by observation" in str(found)
        for name, values in found.by_observation[title].items():
            assert values["positive"] == sum(read[text].states[name] in positive for text in TEXTS.values())
    tables = str(found)[str(found).index("\nCheXbert (14, rrg)") :].split("\n\nSembScore")[0]
    assert len(tables.splitlines()) > 4 * 8
    assert max(map(len, tables.splitlines())) <= 120


def test_without_its_files_the_scores_are_missing_by_name(tmp_path):
    found = evaluated(MetricFiles(tmp_path))
    assert f"there is no 'chexbert.pth' in '{tmp_path}'" in found.missing["CheXbert F1"]
    assert found.missing["SembScore"] == found.missing["CheXbert F1"]
    assert "CheXbert F1" not in evaluated().missing


def test_more_scores_of_the_same_rows_are_more(tmp_path):
    few, many = evaluated(), evaluated(FILES)
    for name, evaluation in (("few", few), ("many", many)):
        (tmp_path / name).write_text(json.dumps(evaluation.to_json()))
    assert _has_more(many, tmp_path / "few")
    assert not _has_more(few, tmp_path / "few")
    assert not _has_more(few, tmp_path / "many")
    assert not _has_more(evaluated(FILES, resamples=21), tmp_path / "few")
    assert not _has_more(evaluated(FILES, protocol="raw", cleaning="none"), tmp_path / "few")


# --- labels -------------------------------------------------------------------------------------------------

LINES = [
    "The heart is enlarged. No effusion.",
    "There may be edema.",
    "Lungs are clear.",
    "Derrame à direita.",
]


def test_agreement_is_that_of_scikit_learn(tmp_path):
    first = [label_report(text) for text in LINES[:3] * 5]
    second = random_states(3, 15)
    found = label_agreement(first, second)
    for name in OBSERVATIONS:
        ours, theirs = ([of_text[name] for of_text in side] for side in ([x.states for x in first], second))
        of_name = found.observations[name]
        kappa = cohen_kappa_score(ours, theirs)
        assert of_name.kappa == (None if np.isnan(kappa) else pytest.approx(kappa, abs=1e-6))
        present = [np.array(side) == "present" for side in (ours, theirs)]
        assert of_name.f1 == pytest.approx(f1_score(*present, zero_division=0), abs=1e-6)
        assert of_name.agreement == np.mean(np.array(ours) == np.array(theirs))
        assert sum(sum(row.values()) for row in of_name.counts.values()) == 15


def test_label_against_a_file(tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(LINES) + "\n")
    with (tmp_path / "chexbert.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Report Impression", "Cardiomegaly", "Pleural Effusion", "Edema"])
        table.writerows(
            [[LINES[0], 1, 0, ""], [LINES[1], "", "", 1], [LINES[2], "", "", ""], [LINES[3], "", 1, ""]]
        )
    words = ["label", str(tmp_path / "texts.txt"), "--against", str(tmp_path / "chexbert.csv")]
    main(words)
    printed = capsys.readouterr()
    assert "3 texts, and 1 unreadable ones left out; 1 disagreements, the first of them:" in printed.out
    assert "text 2, Edema: uncertain, not present: There may be edema" in printed.out
    assert "1 of 4 texts are unreadable" in printed.err
    main([*words, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["observations"]["Cardiomegaly"]["kappa"] == 1
    assert found["observations"]["Edema"]["counts"]["uncertain"]["present"] == 1
    assert list(found["observations"]) == ["Cardiomegaly", "Edema", "Pleural Effusion"]


def test_label_by_chexbert(tmp_path, capsys, chexbert):
    (tmp_path / "texts.txt").write_text("\n".join(LINES[:2]) + "\n")
    main(
        [
            "label",
            str(tmp_path / "texts.txt"),
            "--labeller",
            "chexbert",
            "--models",
            str(tiny_chexbert()),
            "--json",
        ]
    )
    found = [json.loads(line)["observations"] for line in capsys.readouterr().out.splitlines()]
    read = chexbert.read(LINES[:2])
    assert found == [dict(read[line].states) for line in LINES[:2]]
