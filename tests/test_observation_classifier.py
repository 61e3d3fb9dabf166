"""The observation classifier: how it is measured, what it learns and leaves, how it is used, its faults."""

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from pretraining_faults import change_fields, cut_weights, drop_a_weight, pretrain_until_killed, rehash
from safetensors.torch import load_file, save_file
from tiny import tiny_config

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.evaluation.probabilities import (
    area_under_curve,
    best_temperature,
    best_threshold,
    calibrated,
    expected_calibration_error,
    f1_at,
)
from radscribe.observations import OBSERVATIONS
from radscribe.parts.observation_classifier import ObservationClassifier
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.observation_classifier import ObservationClassifierTask
from radscribe.pretraining.observation_task import measure
from radscribe.pretraining.settings import ObservationClassifierSettings
from radscribe.runs.observing import Observer
from radscribe.runs.trained_system import load
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import RenderedView, View
from radscribe.training.train import train

TINY = {"architecture": "test_resnet", "short_side": 64, "crop": 56, "epochs": 2, "batch": 8}


def train_tiny(store, out, *, resume=False, **options):
    settings = ObservationClassifierSettings(**TINY | {"threads": 1, "device": "cpu"} | options)
    return pretrain(
        ObservationClassifierTask, PreparedStore(store), out, settings, resume=resume, progress=False
    )


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """The directory of an observation classifier."""
    out = tmp_path_factory.mktemp("parts") / "observations"
    train_tiny(store, out)
    return out


@pytest.fixture(scope="module")
def camanet(store, tmp_path_factory):
    """A run of a system that classifies observations."""
    config = tiny_config(store, "camanet/phantom", epochs=1)
    return train(config, tmp_path_factory.mktemp("runs") / "camanet", progress=False).path


