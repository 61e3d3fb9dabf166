"""The autoencoder's own training: that it learns, what it leaves, that a system starts from it, faults."""

import json

import pytest
import torch
from tiny import tiny_store

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.pretraining.loop import ViewTraining
from radscribe.pretraining.masked_autoencoder import train_masked_autoencoder
from radscribe.recipes import get_recipe
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


def train_tiny(store, out, **options):
    config = config_of()
    options = {"device": "cpu", "epochs": 120, "batch": 24, "learning_rate": 3e-3, **options}
    training = ViewTraining(threads=1, progress=False, **options)
    return train_masked_autoencoder(
        store, out, vision=config.system.vision, data=config.data, training=training
    )


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("autoencoders") / "views"
    return out, train_tiny(store, out)


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


def test_the_command(store, tmp_path, capsys):
    options = ["--epochs", "1", "--threads", "1", "--device", "cpu", "--no_progress"]
    main(
        ["train", "masked-autoencoder", "--store", str(store.path), "--out", str(tmp_path / "out"), *options]
    )
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
        main(["train", "masked-autoencoder", "--store", "s", "--out", "o", "--recipe", "camanet/phantom"])
    assert "has no masked autoencoder" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(RadScribeError, match="no CUDA device"):
            train_tiny(store, tmp_path / "out", device="cuda")
    with pytest.raises(RadScribeError, match=r"the loss is (nan|inf)"):
        train_tiny(store, tmp_path / "out", learning_rate=1e12, epochs=4)
    assert not (tmp_path / "out").exists()
