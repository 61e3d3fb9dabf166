"""Training runs: what they leave behind, that they resume exactly, and what stops them."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from same_runs import assert_equal_runs
from tiny import tiny_config, tiny_store

import radscribe
from radscribe.errors import RadScribeError
from radscribe.pages.run_page import write_run_page
from radscribe.recipes import RECIPES
from radscribe.runs.config import load_config, override, save_config, to_yaml
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.scoring import score_run
from radscribe.studies.store import PreparedStore
from radscribe.systems.registry import SYSTEMS
from radscribe.text.language_model_files import LanguageModelFiles
from radscribe.training.data import TrainingBatches, TrainingSet
from radscribe.training.train import train

pytestmark = pytest.mark.usefixtures("without_java")


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    return train(tiny_config(store), tmp_path_factory.mktemp("runs") / "run", progress=False)


@pytest.mark.slow
def test_a_run_directory_is_complete(run):
    for path in (run.config, run.vocabulary, run.weights, run.facts, run.log, run.metrics, run.checkpoint):
        assert path.is_file(), path
    assert list(run.tensorboard.glob("events.*"))
    assert "not for clinical diagnosis" in run.model_card.read_text()
    facts = run.read_facts()
    assert facts["finished"] is True
    assert facts["best"]["BLEU-4"] >= 0


def test_the_log_has_losses_and_validations(run):
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [line["validation"]["BLEU-4"] for line in lines if "validation" in line]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]


def test_the_test_split_is_scored_with_baselines(run, store):
    metrics = json.loads(run.metrics.read_text())
    assert {"system", "constant report", "nearest neighbour"} == set(metrics["scores"])
    assert metrics["provenance"]["studies"] == len(PreparedStore(store).studies("test"))
    drafts = [json.loads(line) for line in run.drafts("test").read_text().splitlines()]
    assert {draft["id"] for draft in drafts} == {study.id for study in PreparedStore(store).studies("test")}


def test_a_loaded_run_drafts_what_was_scored_and_needs_nothing_else(run, store, tmp_path):
    moved = tmp_path / "moved"
    subprocess.run(["cp", "-r", run.path, moved], check=True)
    (moved / "checkpoints" / "last.ckpt").unlink()
    studies = PreparedStore(store).studies("test")
    drafts = list(radscribe.load(moved, device="cpu").generate(studies))
    scored = [json.loads(line) for line in run.drafts("test").read_text().splitlines()]
    assert [(draft.id, draft.text) for draft in drafts] == [(line["id"], line["text"]) for line in scored]
    assert [draft.logprob for draft in drafts] == pytest.approx(
        [line["logprob"] for line in scored], abs=1e-3
    )
    for draft in drafts:
        assert sum(draft.token_logprobs) == pytest.approx(draft.logprob, abs=1e-4)


def test_scoring_again_gives_the_same_scores(run, store):
    evaluation, _ = score_run(run, PreparedStore(store), "test", progress=False, meteor=False)
    kept = json.loads(run.metrics.read_text())["scores"]["system"]["BLEU-4"]["value"]
    assert evaluation.rows["system"].scores["BLEU-4"].value == pytest.approx(kept, abs=1e-9)


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from radscribe.runs.config import load_config
from radscribe.training.module import TrainingModule
from radscribe.training.train import train

config, out, kill_at = load_config(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
step = TrainingModule.training_step
def killing_step(self, batch, batch_idx):
    if self.batches.position == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
TrainingModule.training_step = killing_step
train(config, out, resume="--resume" in sys.argv, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "checkpoint_every", "kills", "accumulate"),
    [
        ("r2gen-cmn/phantom", 1000, [10], 1),
        ("r2gen-cmn/phantom", 3, [5, 9], 1),
        ("r2gen-cmn/phantom", 2, [11], 2),
        ("r2gen-gpt/phantom", 3, [9], 1),
        ("camanet/phantom", 3, [9], 1),
    ],
    ids=["epoch", "within-epoch-twice", "accumulating", "language-model", "shares-of-studies"],
)
def test_a_killed_run_resumes_to_the_same_bits(store, tmp_path, recipe, checkpoint_every, kills, accumulate):
    """SIGKILL in the middle of an epoch, then --resume, equals a run that was never interrupted."""
    config = tiny_config(store, recipe, checkpoint_every=checkpoint_every, accumulate=accumulate)
    whole = train(config, tmp_path / "whole", progress=False)

    save_config(config, tmp_path / "config.yaml")
    killed = RunDirectory(tmp_path / "killed")
    for number, position in enumerate(kills):
        resume = ["--resume"] if number else []
        arguments = [tmp_path / "config.yaml", killed.path, str(position), *resume]
        process = subprocess.run([sys.executable, "-c", KILLED_RUN, *arguments], capture_output=True)
        assert process.returncode == -signal.SIGKILL, process.stderr.decode()
        assert killed.read_facts()["finished"] is False
    train(config, killed.path, resume=True, progress=False)
    assert_equal_runs(whole, killed)


@pytest.mark.slow
def test_kill_from_outside_at_any_moment(store, tmp_path):
    """The same with a kill that the process does not see coming, through the command line."""
    config = tiny_config(store, checkpoint_every=2)
    whole = train(config, tmp_path / "whole", progress=False)
    save_config(config, tmp_path / "config.yaml")
    arguments = [sys.executable, "-c", KILLED_RUN, tmp_path / "config.yaml", tmp_path / "killed", "-1"]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    killed = RunDirectory(tmp_path / "killed")
    while not killed.checkpoint.is_file():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    train(config, killed.path, resume=True, progress=False)
    assert_equal_runs(whole, killed)


class TestRefusals:
    def test_an_existing_run(self, run, store):
        with pytest.raises(RadScribeError, match="there is a run .* already.*--resume"):
            train(tiny_config(store), run.path, progress=False)

    def test_resuming_nothing(self, store, tmp_path):
        with pytest.raises(RadScribeError, match="no run to resume"):
            train(tiny_config(store), tmp_path / "none", resume=True, progress=False)

    def test_resuming_with_another_configuration(self, run, store):
        with pytest.raises(RadScribeError, match="another configuration"):
            train(tiny_config(store, batch_size=8), run.path, resume=True, progress=False)

    def test_resuming_on_a_changed_store(self, run, tmp_path):
        """The store that it learnt is at neither of the two places where it is looked for."""
        moved = tmp_path / "below" / "runs" / "moved"
        moved.parent.mkdir(parents=True)
        subprocess.run(["cp", "-r", run.path, moved], check=True)
        other = tiny_store(tmp_path / "other", studies=30)
        config = load_config(moved / "config.yaml")
        config.store = str(other)
        before = (moved / "config.yaml").read_text()
        with pytest.raises(RadScribeError, match="has changed since the run began"):
            train(config, moved, resume=True, progress=False)
        assert (moved / "config.yaml").read_text() == before

    def test_no_store(self, tmp_path):
        with pytest.raises(RadScribeError, match="needs a prepared store.*radscribe prepare"):
            train(tiny_config(""), tmp_path / "run", progress=False)

    def test_a_section_that_nobody_has(self, store, tmp_path):
        config = override(tiny_config(store), {"data": {"section": "comparison"}})
        with pytest.raises(RadScribeError, match="has a section 'comparison'"):
            train(config, tmp_path / "run", progress=False)

    def test_a_loss_that_is_not_finite(self, store, tmp_path):
        config = tiny_config(store, learning_rate=1e30, backbone_learning_rate=1e30)
        with pytest.raises(RadScribeError, match="the loss is .* at step .*studies phantom-"):
            train(config, tmp_path / "run", progress=False)

    @pytest.mark.parametrize(
        ("file", "message"),
        [
            ("weights.safetensors", "no weights.safetensors"),
            ("vocabulary.json", "cannot read vocabulary"),
            ("config.yaml", "no run directory"),
        ],
    )
    def test_a_part_is_missing(self, run, tmp_path, file, message):
        moved = tmp_path / "moved"
        subprocess.run(["cp", "-r", run.path, moved], check=True)
        (moved / file).unlink()
        with pytest.raises(RadScribeError, match=message):
            radscribe.load(moved)

    def test_weights_are_cut_short(self, run, tmp_path):
        moved = tmp_path / "moved"
        subprocess.run(["cp", "-r", run.path, moved], check=True)
        whole = (moved / "weights.safetensors").read_bytes()
        (moved / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RadScribeError, match=r"weights.safetensors' is damaged: it cannot be read"):
            radscribe.load(moved)

    def test_weights_do_not_fit(self, run, tmp_path):
        moved = tmp_path / "moved"
        subprocess.run(["cp", "-r", run.path, moved], check=True)
        text = (moved / "config.yaml").read_text()
        (moved / "config.yaml").write_text(text.replace("memory_size: 24", "memory_size: 25"))
        with pytest.raises(RadScribeError, match=r"network.memories.0.matrix is \(24, 32\), not \(25, 32\)"):
            radscribe.load(moved)

    def test_nothing_can_be_written_any_more(self, store, run, tmp_path):
        """As on a full disk: the run stops with a clear error, and goes on to the same end once it can."""
        config = tiny_config(store)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Weights fit, checkpoints do not.
        limit = (run.weights.stat().st_size + run.checkpoint.stat().st_size) // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(RadScribeError, match=r"cannot write .*last.ckpt.*--resume"):
                train(config, tmp_path / "run", progress=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list((tmp_path / "run").rglob("*.tmp"))


def test_batches_depend_on_seed_and_number_alone(store):
    config = tiny_config(store)
    studies = PreparedStore(store).studies("train")
    labels = np.zeros((len(studies), 14), dtype=np.float32)
    training_set = TrainingSet(studies, [[0, 1, 0]] * len(studies), labels, config.data, seed=3)

    def batches(position, epochs):
        loader = TrainingBatches(training_set, 4, workers=0)
        loader.position = position
        for _ in range(epochs):
            yield from loader

    whole = list(batches(0, 2))
    resumed = list(batches(5, 2))
    assert [batch.study_ids for batch in resumed] == [batch.study_ids for batch in whole[5:]]
    assert all(torch.equal(ours.views, theirs.views) for ours, theirs in zip(resumed, whole[5:], strict=True))
    per_epoch = len(whole) // 2
    orders = [
        [study for batch in part for study in batch.study_ids]
        for part in (whole[:per_epoch], whole[per_epoch:])
    ]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(study.id for study in studies)
    assert orders[0] != orders[1]


def test_workers_change_nothing(store):
    config = tiny_config(store)
    studies = PreparedStore(store).studies("train")[:8]
    labels = np.zeros((8, 14), dtype=np.float32)
    training_set = TrainingSet(studies, [[0, 1, 0]] * 8, labels, config.data, seed=3)
    alone, helped = (list(TrainingBatches(training_set, 4, workers)) for workers in (0, 1))
    assert all(torch.equal(a.views, b.views) for a, b in zip(alone, helped, strict=True))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_round_trips(name, tmp_path):
    config = RECIPES[name].build()
    assert config.recipe == name
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert to_yaml(load_config(tmp_path / "config.yaml")) == to_yaml(config)


def test_there_are_recipes_for_every_system():
    assert {name.split("/")[0] for name in RECIPES} == set(SYSTEMS)
    assert len(RECIPES) == 187


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"epoch": 3}}, "no field 'training.epoch'.*training.epochs"),
        ({"training": {"epochs": "many"}}, "training.epochs needs a whole number, not 'many'"),
        ({"trainin": {"epochs": 3}}, "trainin"),
        ({"system": {"top_k": 9999}}, "top_k 9999"),
        ({"decoding": {"method": "beams"}}, "needs one of beam, greedy, sample"),
        ({"training": {"betas": [0.9]}}, "needs 2 values"),
        ({"data": {"transform": {"crop": 999}}}, "crop 999"),
    ],
)
def test_wrong_fields_are_one_clear_line(values, message):
    with pytest.raises(RadScribeError, match=message) as caught:
        override(RECIPES["r2gen-cmn/phantom"].build(), values)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("clip", [{}, {"clip_value": 0.1}, {"clip_norm": 1.0}], ids=str)
def test_bf16_trains(store, tmp_path, clip):
    config = tiny_config(store, epochs=1, precision="bf16-mixed", **clip)
    run = train(config, tmp_path / "run", progress=False)
    assert run.read_facts()["finished"] is True
    assert all(tensor.dtype != torch.bfloat16 for tensor in load_file(run.weights).values())


@pytest.mark.slow
def test_released_schedule_and_clipping(store, tmp_path):
    config = tiny_config(store, epochs=3, decay=0.5, decay_every=2, clip_value=0.1, learning_rate=1e-3)
    run = train(config, tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    rates = {line["epoch"]: line["learning_rate"] for line in lines if "loss" in line}
    assert rates[2] == pytest.approx(5e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("field", "order"), [("clip_value", torch.inf), ("clip_norm", 2.0)])
def test_gradients_are_clipped(store, tmp_path, monkeypatch, field, order):
    """What reaches the optimiser is within the bound, and the bound is felt."""
    sizes = []

    def watching_step(self, closure):
        loss = closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        sizes.append(torch.cat([gradient.flatten() for gradient in gradients]).norm(order).item())
        return loss

    monkeypatch.setattr(torch.optim.Adam, "step", watching_step)
    train(tiny_config(store, epochs=1, **{field: 0.01}), tmp_path / "run", progress=False)
    assert max(sizes) <= 0.01 * 1.001
    assert max(sizes) > 0.009


@pytest.mark.slow
def test_training_warns_where_most_maps_are_empty(store, tmp_path, capsys):
    """CAMANet's printed softmax predicts nothing at first: one line an epoch, and the share in the log."""
    config = override(tiny_config(store, "camanet/phantom"), {"system": {"classifier": "softmax"}})
    config.store = str(store)
    run = train(config, tmp_path / "run", progress=False)
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("radscribe: ")]
    assert [warning.split(":")[1] for warning in warnings] == [" epoch 1", " epoch 2"]
    assert all("--system.classifier sigmoid" in warning for warning in warnings)
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    shares = [line["shares"]["empty_vdm"] for line in lines if "shares" in line]
    assert len(shares) == 2
    assert all(0.5 < share <= 1 for share in shares)


