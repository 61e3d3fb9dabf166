"""The view classifier: that it tells frontal from lateral, what it leaves, where it is used, its faults."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tiny
import torch
from pretraining_faults import change_fields, cut_weights, drop_a_weight, pretrain_until_killed
from safetensors.torch import load_file, save_file
from tiny import tiny_config, tiny_store

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.files import sha256_of
from radscribe.parts.view_classifier import CLASSES, TRANSFORM, ViewClassifier, with_predicted_projections
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.settings import ViewClassifierSettings
from radscribe.pretraining.view_classifier import ViewClassifierTask
from radscribe.runs.config import override, save_config
from radscribe.runs.views import evaluation_batches
from radscribe.studies.images import read_view
from radscribe.studies.store import PreparedStore
from radscribe.studies.store_files import MANIFEST, PIXELS, STUDIES, content_hash
from radscribe.studies.study import PROJECTIONS, Study
from radscribe.training.data import TrainingBatches, TrainingSet
from radscribe.training.module import TrainingModule
from radscribe.training.train import train
from radscribe.vision.transforms import evaluation_view

pytestmark = pytest.mark.usefixtures("without_java")

UNKNOWN = PROJECTIONS.index("unknown")


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    return tiny_store(tmp_path_factory.mktemp("stores") / "phantom", studies=50, short_side=128)


@pytest.fixture(scope="module")
def store(store_path):
    return PreparedStore(store_path)


def train_tiny(store, out, *, resume=False, **options):
    usual = {"architecture": "test_resnet", "epochs": 4, "batch": 8, "learning_rate": 3e-3}
    settings = ViewClassifierSettings(**usual | {"threads": 1, "device": "cpu"} | options)
    return pretrain(ViewClassifierTask, store, out, settings, resume=resume, progress=False)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """The directory of a view classifier."""
    out = tmp_path_factory.mktemp("classifiers") / "views"
    train_tiny(store, out)
    return out


def store_with(store_path, out, projection: Callable[[str, str], str]) -> PreparedStore:
    """A copy of a store in which `projection`, of a view's split and true projection, says what is known."""
    shutil.copytree(store_path, out)
    split_of = {study.id: study.split for study in PreparedStore(store_path).studies()}
    records = [json.loads(line) for line in (out / STUDIES).read_text().splitlines()]
    for record in records:
        for view in record["views"]:
            view["projection"] = projection(split_of[record["id"]], view["projection"])
    (out / STUDIES).write_text("".join(json.dumps(record) + "\n" for record in records))
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["content_hash"] = content_hash(out)
    (out / MANIFEST).write_text(json.dumps(manifest))
    return PreparedStore(out)


def hidden(studies) -> list[Study]:
    """The studies with all projections unknown."""
    return [
        replace(study, views=tuple(replace(view, projection="unknown") for view in study.views))
        for study in studies
    ]


def projections_of(studies) -> list[str]:
    return [view.projection for study in studies for view in study.views]


# --- training ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_and_says_how_well(facts, store):
    assert facts["validation"].keys() == {"all", *CLASSES}
    assert min(facts["validation"].values()) > 0.95
    assert facts["store_content_hash"] == store.manifest["content_hash"]
    counted = projections_of(store.studies("train"))
    assert facts["views"]["train"] == {name: counted.count(name) for name in PROJECTIONS}


