"""Runs that are stopped, damaged or changed on the way, and go on as their messages advise."""

import dataclasses
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from same_runs import assert_equal_runs
from tiny import tiny_config, tiny_store

from radscribe.cli import main
from radscribe.errors import InterruptionError, RadScribeError
from radscribe.interruption import only_training
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.settings import ViewClassifierSettings
from radscribe.pretraining.view_classifier import ViewClassifierTask
from radscribe.runs.config import save_config
from radscribe.runs.run_directory import RunDirectory
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore
from radscribe.training.data import TrainingSet
from radscribe.training.module import TrainingModule
from radscribe.training.train import _warn_of_unknown_projections, train

pytestmark = pytest.mark.usefixtures("without_java")


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """A run that was never interrupted."""
    return train(tiny_config(store), tmp_path_factory.mktemp("runs") / "whole", progress=False)


def at_step(monkeypatch, position, act):
    """Act before the step of the batch at `position`, once."""
    step, left = TrainingModule.training_step, [act]

    def acting_step(self, batch, batch_idx):
        if self.batches.position == position and left:
            left.pop()(self)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", acting_step)


def interrupt(_):
    os.kill(os.getpid(), signal.SIGINT)


def typed(message, before):
    """The command that ends a message, without `radscribe`."""
    words = shlex.split(str(message).partition(before)[2])
    assert words[0] == "radscribe"
    return words[1:]


def copy_of(run, path):
    return RunDirectory(shutil.copytree(run.path, path))


@pytest.mark.slow
def test_ctrl_c_saves_the_step_and_says_how_to_go_on(store, whole, tmp_path, monkeypatch):
    at_step(monkeypatch, 10, interrupt)
    with pytest.raises(InterruptionError, match=r"up to step 10 \(in epoch 2 of 2\) is saved in") as stopped:
        train(tiny_config(store), tmp_path / "run", progress=False)
    assert stopped.value.exit_code == 130
    assert RunDirectory(tmp_path / "run").read_facts()["finished"] is False
    main([*typed(stopped.value, "Go on: "), "--no_progress"])
    assert_equal_runs(whole, RunDirectory(tmp_path / "run"))


@pytest.mark.slow
def test_ctrl_c_twice_stops_at_once(store, whole, tmp_path, monkeypatch, capsys):
    """Before any checkpoint, so that the command of the message begins the run again."""
    at_step(monkeypatch, 2, lambda module: (interrupt(module), interrupt(module)))
    with pytest.raises(InterruptionError, match=r"before the first checkpoint") as stopped:
        train(tiny_config(store), tmp_path / "run", progress=False)
    command = typed(stopped.value, "Begin again: ")
    at_step(monkeypatch, 3, lambda module: (interrupt(module), interrupt(module)))
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*command, "--no_progress"])
    assert end.value.code == 130
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("radscribe: stopped before the first checkpoint")
    main([*command, "--no_progress"])
    assert_equal_runs(whole, RunDirectory(tmp_path / "run"))