def test_early_stopping(store, tmp_path):
    config = tiny_config(store, epochs=6, patience=1, learning_rate=1e-30, backbone_learning_rate=0.0)
    run = train(config, tmp_path / "run", progress=False)
    assert run.read_facts()["epochs_trained"] < 6


class TestLanguageModel:
    """Runs whose system writes with a frozen language model, which is not in them."""

    @pytest.fixture(scope="class")
    def gpt(self, store, tmp_path_factory):
        config = tiny_config(
            store,
            "r2gen-gpt/phantom",
            epochs=1,
            optimizer="adamw",
            schedule="cosine",
            select_by="0.5 BLEU-4 + 0.5 CIDEr",
        )
        config.data.protocol = "r2gengpt"
        return train(config, tmp_path_factory.mktemp("runs") / "gpt", progress=False)

    def moved(self, gpt, tmp_path):
        """A copy of the run, and of the language model that it then names."""
        config = gpt.load_config()
        model = Path(shutil.copytree(config.system.language_model.name, tmp_path / "model"))
        moved = RunDirectory(shutil.copytree(gpt.path, tmp_path / "moved"))
        config.system.language_model.name = str(model)
        save_config(config, moved.config)
        return moved, model

    def test_its_weights_are_neither_in_the_run_nor_in_the_checkpoint(self, gpt):
        state = torch.load(gpt.checkpoint, weights_only=True)["state_dict"]
        kept = load_file(gpt.weights)
        assert {f"system.{name}" for name in kept} == state.keys()
        assert not any("language_model" in name for name in kept)
        assert {name.split(".")[0] for name in kept} == {"backbone", "visual_projection", "visual_norm"}

    def test_the_run_says_which_one_it_was(self, gpt):
        record = json.loads(gpt.language_model.read_text())
        name = gpt.load_config().system.language_model.name
        assert record["name"] == name
        assert len(record["sha256"]) == 64

    def test_it_was_chosen_and_scored_as_asked(self, gpt):
        best = gpt.read_facts()["best"]["0.5 BLEU-4 + 0.5 CIDEr"]
        lines = [json.loads(line) for line in gpt.log.read_text().splitlines()]
        (validation,) = [line["validation"] for line in lines if "validation" in line]
        assert best == pytest.approx((validation["BLEU-4"] + validation["CIDEr"]) / 2, abs=1e-6)
        provenance = json.loads(gpt.metrics.read_text())["provenance"]
        assert provenance["protocol"] == "r2gengpt"
        assert provenance["tokenizer"] == gpt.load_config().system.language_model.name
        assert provenance["vocabulary_entries"] is None
        assert provenance["maximum_length"] == 100

    def test_its_page_scores_each_study_alike(self, gpt, tmp_path):
        write_run_page(gpt.path, tmp_path / "page.html", studies=3)
        assert "not for clinical diagnosis" in (tmp_path / "page.html").read_text()

    def test_a_run_without_one_is_scored_under_its_protocol_not_at_all(self, run, store):
        with pytest.raises(RadScribeError, match="needs the tokenizer of a language model"):
            score_run(run, PreparedStore(store), "test", protocol="r2gengpt", progress=False, meteor=False)

    def test_the_same_model_elsewhere_is_the_same_model(self, gpt, store, tmp_path):
        moved, _ = self.moved(gpt, tmp_path)
        studies = PreparedStore(store).studies("test")[:3]
        ours, theirs = (
            [
                (draft.id, draft.text, draft.token_logprobs)
                for draft in radscribe.load(run.path, "cpu").generate(studies)
            ]
            for run in (gpt, moved)
        )
        assert ours == theirs

    def test_streaming_ends_with_the_draft_of_generate(self, gpt, store):
        trained = radscribe.load(gpt.path, "cpu")
        study = PreparedStore(store).studies("test")[0]
        (whole,) = trained.generate([study])
        *_, last = trained.stream(study)
        assert last == whole
        shown = [draft.text for draft in trained.stream(study, method="greedy")]
        assert len(shown) > 1
        with pytest.raises(RadScribeError, match="no decoding field 'beam'"):
            next(trained.stream(study, beam=2))

    def test_another_model_under_the_same_name_is_refused(self, gpt, tmp_path):
        moved, model = self.moved(gpt, tmp_path)
        before = json.loads(moved.language_model.read_text())["sha256"]
        tensors = load_file(model / "model.safetensors")
        tensors["model.norm.weight"] += 1e-3
        save_file(tensors, model / "model.safetensors", {"format": "pt"})
        now = LanguageModelFiles.find(str(model)).record().sha256
        with pytest.raises(RadScribeError, match=rf"not the one that the run .*{now}, not {before}"):
            radscribe.load(moved.path)
        with pytest.raises(RadScribeError, match=rf"{now}, not {before}"):
            train(moved.load_config(), moved.path, resume=True, progress=False)

    def test_a_run_that_does_not_say_which_one_is_refused(self, gpt, tmp_path):
        moved, _ = self.moved(gpt, tmp_path)
        moved.language_model.unlink()
        with pytest.raises(RadScribeError, match="does not say which language model"):
            radscribe.load(moved.path)

    def test_a_weight_of_it_in_the_run_is_unexpected(self, gpt, tmp_path):
        moved, _ = self.moved(gpt, tmp_path)
        weights = load_file(moved.weights)
        save_file({**weights, "language_model.model.norm.weight": torch.zeros(3)}, moved.weights)
        moved.update_facts(weights_sha256=hashlib.sha256(moved.weights.read_bytes()).hexdigest())
        with pytest.raises(RadScribeError, match=r"unexpected language_model.model.norm.weight"):
            radscribe.load(moved.path)

    def test_no_model_is_named(self, store, tmp_path):
        config = tiny_config(store, "r2gen-gpt/phantom")
        config.system.language_model.name = ""
        with pytest.raises(
            RadScribeError, match=r"radscribe pretrain language-model.*--system.language_model.name"
        ):
            train(config, tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_in_8_bits(self, store, tmp_path):
        pytest.importorskip("bitsandbytes", reason="pip install 'radscribe[quantisation]'")
        config = tiny_config(store, "r2gen-gpt/phantom", epochs=1)
        config.system.language_model.quantisation = "int8"
        run = train(config, tmp_path / "run", progress=False)
        assert not any("language_model" in name for name in load_file(run.weights))
        drafts = [json.loads(line)["text"] for line in run.drafts("test").read_text().splitlines()]
        studies = PreparedStore(store).studies("test")
        again = radscribe.load(run.path, "cpu").generate(studies)
        assert [each.text for each in again] == drafts

    def test_adapters_are_kept(self, store, tmp_path):
        config = tiny_config(store, "r2gen-gpt/phantom", epochs=1)
        config.system.language_model.adapters.rank = 2
        run = train(config, tmp_path / "run", progress=False)
        kept = [name for name in load_file(run.weights) if name.startswith("language_model.")]
        assert kept
        assert all("lora_" in name for name in kept)
        assert radscribe.load(run.path, "cpu")


def test_selection_may_be_a_sum_of_scores(store, tmp_path):
    config = tiny_config(store, epochs=1, select_by="BLEU-4 + 0.5 BLEU-1")
    run = train(config, tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    (validation,) = [line["validation"] for line in lines if "validation" in line]
    expected = validation["BLEU-4"] + 0.5 * validation["BLEU-1"]
    assert run.read_facts()["best"]["BLEU-4 + 0.5 BLEU-1"] == pytest.approx(expected, abs=1e-6)