def write_labels(path, store, state):
    """A label file: `state(split, name)` is what stands there of an observation in a study of a split."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["study_id", *OBSERVATIONS])
        for split in ("train", "val"):
            for number, study in enumerate(PreparedStore(store).studies(split)):
                table.writerow([study.id, *(state(split, name, number) for name in OBSERVATIONS)])
    return path


# --- measuring ---------------------------------------------------------------------------------------------


def draw(seed, studies=200, ties=False):
    """Probabilities that tell something, and what is present."""
    random = np.random.default_rng(seed)
    present = random.random(studies) < 0.2
    logits = random.normal(size=studies) - 1 + 1.5 * present
    return np.round(logits) if ties else logits, present


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_the_share_of_ordered_pairs(ties):
    logits, present = draw(1, ties=ties)
    have, have_not = logits[present][:, None], logits[~present]
    pairs = np.where(have == have_not, 0.5, have > have_not)
    assert area_under_curve(logits, present) == pytest.approx(pairs.mean(), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_that_of_scikit_learn(ties):
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        logits, present = draw(seed, ties=ties)
        expected = metrics.roc_auc_score(present, logits)
        assert area_under_curve(logits, present) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("present", [[], [True, True], [False]])
def test_there_is_no_area_without_both(present):
    assert area_under_curve(np.zeros(len(present)), np.array(present, dtype=bool)) is None


@pytest.mark.parametrize("ties", [False, True])
def test_no_threshold_has_a_higher_f1(ties):
    for seed in range(5):
        logits, present = draw(seed, ties=ties)
        probabilities = calibrated(logits, 1.0)
        best = best_threshold(probabilities, present)
        every = [f1_at(probabilities, present, value) for value in probabilities]
        assert best.f1 == pytest.approx(max(every), abs=1e-12)
        assert f1_at(probabilities, present, best.value) == pytest.approx(best.f1, abs=1e-12)


def test_the_threshold_lies_half_way():
    best = best_threshold(np.array([0.1, 0.9, 0.4, 0.6]), np.array([False, True, False, True]))
    assert best == pytest.approx((0.5, 1.0))


def test_one_probability_for_all_has_the_threshold_that_takes_all():
    best = best_threshold(np.full(4, 0.3), np.array([True, False, False, False]))
    assert best == pytest.approx((0.15, 0.4))


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(true):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, size=40_000)
    present = random.random(40_000) < calibrated(logits, true)
    assert best_temperature(logits, present) == pytest.approx(true, rel=0.05)
    errors = [
        expected_calibration_error(calibrated(logits, temperature), present)
        for temperature in (true, 8 * true)
    ]
    assert errors[0] < 0.01 < errors[1]


def test_logits_that_separate_perfectly_have_a_temperature():
    """The cross-entropy falls without end, and the temperature stays in its range."""
    assert best_temperature(np.array([-3.0, 2.0]), np.array([False, True])) == pytest.approx(0.05, rel=0.01)


def test_the_calibration_error_by_hand():
    probabilities = np.array([0.11, 0.19, 0.95, 1.0])
    present = np.array([True, False, True, True])
    # Two bins: mean .15 against .5, and .975 against 1.
    assert expected_calibration_error(probabilities, present) == pytest.approx((0.7 + 0.05) / 4)


def test_too_few_studies_choose_nothing():
    logits = np.linspace(-4, 4, 20)
    for count, chosen in ((4, False), (5, True), (15, True), (16, False)):
        measured = measure(logits, np.arange(20) < count)
        assert measured["chosen"] is chosen
        assert ((measured["temperature"], measured["threshold"]) != (1, 0.5)) == chosen
        assert measured["auc"] == 0


# --- training ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns(tmp_path):
    """Far from what it can be, from 200 views and in seconds; and clearly more than chance."""
    prepare(
        "phantom",
        tmp_path / "store",
        studies=110,
        split_fractions=(0.6, 0.39, 0.01),
        short_side=72,
        workers=1,
        progress=False,
    )
    facts = train_tiny(tmp_path / "store", tmp_path / "part", short_side=72, crop=64, epochs=16)
    areas = [measured["auc"] for measured in facts["validation"].values() if measured["auc"] is not None]
    assert len(areas) >= 8
    assert np.mean(areas) > 0.62


def test_the_directory_is_complete_and_says_what_it_is_for(trained, store):
    assert {path.name for path in trained.iterdir()} == {
        "weights.safetensors",
        "observation_classifier.json",
        "part.json",
        "pretraining.json",
        "MODEL_CARD.md",
    }
    card = (trained / "MODEL_CARD.md").read_text()
    assert "research use, not for clinical diagnosis" in card
    assert "| Pleural Effusion |" in card
    part = json.loads((trained / "part.json").read_text())
    assert (part["kind"], part["split"]) == ("observation-classifier", "train")
    assert part["files"]["weights.safetensors"] == (
        hashlib.sha256((trained / "weights.safetensors").read_bytes()).hexdigest()
    )


def test_what_is_counted_is_what_is_there(facts, store):
    for split in ("train", "val"):
        studies = PreparedStore(store).studies(split)
        counted = facts["labels"][split]
        assert counted["studies"] == len(studies)
        assert counted["views"] == sum(len(study.views) for study in studies)
        for numbers in counted["observations"].values():
            assert numbers["present"] + numbers["absent"] == len(studies)


def test_the_test_split_is_never_asked_for(store, tmp_path, monkeypatch):
    asked = []
    studies = PreparedStore.studies
    monkeypatch.setattr(
        PreparedStore, "studies", lambda self, split="all": asked.append(split) or studies(self, split)
    )
    train_tiny(store, tmp_path / "part", epochs=1)
    assert set(asked) == {"train", "val"}


def test_labels_of_the_report_and_of_the_store_follow_their_policies(store, tmp_path):
    """The phantom labels its studies itself, and says what is uncertain."""

    def present(**options):
        facts = train_tiny(store, tmp_path / "-".join(["part", *options.values()]), epochs=1, **options)
        counts = facts["labels"]["train"]["observations"].values()
        return sum(numbers["present"] for numbers in counts), sum(numbers["absent"] for numbers in counts)

    studies = PreparedStore(store).studies("train")
    states = [study.observations[name] for study in studies for name in study.observations]
    sure, unsure, absent = (states.count(state) for state in ("present", "uncertain", "absent"))
    assert unsure
    assert present(labels="store") == (sure + unsure, len(studies) * 14 - sure - unsure)
    assert present(labels="store", uncertain="as_absent")[0] == sure
    assert present(labels="store", uncertain="ignore", missing="ignore") == (sure, absent)


def test_labels_of_a_file_and_one_that_is_never_present(store, tmp_path, capsys):
    """Fracture is in val only, Pneumonia nowhere, Edema in all; nothing is said of Consolidation."""

    def state(split, name, number):
        nobody = {"Fracture": int(split == "val"), "Pneumonia": 0, "Edema": 1, "Consolidation": ""}
        return nobody.get(name, int(number % 2 == 0))

    labels = write_labels(tmp_path / "labels.csv", store, state)
    out = tmp_path / "part"
    options = "--missing ignore --short_side 64 --crop 56 --epochs 1 --threads 1 --device cpu --no_progress"
    main(f"pretrain observation-classifier {store} --out {out} --labels {labels} {options}".split())
    printed, card = capsys.readouterr().out, (out / "MODEL_CARD.md").read_text()
    for text in (printed, card):
        assert "no study of the train split has a label of it: Consolidation." in text
        assert "no study of the train split has it: Pneumonia, Fracture." in text
        assert "every study of the train split has it: Edema." in text
        assert "nan" not in text.lower().split()
    facts = json.loads((out / "pretraining.json").read_text())
    assert facts["settings"]["labels_sha256"] == hashlib.sha256(labels.read_bytes()).hexdigest()
    assert facts["labels"]["val"]["observations"]["Fracture"]["present"] == 4
    assert facts["validation"]["Pneumonia"]["auc"] is None
    assert facts["validation"]["Consolidation"]["calibration_error"] is None
    probabilities = ObservationClassifier.load(out, "cpu").probabilities(
        PreparedStore(store).studies("test")[0]
    )
    assert all(0 < probability < 1 for probability in probabilities.values())
    assert probabilities["Pneumonia"] < 0.2 < 0.8 < probabilities["Edema"]
    assert probabilities["Consolidation"] < 0.5


def test_without_labels_on_val_it_is_said(store, tmp_path, capsys):
    labels = write_labels(tmp_path / "labels.csv", store, lambda split, *_: int(split == "train") or "")
    options = "--missing ignore --short_side 64 --crop 56 --epochs 1 --threads 1 --device cpu --no_progress"
    out = tmp_path / "part"
    main(f"pretrain observation-classifier {store} --out {out} --labels {labels} {options}".split())
    assert "Not measured: the val split has no labels." in capsys.readouterr().out
    assert set(ObservationClassifier.load(out, "cpu").threshold_of.values()) == {0.5}


def test_balanced_classes_leave_probabilities_of_the_store(store, tmp_path):
    """Where views show nothing, the probability is how often it is present, whatever weighs how much."""
    view = View(lambda: RenderedView(np.zeros((64, 64), np.uint8)), "frontal")
    studies = [replace(study, views=(view,)) for study in PreparedStore(store).studies()]
    black = tmp_path / "store"
    prepare(studies, black, short_side=64, workers=1, progress=False)
    labels = write_labels(tmp_path / "labels.csv", store, lambda _, name, number: int(number % 7 == 0))
    found = {}
    for balanced in (False, True):
        out = tmp_path / f"part-{balanced}"
        train_tiny(black, out, labels=str(labels), class_balanced=balanced, epochs=6)
        study = PreparedStore(black).studies("test")[0]
        found[balanced] = ObservationClassifier.load(out, "cpu").probabilities(study)["Edema"]
    assert found[False] == pytest.approx(1 / 7, abs=0.05)
    assert found[True] == pytest.approx(1 / 7, abs=0.05)


# --- use ---------------------------------------------------------------------------------------------------


def test_probabilities_and_states_whatever_stands_beside(trained, store):
    classifier = ObservationClassifier.load(trained, "cpu")
    studies = PreparedStore(store).studies("test")
    observed = list(Observer.load(trained, "cpu").observe(str(store), split="test"))
    assert [study.id for study in observed] == [study.id for study in studies]
    for study, together in zip(studies, observed, strict=True):
        alone = classifier.probabilities(study)
        assert tuple(alone) == OBSERVATIONS
        assert list(alone.values()) == pytest.approx(list(together.probabilities.values()), abs=1e-5)
        assert classifier.probabilities(study.views) == alone
    classifier.thresholds.fill_(0.0)
    assert set(classifier.states(studies[0]).values()) == {"present"}
    classifier.thresholds.fill_(1.0)
    assert set(classifier.states(studies[0]).values()) == {"absent"}


def test_the_logits_of_a_study_are_the_means_of_its_views(trained, store):
    classifier = ObservationClassifier.load(trained, "cpu")
    views = torch.randint(0, 256, (1, 2, 56, 56), dtype=torch.uint8)
    both, first, second = (
        classifier(views[:, part], torch.ones(1, views[:, part].size(1), dtype=torch.bool))
        for part in (slice(2), slice(1), slice(1, 2))
    )
    assert torch.allclose(both, (first + second) / 2, atol=1e-5)


def test_temperatures_divide_the_logits(trained, store):
    classifier = ObservationClassifier.load(trained, "cpu")
    study = PreparedStore(store).studies("test")[0]
    before = classifier.probabilities(study)["Edema"]
    classifier.temperatures.fill_(2.0)
    after = classifier.probabilities(study)["Edema"]
    assert np.log(after / (1 - after)) == pytest.approx(np.log(before / (1 - before)) / 2, abs=1e-4)


def test_observe_prints_probabilities_of_a_store(trained, store, capsys):
    main(["observe", str(trained), str(store), "--split", "val", "--device", "cpu"])
    printed = capsys.readouterr()
    for study in PreparedStore(store).studies("val"):
        assert f"\n{study.id}\n" in f"\n{printed.out}"
    assert printed.out.count("Pleural Effusion") == 4
    assert "4 studies, 0 rejected; research use, not for clinical diagnosis" in printed.out
    assert "trained on synthetic images: its probabilities say nothing about real ones" in printed.err


def test_observe_takes_images_and_leaves_out_bad_ones(trained, tmp_path, capsys):
    for name in ("good", "also-good"):
        Image.radial_gradient("L").save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    files = [str(tmp_path / f"{name}.png") for name in ("good", "bad", "also-good")]
    main(["observe", str(trained), *files, "--json", "--device", "cpu"])
    printed = capsys.readouterr()
    first, second = map(json.loads, printed.out.splitlines())
    assert (first["id"], second["id"]) == (files[0][:-4], files[2][:-4])
    assert first["notice"] == "research use, not for clinical diagnosis"
    assert first["trained_on"] == "synthetic images (phantom)"
    assert first["images"] == files[:1]
    assert tuple(first["observations"]) == OBSERVATIONS
    for values in first["observations"].values():
        assert values["above"] == (values["probability"] >= values["threshold"])
    assert f"rejected {files[1][:-4]}" in printed.err
    with pytest.raises(SystemExit, match="2"):
        main(["observe", str(trained), files[1]])


@pytest.mark.slow
def test_observe_takes_a_run_whose_drafts_have_the_same_probabilities(camanet, store, capsys):
    study = PreparedStore(store).studies("test")[0]
    (draft,) = load(camanet, "cpu").generate(study)
    main(["observe", str(camanet), str(store), "--split", "test", "--json", "--device", "cpu"])
    printed = capsys.readouterr()
    observed = json.loads(printed.out.splitlines()[0])
    assert observed["id"] == study.id
    for name, values in observed["observations"].items():
        assert values["probability"] == pytest.approx(draft.probabilities[name], abs=1e-3)
        assert values["threshold"] == 0.5
    assert observed["classifier_sha256"] == draft.run.sha256
    assert "its probabilities say nothing" in printed.err


# --- interruption ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(store, trained, tmp_path):
    """Killed in its second epoch."""
    settings = ObservationClassifierSettings(**TINY, threads=1, device="cpu")
    pretrain_until_killed("observation-classifier", store, tmp_path / "killed", settings, step=6)
    train_tiny(store, tmp_path / "killed", resume=True)
    for name in ("weights.safetensors", "observation_classifier.json"):
        assert (trained / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert {path.name for path in trained.iterdir()} == {
        path.name for path in (tmp_path / "killed").iterdir()
    }


def test_a_label_file_that_was_changed_is_not_resumed(store, tmp_path):
    labels = write_labels(tmp_path / "labels.csv", store, lambda *_: 1)
    train_tiny(store, tmp_path / "part", labels=str(labels), epochs=1)
    assert train_tiny(store, tmp_path / "part", labels=str(labels), epochs=1, resume=True)["finished"]
    write_labels(labels, store, lambda *_: 0)
    with pytest.raises(RadScribeError, match="labels_sha256 was .*, is "):
        train_tiny(store, tmp_path / "part", labels=str(labels), epochs=1, resume=True)


# --- faults ------------------------------------------------------------------------------------------------


def other_weights(path):
    weights = load_file(path / "weights.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, path / "weights.safetensors")


change = partial(change_fields, "observation_classifier.json")


def with_number(field, value):
    def apply(path):
        description = json.loads((path / "observation_classifier.json").read_text())
        description["observations"]["Edema"][field] = value
        (path / "observation_classifier.json").write_text(json.dumps(description))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_weights, "weights.safetensors' is not the file that was written: its sha256"),
        (with_number("threshold", 0.9), "observation_classifier.json' is not the file that was written"),
        (lambda path: (path / "part.json").write_text("{"), "part.json' is damaged"),
        (lambda path: (path / "weights.safetensors").unlink(), "cannot read .*weights.safetensors"),
    ],
    ids=["weights", "description", "part", "missing"],
)
def test_what_was_changed_is_refused(trained, tmp_path, damage, message):
    path = shutil.copytree(trained, tmp_path / "part")
    damage(path)
    with pytest.raises(RadScribeError, match=message):
        ObservationClassifier.load(path, "cpu")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, "weights.safetensors' cannot be read"),
        (drop_a_weight, "missing head.bias"),
        (lambda path: (path / "observation_classifier.json").write_text("{"), "damaged"),
        (change(transform={"crops": 3}), "is damaged .*crops"),
        (change(observations={}), "is damaged .*it has the observations"),
        (with_number("threshold", 2), "the threshold of Edema is 2"),
        (with_number("temperature", 0), "the temperature of Edema is 0"),
        (with_number("temperature", "1"), "the temperature of Edema is 1"),
        (change(architecture="test_byobnet"), "does not fit"),
    ],
    ids=["cut", "weight", "json", "transform", "observations", "threshold", "zero", "text", "architecture"],
)
def test_a_damaged_classifier_with_fitting_hashes(trained, tmp_path, damage, message):
    path = shutil.copytree(trained, tmp_path / "part")
    damage(path)
    rehash(path)
    with pytest.raises(RadScribeError, match=message):
        ObservationClassifier.load(path, "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "test_vit"}, r"takes views of \d+ pixels only, and not of 56.*--crop"),
        ({"learning_rate": 1e30}, "the loss is .* at step"),
        ({"section": "comparison"}, "no study of the train split .* section 'comparison'.*--section"),
    ],
    ids=["size", "loss", "section"],
)
def test_what_cannot_be_trained_leaves_nothing(store, tmp_path, options, message):
    with pytest.raises(RadScribeError, match=message):
        train_tiny(store, tmp_path / "part", **options)
    assert not (tmp_path / "part").exists()