def test_ctrl_c_before_the_training_leaves_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setattr("radscribe.training.train.check_fits", lambda *_: interrupt(None))
    with pytest.raises(InterruptionError, match="nothing was written"):
        train(tiny_config(store), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_the_checkpoint_before_a_damaged_one_is_taken(store, whole, tmp_path, capsys, damage):
    run = copy_of(whole, tmp_path / "run")
    if damage == "missing":
        run.checkpoint.unlink()
    else:
        run.checkpoint.write_bytes(run.checkpoint.read_bytes()[: 0 if damage == "empty" else 5000])
    train(tiny_config(store), run.path, resume=True, progress=False)
    said = capsys.readouterr().err
    assert "previous.ckpt" in said
    assert ("is missing" if damage == "missing" else "is damaged") in said
    assert_equal_runs(whole, run)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_and_its_advice(store, tmp_path, monkeypatch):
    """The command of the message is typed as it is; what it changes holds, and is on record."""
    config = tiny_config(store, decay=1.0, checkpoint_every=3)
    at_step(monkeypatch, 9, lambda module: [p.data.fill_(torch.nan) for p in module.system.parameters()])
    with pytest.raises(RadScribeError, match="the loss is nan at step 8") as stopped:
        train(config, tmp_path / "run", progress=False)
    main([*typed(stopped.value, "lower rates: "), "--no_progress"])
    run = RunDirectory(tmp_path / "run")
    facts = run.read_facts()
    assert facts["finished"] is True
    changed = {change["field"]: (change["before"], change["after"]) for change in facts["changes"]}
    assert changed == {
        "training.learning_rate": (1e-3, 1e-4),
        "training.backbone_learning_rate": (1e-3, 1e-4),
        "training.clip_norm": (0.0, 1.0),
    }
    assert {change["step"] for change in facts["changes"]} == {7}
    assert run.load_config().training.learning_rate == 1e-4
    assert "training.clip_norm from 0.0 to 1.0 after step 7" in run.model_card.read_text()
    rates = [json.loads(line).get("learning_rate") for line in run.log.read_text().splitlines()]
    assert [rate for rate in rates if rate] == pytest.approx([1e-3, 1e-4])
    (state,) = torch.load(run.checkpoint, weights_only=True)["optimizer_states"]
    assert {group["lr"] for group in state["param_groups"]} == {1e-4}


def test_a_finished_run_gets_more_epochs(whole, tmp_path):
    run = copy_of(whole, tmp_path / "run")
    words = ["train", "r2gen-cmn/phantom", "--out", str(run.path), "--resume", "--no_progress"]
    main([*words, "--training.epochs", "3"])
    facts = run.read_facts()
    assert facts["epochs_trained"] == 3
    assert [change["field"] for change in facts["changes"]] == ["training.epochs"]
    with pytest.raises(SystemExit):
        main([*words, "--training.epochs", "2"])


@pytest.mark.slow
def test_training_ends_in_few_lines(whole, capsys):
    words = ["train", "r2gen-cmn/phantom", "--out", str(whole.path), "--resume", "--no_progress"]
    main(words)
    short = capsys.readouterr().out
    assert len(short.splitlines()) <= 25
    assert "baseline" in short
    assert "metrics.txt" in short
    main([*words, "--full"])
    assert whole.scores.read_text() in capsys.readouterr().out


def test_run_and_store_are_moved(whole, store, tmp_path):
    """Together, or the run alone."""
    together = tmp_path / "together"
    shutil.copytree(store, together / "stores" / "phantom")
    train_set = PreparedStore(store)
    run = copy_of(whole, together / "runs" / "whole")
    facts = run.read_facts()
    assert facts["store"] == str(store.absolute())
    facts["store_relative"] = "../../stores/phantom"
    run.facts.write_text(json.dumps(facts))
    assert run.find_store() == store  # it is still there
    config = run.load_config()
    config.store = "/nowhere/phantom"
    save_config(config, run.config)
    assert run.open_store().path == together / "stores" / "phantom"
    assert run.open_store().manifest["content_hash"] == train_set.manifest["content_hash"]
    shutil.rmtree(together / "stores")
    with pytest.raises(RadScribeError, match="the store '/nowhere/phantom' of the run .* is gone"):
        run.find_store()


HOLDING = """
import sys, time
from pathlib import Path
from radscribe.runs.config import save_config
from radscribe.training.data import TrainingSet
from radscribe.interruption import only_training
with only_training(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_two_trainings_do_not_write_to_one_directory(store, tmp_path):
    out = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, out], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RadScribeError, match="another process is training in"):
            train(tiny_config(store), out, progress=False)
    finally:
        holder.kill()
        holder.wait()
    with only_training(out):  # a killed process holds nothing
        pass


def test_nothing_can_be_written_from_the_first_file_on(store, tmp_path):
    """As on a full disk, for a run and for a part of one."""
    larger = tmp_path / "larger"
    prepare("phantom", larger, short_side=128, studies=8, workers=1, progress=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(RadScribeError, match=r"cannot .*File too large.*go on: radscribe train"):
            train(tiny_config(store), tmp_path / "run", progress=False)
        settings = ViewClassifierSettings(architecture="test_resnet", epochs=1, threads=1, device="cpu")
        with pytest.raises(RadScribeError, match=r"cannot .*File too large.*go on: radscribe pretrain"):
            pretrain(ViewClassifierTask, PreparedStore(larger), tmp_path / "views", settings, progress=False)
        assert not (tmp_path / "views").exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_unknown_projections_are_said_once(tmp_path, capsys):
    """To a system that learns from them, with what to do about it."""
    store = tiny_store(tmp_path / "store", studies=8)
    studies = [
        dataclasses.replace(
            study, views=tuple(dataclasses.replace(view, projection="unknown") for view in study.views)
        )
        for study in PreparedStore(store).studies("train")
    ]
    config = tiny_config(store)
    _warn_of_unknown_projections(TrainingSet(studies, [], torch.zeros(0).numpy(), config.data, 0), config)
    (line,) = capsys.readouterr().err.splitlines()
    assert "have no known projection" in line
    assert "--data.view_classifier" in line
