"""Clinical efficacy and classifier scores: against plain transcriptions, with their rules and tables."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.evaluation.bootstrap import paired_test, scores_with_intervals
from radscribe.evaluation.clinical import (
    CLINICAL_BLOCKS,
    classification_statistics,
    clinical_statistics,
    label_texts,
    observation_scores,
    read_label_files,
)
from radscribe.evaluation.evaluate import compare, evaluate_texts
from radscribe.evaluation.family import ClassifiedStudies
from radscribe.observations import COMPETITION_OBSERVATIONS, OBSERVATION_STATES, OBSERVATIONS
from radscribe.recipes import get_recipe
from radscribe.runs.config import DataConfig, save_config
from radscribe.runs.labels import labels_of
from radscribe.runs.model_card import write_model_card
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.scoring import score_run
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study, View
from radscribe.systems.registry import get_system
from radscribe.text.vocabulary import Vocabulary

REFERENCES = {
    "a": "The heart is normal. No effusion.",
    "b": "The heart is enlarged. Small left effusion.",
    "c": "Lungs are clear. No pneumothorax.",
    "d": "The heart may be enlarged. Mild edema.",
}
DRAFTS = REFERENCES | {"a": "Small effusion.", "d": "The heart is enlarged."}
QUICK = {"protocol": "clean_full", "cleaning": "iu_xray", "resamples": 50, "meteor": False}
CODES = {"present": "1", "absent": "0", "uncertain": "-1", "not_mentioned": ""}


def random_states(studies: int, seed: int) -> list[dict[str, str]]:
    """States in which every observation has some of each kind, but Fracture is never present."""
    drawn = np.random.default_rng(seed).choice(OBSERVATION_STATES, size=(studies, len(OBSERVATIONS)))
    rows = [dict(zip(OBSERVATIONS, map(str, row), strict=True)) for row in drawn]
    return [row | {"Fracture": "absent"} for row in rows]


def transcribed(drafts, references, names, uncertain) -> dict[str, float]:
    """As published scripts do it: fill what is missing with 0, map -1, and average one class at a time."""
    number = {"present": 1, "absent": 0, "not_mentioned": 0, "uncertain": int(uncertain == "as_present")}
    ours = np.array([[number[row[name]] for name in names] for row in drafts])
    theirs = np.array([[number[row[name]] for name in names] for row in references])

    def rates(prediction, truth):
        both, predicted, true = (prediction * truth).sum(), prediction.sum(), truth.sum()
        precision, recall = both / predicted if predicted else 0.0, both / true if true else 0.0
        total = precision + recall
        return precision, recall, 2 * precision * recall / total if total else 0.0

    of_classes = [rates(ours[:, column], theirs[:, column]) for column in range(len(names))]
    scores = dict(zip(("micro P", "micro R", "micro F1"), rates(ours.ravel(), theirs.ravel()), strict=True))
    return scores | dict(
        zip(("macro P", "macro R", "macro F1"), map(float, np.mean(of_classes, axis=0)), strict=True)
    )


@pytest.mark.parametrize("block", CLINICAL_BLOCKS, ids=lambda block: block.title)
def test_the_scores_are_those_of_a_plain_transcription(block):
    drafts, references = random_states(60, 0), random_states(60, 1)
    scores = clinical_statistics(drafts, references).scores()
    expected = transcribed(drafts, references, block.observations, block.uncertain)
    assert {short: scores[name] for short, name in block.names.items()} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("block", CLINICAL_BLOCKS, ids=lambda block: block.title)
def test_the_scores_are_those_of_scikit_learn(block):
    metrics = pytest.importorskip("sklearn.metrics")
    drafts, references = random_states(60, 0), random_states(60, 1)
    scores = clinical_statistics(drafts, references).scores()
    positive = {"present"} | ({"uncertain"} if block.uncertain == "as_present" else set())
    ours, theirs = (
        np.array([[row[name] in positive for name in block.observations] for row in rows])
        for rows in (drafts, references)
    )
    for average in ("micro", "macro"):
        expected = metrics.precision_recall_fscore_support(theirs, ours, average=average, zero_division=0)
        names = [block.names[f"{average} {short}"] for short in ("P", "R", "F1")]
        assert [scores[name] for name in names] == pytest.approx(expected[:3], abs=1e-12)


def test_the_sets_and_policies_are_all_there():
    assert [(block.observations, block.uncertain) for block in CLINICAL_BLOCKS] == [
        (names, uncertain)
        for names in (OBSERVATIONS, COMPETITION_OBSERVATIONS)
        for uncertain in ("as_absent", "as_present")
    ]
    names = [name for block in CLINICAL_BLOCKS for name in block.names.values()]
    assert len(set(names)) == 24
    assert "macro F1 (5, as_present)" in names


def test_uncertain_counts_as_each_policy_says():
    states = label_texts([*DRAFTS.values(), *REFERENCES.values()])
    statistics = clinical_statistics(
        [states[text] for text in DRAFTS.values()], [states[text] for text in REFERENCES.values()]
    )
    scores = observation_scores(statistics)
    absent, present = (scores[policy]["Cardiomegaly"] for policy in ("as_absent", "as_present"))
    assert (absent.precision, absent.recall, absent.support) == (0.5, 1, 1)
    assert (present.precision, present.recall, present.f1, present.support) == (1, 1, 1, 2)
    effusion = scores["as_absent"]["Pleural Effusion"]
    assert (effusion.precision, effusion.recall, effusion.support) == (0.5, 1, 1)
    edema = scores["as_absent"]["Edema"]
    assert (edema.precision, edema.recall, edema.f1, edema.support) == (0, 0, 0, 1)


def test_what_nobody_has_scores_zero_without_a_warning():
    nothing = [dict.fromkeys(OBSERVATIONS, "absent")] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        statistics = clinical_statistics(nothing, nothing)
        assert set(statistics.scores().values()) == {0.0}
        assert observation_scores(statistics)["as_present"]["Edema"].support == 0
        assert scores_with_intervals([statistics], 10, 0)["micro F1 (5, as_absent)"].high == 0
    with pytest.raises(RadScribeError, match="no studies"):
        clinical_statistics([], [])
    with pytest.raises(RadScribeError, match="3 drafts for those of 2 references"):
        clinical_statistics(nothing, nothing[:2])


def test_a_resample_is_scored_as_the_studies_in_it():
    drafts, references = random_states(30, 0), random_states(30, 1)
    statistics = clinical_statistics(drafts, references)
    drawn = np.random.default_rng(5).integers(30, size=30)
    resampled = clinical_statistics([drafts[n] for n in drawn], [references[n] for n in drawn])
    assert {
        name: float(score)
        for name, score in statistics.scores_of_sums(statistics.columns[drawn].sum(axis=0)).items()
    } == resampled.scores()
    scores = scores_with_intervals([statistics], 200, 0)
    assert all(score.low <= score.value <= score.high for name, score in scores.items() if "micro" in name)
    better = clinical_statistics(references, references)
    difference = paired_test([better], [statistics], 200, 0)["micro F1 (14, as_absent)"]
    assert difference.value == pytest.approx(1 - scores["micro F1 (14, as_absent)"].value)
    assert difference.p == pytest.approx(2 / 201)


def test_the_classifier_ignores_what_has_no_label():
    generator = np.random.default_rng(0)
    labels = generator.choice([0.0, 1.0, np.nan], size=(50, 14))
    labels[:, 3] = np.nan
    probabilities = generator.random((50, 14))
    probabilities[0, 0] = 0.5
    labels[0, 0] = 1
    scores = classification_statistics(probabilities, labels).scores()
    counts = []
    for column in range(14):
        there = ~np.isnan(labels[:, column])
        predicted, truth = probabilities[there, column] >= 0.5, labels[there, column] == 1
        counts.append(((predicted & truth).sum(), predicted.sum(), truth.sum()))
    both, predicted, true = np.array(counts).T
    assert scores["classifier micro P"] == pytest.approx(both.sum() / predicted.sum())
    assert scores["classifier micro R"] == pytest.approx(both.sum() / true.sum())
    labelled = true > 0
    assert labelled.tolist() == [column != 3 for column in range(14)]
    assert scores["classifier macro P"] == pytest.approx(np.mean(both[labelled] / predicted[labelled]))
    assert scores["classifier macro R"] == pytest.approx(np.mean(both[labelled] / true[labelled]))
    with pytest.raises(RadScribeError, match="no labels"):
        classification_statistics(probabilities, np.full((50, 14), np.nan))
    with pytest.raises(RadScribeError, match="probabilities"):
        classification_statistics(probabilities, labels[1:])


def test_every_row_has_clinical_scores_and_the_tables_print_them():
    classified = ClassifiedStudies(np.eye(4, 14), np.eye(4, 14), "labels of this test")
    evaluation = evaluate_texts(
        DRAFTS,
        REFERENCES,
        **QUICK,
        baselines={"constant report": dict.fromkeys(REFERENCES, "No effusion.")},
        classified=classified,
    )
    name = "micro F1 (14, as_absent)"
    assert 0 < evaluation.rows["constant report"].scores[name].value < 1
    assert name in evaluation.differences["constant report"]
    assert evaluation.rows["system"].scores["classifier micro F1"].value == 1
    text = str(evaluation)
    tables = text[text.index("Clinical efficacy") : text.index("METEOR is not there")]
    assert max(map(len, tables.splitlines())) <= 120
    assert "published scores do not compare" in text
    for block in CLINICAL_BLOCKS:
        (position,) = (n for n, line in enumerate(text.splitlines()) if line.startswith(block.title))
        rows = text.splitlines()[position : position + 8]
        assert rows[0].split()[-12:] == [word for short in block.names for word in short.split()]
        values = [f"{evaluation.rows['system'].scores[each].value:.3f}" for each in block.names.values()]
        assert rows[1].split() == ["system", *values]
        assert rows[5].startswith("system - constant report")
        assert rows[6].split()[0] == "p"
    assert "Pleural Effusion" in text
    assert any(line.startswith("classifier ") and "micro P" in line for line in text.splitlines())
    assert "classifier against labels of this test" in text.splitlines()[-1]
    assert "observations by RadScribe's rules" in text.splitlines()[-1]
    content = evaluation.to_json()
    assert json.loads(json.dumps(content)) == content
    assert content["observations"]["system"]["as_present"]["Cardiomegaly"]["support"] == 2
    assert content["provenance"]["further"] == {"classifier": "labels of this test"}


def test_references_are_labelled_whole_and_as_written():
    """The protocol cuts this reference before its effusion, and makes a rare word of it."""
    references = {str(n): f"The heart is normal. The lungs are clear {n}. Small effusion." for n in range(3)}
    vocabulary = Vocabulary.build(["the heart is normal ."] * 3, "iu_xray", 3)
    evaluation = evaluate_texts(
        dict.fromkeys(references, "small effusion ."),
        references,
        **QUICK | {"protocol": "r2gen"},
        vocabulary=vocabulary,
        maximum_length=6,
    )
    assert evaluation.provenance.truncation_rate == 1
    assert evaluation.to_json()["observations"]["system"]["as_absent"]["Pleural Effusion"]["f1"] == 1


def write_labels(path, states: dict[str, dict[str, str]], columns=OBSERVATIONS):
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["study_id", *columns])
        for study, row in states.items():
            table.writerow([study, *(CODES[row[name]] for name in columns)])
    return path


@pytest.fixture
def files(tmp_path):
    """Texts, and label files that say something else: every draft right, in another order, one study more."""
    for name, texts in (("predictions", DRAFTS), ("references", REFERENCES)):
        lines = [json.dumps({"id": study, "text": text}) for study, text in texts.items()]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    states = dict(zip([*REFERENCES, "other"], random_states(5, 0), strict=True))
    write_labels(tmp_path / "of_drafts.csv", states)
    write_labels(tmp_path / "of_references.csv", dict(reversed(states.items())))
    return tmp_path


def test_label_files_replace_the_rules(files, capsys):
    texts = [f"--{name}={files / name}.jsonl" for name in ("predictions", "references")]
    command = ["evaluate", *texts, "--protocol", "raw", "--no_meteor", "--resamples", "20"]
    labels = [
        f"--draft_labels={files / 'of_drafts.csv'}",
        f"--reference_labels={files / 'of_references.csv'}",
    ]
    main([*command, *labels, "--json"])
    with_files = json.loads(capsys.readouterr().out)
    assert with_files["scores"]["system"]["micro F1 (14, as_present)"]["value"] == 1
    assert with_files["scores"]["system"]["BLEU-4"]["value"] < 1
    assert with_files["provenance"]["labels"] == "label files of_drafts.csv and of_references.csv"
    main([*command, *labels])
    printed = capsys.readouterr().out
    assert "observations by label files of_drafts.csv and of_references.csv" in printed
    assert "do not compare" not in printed
    main([*command, "--json"])
    assert json.loads(capsys.readouterr().out)["scores"]["system"]["micro F1 (14, as_present)"]["value"] < 1
    with pytest.raises(SystemExit):
        main([*command, labels[0]])
    assert "--draft_labels and --reference_labels go together" in capsys.readouterr().err


def test_baselines_have_no_labels_in_label_files(files):
    labels = read_label_files(files / "of_drafts.csv", files / "of_references.csv", REFERENCES)
    baselines = {"constant report": dict.fromkeys(REFERENCES, "No effusion.")}
    ours = evaluate_texts(DRAFTS, REFERENCES, **QUICK, baselines=baselines, labels=labels)
    assert "micro F1 (14, as_absent)" not in ours.rows["constant report"].scores
    assert ours.differences["constant report"].keys() == ours.rows["constant report"].scores.keys()
    assert "clinical efficacy of the baselines is not there: the label files" in str(ours)
    theirs = evaluate_texts(DRAFTS, REFERENCES, **QUICK)
    with pytest.raises(RadScribeError, match="under the same rules"):
        compare(ours, theirs)
    assert compare(theirs, theirs)["micro F1 (14, as_absent)"].value == 0


def test_label_files_that_do_not_fit_are_named(files):
    good = files / "of_drafts.csv"
    with pytest.raises(RadScribeError, match=r"of_references\.csv has no labels of 2 of 6 studies, .* 'x'"):
        read_label_files(files / "of_references.csv", good, [*REFERENCES, "x", "y"])
    states = dict(zip(REFERENCES, random_states(4, 0), strict=True))
    short = write_labels(files / "short.csv", states, [name for name in OBSERVATIONS if name != "Edema"])
    with pytest.raises(RadScribeError, match=r"short\.csv has no column 'Edema'"):
        read_label_files(good, short, REFERENCES)


@pytest.fixture(scope="module")
def classifying_run(tmp_path_factory) -> tuple[RunDirectory, PreparedStore]:
    """A tiny CAMANet with random weights, and the store that it would be scored on."""
    folder = tmp_path_factory.mktemp("classifier")
    prepare("phantom", folder / "store", short_side=64, studies=40, workers=1, progress=False)
    store = PreparedStore(folder / "store")
    config = get_recipe("camanet/phantom").build()
    config.store = str(store.path)
    config.data.transform = dataclasses.replace(config.data.transform, short_side=64, crop=56)
    config.data.labels.uncertain = "ignore"
    config.system = dataclasses.replace(config.system, width=32, feed_forward=48, layers=1)
    config.system.backbone.architecture = "test_byobnet"
    config.decoding.beams, config.decoding.maximum_length = 1, 12
    reports = [study.sections["findings"] for study in store.studies("train")]
    vocabulary = Vocabulary.build(reports, config.data.cleaning, 1)
    run = RunDirectory(folder / "run")
    run.create(
        config, vocabulary, {"store_source": "phantom", "radscribe": "0", "torch": "0", "began": "now"}
    )
    torch.manual_seed(0)
    run.save_weights(get_system("camanet").build(config.system, vocabulary, 60))
    return run, store


@pytest.mark.slow
def test_the_classifier_of_a_run_is_scored_against_its_labels(classifying_run):
    run, store = classifying_run
    evaluation, drafts = score_run(run, store, "test", progress=False, meteor=False, resamples=20)
    assert all(draft.probabilities.keys() == set(OBSERVATIONS) for draft in drafts)
    studies = store.studies("test")
    labels = labels_of(studies, run.load_config().data)
    assert np.isnan(labels).any()
    found = {draft.id: draft.probabilities for draft in drafts}
    predicted = np.array([[found[study.id][name] >= 0.5 for name in OBSERVATIONS] for study in studies])
    right = (predicted & (labels == 1)).sum()
    scores = evaluation.rows["system"].scores
    assert scores["classifier micro R"].value == pytest.approx(right / (labels == 1).sum())
    assert scores["classifier micro P"].value == pytest.approx(right / (predicted & ~np.isnan(labels)).sum())
    assert "classifier micro R" not in evaluation.rows["constant report"].scores
    rules = evaluation.provenance.further["classifier"]
    assert rules == "labels from report, uncertain ignore, missing as_absent"
    run.metrics.write_text(json.dumps(evaluation.to_json()))
    write_model_card(run)
    card = run.model_card.read_text()
    for head in (
        "|  | BLEU-1 |",
        "| 5 observations, uncertain as present | micro P |",
        "| classifier | micro P |",
    ):
        assert head in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert max(row.count("|") for row in rows) <= 9


def test_labels_that_are_not_there_cost_the_classifier_its_scores_only(classifying_run, tmp_path):
    run, store = classifying_run
    shutil.copytree(run.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    config = run.load_config()
    config.data.labels.source = str(tmp_path / "gone.csv")
    save_config(config, run.config)
    evaluation, _ = score_run(run, store, "val", progress=False, meteor=False, resamples=20)
    assert "classifier micro R" not in evaluation.rows["system"].scores
    assert "gone.csv" in evaluation.missing["classifier"]
    assert "micro F1 (14, as_absent)" in evaluation.rows["system"].scores


def test_labels_of_a_file_in_json(tmp_path):
    """By study, with R2Gen's ids that end in an image's number; a study that is not there is named."""
    path, config = tmp_path / "labels.json", DataConfig()
    config.labels.source = str(path)
    path.write_text(json.dumps({"CXR1_IM-0001": [0] * 8 + [1] + [0] * 5, "CXR2_IM-0652": [1] + [0] * 13}))
    view = View(tmp_path / "0.png")
    studies = [Study(id, id, (view,)) for id in ("CXR2_IM-0652-1001", "CXR1_IM-0001")]
    labels = labels_of(studies, config)
    assert labels.sum(axis=1).tolist() == [1, 1]
    assert labels[0, OBSERVATIONS.index("Atelectasis")] == 1
    assert labels[1, OBSERVATIONS.index("No Finding")] == 1
    with pytest.raises(
        RadScribeError, match="1 of 3 studies have no labels in .*labels.json, the first is 'CXR3_IM-1384'"
    ):
        labels_of([*studies, Study("CXR3_IM-1384", "3", (view,))], config)


def test_the_constant_report_on_the_benchmark(constant_report_on_the_benchmark):
    """pytest tests/test_clinical.py -k benchmark -s prints the table of docs/protocols.md."""
    evaluation = constant_report_on_the_benchmark
    print()
    scores, rows = evaluation.rows["system"].scores, {}
    for block in CLINICAL_BLOCKS:
        rows[block.title] = [f"{scores[name].value:.3f}".lstrip("0") for name in block.names.values()]
        print("|", block.title, "|", " | ".join(rows[block.title]), "|")
    assert list(rows.values()) == [
        [".771", ".711", ".740", ".055", ".071", ".062"],
        [".771", ".662", ".713", ".055", ".071", ".062"],
        [".000"] * 6,
        [".000"] * 6,
    ]
    observations = evaluation.to_json()["observations"]["system"]["as_absent"]
    assert {name for name, score in observations.items() if score["f1"]} == {"No Finding"}
    assert (observations["No Finding"]["support"], observations["Pneumonia"]["support"]) == (455, 1)