def test_the_directory_is_complete_and_says_what_it_is_for(trained):
    assert {path.name for path in trained.iterdir()} == {
        "weights.safetensors",
        "view_classifier.json",
        "part.json",
        "pretraining.json",
        "MODEL_CARD.md",
    }
    card = (trained / "MODEL_CARD.md").read_text()
    assert "research use, not for clinical diagnosis" in card
    assert "of lateral" in card


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(store, tmp_path):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        train_tiny(store, tmp_path / name, epochs=1, seed=seed)
    first, again, other = (
        load_file(tmp_path / name / "weights.safetensors") for name in ("first", "again", "other")
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.fixture
def rare(store_path, tmp_path):
    """A store of whose lateral training views three are known to be."""
    kept = iter(range(1000))
    return store_with(
        store_path,
        tmp_path / "store",
        lambda split, true: "unknown" if (split, true) == ("train", "lateral") and next(kept) > 2 else true,
    )


@pytest.mark.slow
def test_a_rare_projection_is_learnt(rare, tmp_path):
    facts = train_tiny(rare, tmp_path / "views", epochs=8)
    assert facts["views"]["train"]["lateral"] == 3
    assert facts["views"]["train"]["unknown"] > 10
    assert facts["validation"]["lateral"] > 0.95
    assert facts["validation"]["frontal"] > 0.95


@pytest.mark.slow
def test_a_rare_projection_counts_as_much(rare, tmp_path):
    """Where views show nothing, neither is more probable, however many there were of each."""
    (rare.path / PIXELS).write_bytes(bytes((rare.path / PIXELS).stat().st_size))
    train_tiny(rare, tmp_path / "views", epochs=8)
    black = torch.zeros(1, TRANSFORM.crop, TRANSFORM.crop, dtype=torch.uint8)
    probabilities = ViewClassifier.load(tmp_path / "views", "cpu").predict(black)
    assert probabilities[0].tolist() == pytest.approx([0.5, 0.5], abs=0.2)


def test_the_test_split_is_never_asked_for(store, tmp_path, monkeypatch):
    asked = []
    studies = PreparedStore.studies
    monkeypatch.setattr(
        PreparedStore, "studies", lambda self, split="all": asked.append(split) or studies(self, split)
    )
    train_tiny(store, tmp_path / "views", epochs=1)
    assert set(asked) == {"train", "val"}


@pytest.mark.parametrize("only", [None, "frontal"])
def test_what_cannot_be_measured_is_said(store_path, tmp_path, capsys, only):
    blind = store_with(
        store_path,
        tmp_path / "store",
        lambda split, true: "unknown" if split == "val" and true != only else true,
    )
    main(
        f"pretrain view-classifier {blind.path} --out {tmp_path / 'views'} --epochs 1 --threads 1 "
        "--architecture test_resnet --device cpu --no_progress".split()
    )
    printed, card = capsys.readouterr().out, (tmp_path / "views/MODEL_CARD.md").read_text()
    said = "no lateral view to measure on" if only else "the val split has no view whose projection is known"
    assert said in printed
    assert said in card


# --- use ---------------------------------------------------------------------------------------------------


def test_hidden_projections_are_found(trained, store):
    """Those of the test split, which it has never seen."""
    studies = store.studies("test")
    found = with_predicted_projections(hidden(studies), ViewClassifier.load(trained, "cpu"), 2)
    right = np.mean([a == b for a, b in zip(projections_of(found), projections_of(studies), strict=True)])
    assert right > 0.95
    assert [study.id for study in found] == [study.id for study in studies]


def test_what_is_known_stays_and_further_views_stay_unknown(trained, store):
    study = next(study for study in store.studies("train") if len(study.views) == 2)
    frontal, lateral = study.views
    wrong = replace(frontal, projection="lateral")
    blank = replace(lateral, projection="unknown")
    (found,) = with_predicted_projections(
        [replace(study, views=(wrong, blank, blank))], ViewClassifier.load(trained, "cpu"), 2
    )
    assert projections_of([found]) == ["lateral", "lateral", "unknown"]


def test_predictions_are_probabilities_whatever_stands_beside(trained, store):
    classifier = ViewClassifier.load(trained, "cpu")
    views = torch.stack(
        [
            evaluation_view(read_view(view, TRANSFORM.short_side).pixels, TRANSFORM)
            for study in store.studies("val")
            for view in study.views
        ]
    )
    together = classifier.predict(views)
    alone = torch.cat([classifier.predict(view.unsqueeze(0)) for view in views])
    assert together.shape == (len(views), 2)
    assert together.sum(dim=1) == pytest.approx(1, abs=1e-6)
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.fixture(scope="module")
def system(store):
    return tiny.system(tiny.config(), [study.report("findings") for study in store.studies("train")])


@pytest.mark.parametrize("classified", [False, True], ids=["as-known", "classified"])
def test_projections_reach_training_batches(store, system, trained, classified):
    studies = {study.id: study for study in store.studies("train")}
    data = tiny_config(store.path).data
    known = list(studies.values())
    if classified:
        known, data.view_classifier = hidden(known), str(trained)
    batches = TrainingBatches(TrainingSet.of(known, system, data, seed=0, device="cpu"), 4, workers=0)
    seen = []
    for batch in batches:
        assert batch.projections.dtype == torch.int64
        assert (batch.projections[~batch.view_mask] == UNKNOWN).all()
        for study, row, mask in zip(batch.study_ids, batch.projections, batch.view_mask, strict=True):
            seen.append([PROJECTIONS[number] for number in row[mask]] == projections_of([studies[study]]))
    assert len(seen) == len(studies)
    assert np.mean(seen) > 0.95 if classified else all(seen)


def test_projections_reach_evaluation_batches_and_the_device(store, system):
    config = tiny_config(store.path)
    studies = hidden(store.studies("val")[:1]) + store.studies("val")[1:]
    (batch,) = evaluation_batches(studies, config.data, batch_size=100, workers=0)
    expected = [[PROJECTIONS.index(view.projection) for view in study.views] for study in studies]
    assert [
        row[mask].tolist() for row, mask in zip(batch.projections, batch.view_mask, strict=True)
    ] == expected
    assert (batch.projections[~batch.view_mask] == UNKNOWN).all()

    batches = TrainingBatches(TrainingSet.of(studies, system, config.data, seed=0), 4, workers=0)
    module = TrainingModule(system, config, batches, {}, advice="")
    moved = module.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.study_ids == batch.study_ids
    for name in ("views", "view_mask", "tokens", "labels", "projections"):
        assert getattr(moved, name).device.type == "meta"
    without = module.transfer_batch_to_device(replace(batch, projections=None), torch.device("meta"), 0)
    assert without.projections is None


@pytest.mark.slow
def test_a_run_trains_with_it(store, trained, tmp_path):
    config = override(tiny_config(store.path, epochs=1), {"data": {"view_classifier": str(trained)}})
    run = train(config, tmp_path / "run", progress=False)
    assert run.read_facts()["finished"] is True

    # Whoever goes on with the run has the same projections, or is told.
    assert json.loads(run.parts.read_text()) == {
        "view_classifier": {
            "kind": "view-classifier",
            "path": str(trained),
            "content_hash": ViewClassifier.content_hash(trained),
        }
    }
    train(config, run.path, resume=True, progress=False)
    other = tmp_path / "other"
    train_tiny(store, other, epochs=1)
    config.data.view_classifier = str(other)
    save_config(config, run.config)
    with pytest.raises(RadScribeError, match=r"view-classifier in '.*other' is not the one that the run was"):
        train(config, run.path, resume=True, progress=False)
    (other / "weights.safetensors").unlink()
    with pytest.raises(RadScribeError, match="there is no view classifier"):
        train(config, tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_run_of_an_earlier_version_refuses_another_classifier(store, trained, tmp_path):
    """It has no parts.json, and keeps the hash of the classifier's weights in run.json."""
    views = old_directory(trained, tmp_path / "views")
    config = override(tiny_config(store.path, epochs=1), {"data": {"view_classifier": str(views)}})
    run = train(config, tmp_path / "run", progress=False)
    run.parts.unlink()
    with pytest.raises(RadScribeError, match="does not say which view classifier"):
        train(config, run.path, resume=True, progress=False)
    run.update_facts(view_classifier_sha256=sha256_of(views / "weights.safetensors"))
    train(config, run.path, resume=True, progress=False)
    other_weights(views)
    with pytest.raises(RadScribeError, match=r"view-classifier in '.*views' is not the one that the run was"):
        train(config, run.path, resume=True, progress=False)


@pytest.mark.slow
def test_check_reads_the_parts_of_a_run(store, trained, tmp_path, capsys):
    views = shutil.copytree(trained, tmp_path / "views")
    config = override(tiny_config(store.path, epochs=1), {"data": {"view_classifier": str(views)}})
    run = train(config, tmp_path / "run", progress=False)
    main(["check", str(run.path)])
    assert "view_classifier is in" in capsys.readouterr().out
    shutil.rmtree(views)
    main(["check", str(run.path)])
    assert "no longer in" in capsys.readouterr().out
    train_tiny(store, views, epochs=1)
    with pytest.raises(SystemExit):
        main(["check", str(run.path)])
    assert "is not the one that the run was trained with" in "".join(capsys.readouterr())


# --- the part ----------------------------------------------------------------------------------------------


def old_directory(trained, path):
    """What earlier versions wrote: no part.json and no pretraining.json."""
    shutil.copytree(trained, path)
    change(facts=json.loads((path / "pretraining.json").read_text()))(path)
    (path / "part.json").unlink()
    (path / "pretraining.json").unlink()
    return path


def test_the_part_says_what_it_is_and_where_it_came_from(trained, store):
    part = json.loads((trained / "part.json").read_text())
    assert (part["kind"], part["format"], part["split"]) == ("view-classifier", 1, "train")
    assert part["store_content_hash"] == store.manifest["content_hash"]
    assert part["settings"]["architecture"] == "test_resnet"
    assert part["files"] == {
        name: hashlib.sha256((trained / name).read_bytes()).hexdigest()
        for name in ("weights.safetensors", "view_classifier.json")
    }


def test_an_old_directory_loads(trained, store, tmp_path):
    old = old_directory(trained, tmp_path / "old")
    views = [view for study in store.studies("val") for view in study.views]
    expected = ViewClassifier.load(trained, "cpu").projections(views)
    assert ViewClassifier.load(old, "cpu").projections(views) == expected


def test_the_content_hash_is_of_the_content(trained, store, tmp_path):
    """A copy has the same one, wherever it is; another training has another."""
    copy = shutil.copytree(trained, tmp_path / "copy")
    assert ViewClassifier.content_hash(copy) == ViewClassifier.content_hash(trained)
    train_tiny(store, tmp_path / "other", epochs=1)
    assert ViewClassifier.content_hash(tmp_path / "other") != ViewClassifier.content_hash(trained)


def other_weights(path):
    """Weights that would load, but are not those that were written."""
    weights = load_file(path / "weights.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, path / "weights.safetensors")


def change_part(**fields):
    def apply(path):
        part = json.loads((path / "part.json").read_text())
        (path / "part.json").write_text(json.dumps(part | fields))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_weights, "weights.safetensors' is not the file that was written: its sha256"),
        (lambda path: change(seed=1)(path), "view_classifier.json' is not the file that was written"),
        (lambda path: (path / "part.json").write_text("{"), "part.json' is damaged"),
        (change_part(kind="masked-autoencoder"), "is of kind masked-autoencoder, not view-classifier"),
        (change_part(format=2), "has format 2, and this RadScribe reads 1"),
        (change_part(split=None), "does not describe a view-classifier"),
        (change_part(files={}), "does not describe a view-classifier"),
        (change_part(content_hash="0"), "its hashes do not fit each other"),
    ],
    ids=["weights", "description", "json", "kind", "format", "split", "files", "hash"],
)
def test_what_was_changed_is_refused(trained, tmp_path, damage, message):
    shutil.copytree(trained, tmp_path / "views")
    damage(tmp_path / "views")
    with pytest.raises(RadScribeError, match=message):
        ViewClassifier.load(tmp_path / "views", "cpu")


