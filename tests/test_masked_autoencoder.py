"""The autoencoder's own training: that it learns, what it leaves, that a system starts from it, faults."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_store

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.masked_autoencoder import MaskedAutoencoderTask
from radscribe.pretraining.settings import MaskedAutoencoderSettings
from radscribe.recipes import RECIPES, get_recipe
from radscribe.recipes.registry import Recipe
from radscribe.studies.store import PreparedStore
from radscribe.vision.masked_autoencoder import MaskedAutoencoder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return PreparedStore(
        tiny_store(tmp_path_factory.mktemp("stores") / "phantom", studies=50, short_side=108)
    )


def config_of():
    config = get_recipe("bidirectional/phantom").build()
    config.system.vision.layers = config.system.vision.decoder_layers = 1
    return config


@pytest.fixture(scope="module", autouse=True)
def tiny_recipe():
    RECIPES["bidirectional/tiny"] = Recipe("bidirectional/tiny", "One layer.", "", config_of)
    yield
    del RECIPES["bidirectional/tiny"]


def train_tiny(store, out, *, resume=False, **options):
    usual = {"recipe": "bidirectional/tiny", "epochs": 120, "batch": 24, "learning_rate": 3e-3}
    settings = MaskedAutoencoderSettings(**usual | {"threads": 1, "device": "cpu"} | options)
    return pretrain(MaskedAutoencoderTask, store, out, settings, resume=resume, progress=False)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("autoencoders") / "views"
    return out, train_tiny(store, out)


@pytest.mark.slow
def test_it_learns_more_than_the_mean_view(trained):
    _, facts = trained
    assert facts["unexplained"] < 0.9


def test_what_it_leaves(trained, store):
    out, facts = trained
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "pretraining.json",
        "MODEL_CARD.md",
    }
    assert json.loads((out / "pretraining.json").read_text()) == facts
    assert facts["views"]["train"] == sum(len(study.views) for study in store.studies("train"))
    assert facts["store_content_hash"] == store.manifest["content_hash"]
    assert "not for clinical diagnosis" in (out / "MODEL_CARD.md").read_text()


def test_a_system_starts_from_it(trained):
    out, _ = trained
    config = config_of().system.vision
    config.weights = str(out)
    started = MaskedAutoencoder(config, decoder=True)
    config.weights = "none"
    torch.manual_seed(0)
    untrained = MaskedAutoencoder(config, decoder=True)
    views = torch.randint(0, 256, (2, config.image_size, config.image_size), dtype=torch.uint8)
    assert started.encode_views(views).shape == untrained.encode_views(views).shape
    assert not torch.allclose(started.encode_views(views), untrained.encode_views(views), atol=1e-2)
    # Positions are no parameters that train: both have the same.
    assert torch.equal(
        started.encoder.embeddings.position_embeddings, untrained.encoder.embeddings.position_embeddings
    )


def test_same_seed_same_weights(store, tmp_path):
    first, second = (train_tiny(store, tmp_path / name, epochs=1) for name in ("a", "b"))
    assert first["unexplained"] == second["unexplained"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from test_masked_autoencoder import RECIPES, MaskedAutoencoderTask, Recipe, config_of, train_tiny
from radscribe.studies.store import PreparedStore

RECIPES["bidirectional/tiny"] = Recipe("bidirectional/tiny", "One layer.", "", config_of)
loss, calls = MaskedAutoencoderTask.loss, []
def killing_loss(self, batch):
    calls.append(batch)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, batch)
MaskedAutoencoderTask.loss = killing_loss
train_tiny(PreparedStore(sys.argv[1]), sys.argv[2], epochs=3)
"""


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(store, tmp_path):
    """Killed in its second epoch; the patches that are left out are drawn from one stream of numbers."""
    whole = train_tiny(store, tmp_path / "whole", epochs=3)
    assert whole["steps"] > 6
    arguments = [str(store.path), str(tmp_path / "killed"), str(Path(__file__).parent)]
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert (tmp_path / "killed" / "checkpoint.pt").is_file()
    resumed = train_tiny(store, tmp_path / "killed", epochs=3, resume=True)
    assert {name for name in whole if whole[name] != resumed[name]} <= {"began"}
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


@pytest.mark.parametrize("steps", [1, 19, 57, 400])
def test_the_rates_are_those_of_one_cycle(store, steps):
    """As torch has them."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=2 * steps, pct_start=0.05, cycle_momentum=False
    )
    task = MaskedAutoencoderTask(store, MaskedAutoencoderSettings(epochs=2))
    for number in range(2 * steps):
        rate = task.rate(*divmod(number, steps), steps)
        assert rate == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if number < 2 * steps - 1:
            schedule.step()


def test_a_rise_that_ends_with_a_whole_step(store):
    """torch divides by 0 there."""
    task = MaskedAutoencoderTask(store, MaskedAutoencoderSettings(epochs=20))
    assert [task.rate(epoch, 0, 1) for epoch in (0, 19)] == pytest.approx([1, 4e-6])


def test_the_command(store, tmp_path, capsys):
    options = ["--epochs", "1", "--threads", "1", "--device", "cpu", "--no_progress"]
    main(["pretrain", "masked-autoencoder", str(store.path), "--out", str(tmp_path / "out"), *options])
    out = capsys.readouterr().out
    assert "unexplained" in out
    assert "not for clinical diagnosis" in out


def test_faults(store, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RadScribeError, match="there is something in"):
        train_tiny(store, tmp_path)
    with pytest.raises(RadScribeError, match="at least 1"):
        train_tiny(store, tmp_path / "out", epochs=0)
    with pytest.raises(SystemExit):
        main(f"pretrain masked-autoencoder {store.path} --out o --recipe camanet/phantom".split())
    assert "has no masked autoencoder" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(RadScribeError, match="no CUDA device"):
            train_tiny(store, tmp_path / "out", device="cuda")
    with pytest.raises(RadScribeError, match=r"the loss is (nan|inf)"):
        train_tiny(store, tmp_path / "out", learning_rate=1e12, epochs=4)
    assert not (tmp_path / "out").exists()