# --- interruption ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(store, tmp_path):
    """Killed in its second epoch."""
    train_tiny(store, tmp_path / "whole", epochs=3)
    settings = ViewClassifierSettings(
        architecture="test_resnet", epochs=3, batch=8, learning_rate=3e-3, threads=1, device="cpu"
    )
    pretrain_until_killed("view-classifier", store.path, tmp_path / "killed", settings, step=12)
    train_tiny(store, tmp_path / "killed", epochs=3, resume=True)
    first, second = ((tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert first.read_bytes() == second.read_bytes()
    whole, killed = ({path.name for path in (tmp_path / name).iterdir()} for name in ("whole", "killed"))
    assert whole == killed


def test_resuming_what_was_begun_otherwise(store, trained, facts):
    with pytest.raises(RadScribeError, match="batch was 8, is 9; architecture was test_resnet, is resnet18"):
        train_tiny(store, trained, batch=9, architecture="resnet18", resume=True)
    assert train_tiny(store, trained, resume=True) == facts


# --- the command line --------------------------------------------------------------------------------------


def test_the_command_trains_and_says_where_it_is(store, tmp_path, capsys):
    arguments = ["pretrain", "view-classifier", str(store.path), "--out", str(tmp_path / "views")]
    arguments += ["--architecture", "test_resnet", "--epochs", "1", "--threads", "1", "--no-progress"]
    main(arguments)
    out = capsys.readouterr().out
    assert "recognised" in out
    assert "of lateral" in out
    assert f"view classifier: {tmp_path / 'views'}; research use, not for clinical diagnosis" in out
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "already" in capsys.readouterr().err


def test_help_names_it_and_its_options(capsys):
    for arguments, named in (
        (["--help"], "pretrain view-classifier"),
        (["pretrain", "--help"], "pretrain view-classifier"),
        (["pretrain", "view-classifier", "--help"], "--architecture"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
        # argparse also breaks lines at hyphens.
        assert named in " ".join(capsys.readouterr().out.split()).replace("- ", "-")


# --- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", CLASSES)
def test_a_projection_that_nobody_has(store_path, tmp_path, missing):
    lacking = store_with(
        store_path, tmp_path / "store", lambda split, true: "unknown" if true == missing else true
    )
    with pytest.raises(RadScribeError, match=f"no view that is known to be {missing}"):
        train_tiny(lacking, tmp_path / "views")
    assert not (tmp_path / "views").exists()


def test_an_existing_directory(store, trained):
    with pytest.raises(RadScribeError, match=r"something in .* already.*--out"):
        train_tiny(store, trained)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"batch": 0}, "at least 1"),
        ({"learning_rate": 1e30}, "the loss is .* at step .*such as --learning_rate 1e.29"),
        ({"architecture": "test_resnt"}, "Did you mean 'test_resnet'"),
        ({"architecture": "test_vit"}, "one size only.*resnet18"),
    ],
    ids=["epochs", "batch", "loss", "architecture", "size"],
)
def test_wrong_options(store, tmp_path, options, message):
    with pytest.raises(RadScribeError, match=message):
        train_tiny(store, tmp_path / "views", **options)
    assert not (tmp_path / "views").exists()


def test_no_classifier_there(store, system, tmp_path):
    data = override(tiny_config(store.path), {"data": {"view_classifier": str(tmp_path)}}).data
    with pytest.raises(RadScribeError, match=r"no view classifier in .*radscribe pretrain view-classifier"):
        TrainingSet.of(store.studies("train"), system, data, seed=0)


change = partial(change_fields, "view_classifier.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, r"weights.safetensors' cannot be read"),
        (lambda path: (path / "weights.safetensors").unlink(), "it has no weights.safetensors"),
        (drop_a_weight, "missing head.bias"),
        (lambda path: (path / "view_classifier.json").write_text("{"), "cannot read .*view_classifier.json"),
        (change(transform={"crops": 3}), "cannot read .*view_classifier.json.*crops"),
        (change(classes=["lateral", "frontal"]), "tells apart lateral, frontal, not frontal, lateral"),
        (change(architecture="test_byobnet"), "does not fit"),
    ],
    ids=["cut", "no-weights", "weight", "json", "transform", "classes", "architecture"],
)
def test_a_damaged_classifier(trained, tmp_path, damage, message):
    """Without part.json, which would say of any change that it is one."""
    shutil.copytree(trained, tmp_path / "views")
    (tmp_path / "views" / "part.json").unlink()
    damage(tmp_path / "views")
    with pytest.raises(RadScribeError, match=message):
        ViewClassifier.load(tmp_path / "views", "cpu")
