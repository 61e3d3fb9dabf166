"""Published weights bring their own mean, standard deviation and interpolation, and a run keeps them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny import tiny_config, tiny_store
from transformers import ViTImageProcessor

from radscribe.errors import RadScribeError
from radscribe.parts.view_classifier import ViewClassifier
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.masked_autoencoder import MaskedAutoencoderTask
from radscribe.pretraining.settings import MaskedAutoencoderSettings, ViewClassifierSettings
from radscribe.pretraining.view_classifier import ViewClassifierTask
from radscribe.recipes.registry import RECIPES, Recipe
from radscribe.runs.config import RunConfig, override
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.trained_system import load
from radscribe.runs.views import evaluation_views
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import View
from radscribe.training.train import train
from radscribe.vision.backbones import Backbone, BackboneConfig, create_backbone
from radscribe.vision.masked_autoencoder import MaskedAutoencoder, MaskedAutoencoderConfig, create_autoencoder
from radscribe.vision.published_pixels import (
    DEFAULT_PIXELS,
    NormalisationConfig,
    PublishedPixels,
    pixels_of_transformers,
    save_preprocessor_config,
)
from radscribe.vision.transforms import TransformConfig, evaluation_view, settled_transform, stored_view

pytestmark = pytest.mark.usefixtures("without_java")

OWN = PublishedPixels((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
TINY_AUTOENCODER = {
    "image_size": 56, "patch_size": 14, "width": 32, "layers": 1, "heads": 4, "feed_forward": 48,
    "decoder_width": 32, "decoder_layers": 1, "decoder_heads": 4, "decoder_feed_forward": 48,
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PreparedStore:
    return PreparedStore(
        tiny_store(tmp_path_factory.mktemp("stores") / "phantom", studies=30, short_side=128)
    )


@pytest.fixture(scope="module")
def picture(shared, tmp_path_factory) -> Path:
    """A real radiograph as a grey PNG, which every reader decodes alike."""
    path = tmp_path_factory.mktemp("picture") / "radiograph.png"
    Image.open(sorted((shared / "data/open_cxr/images").glob("*.jpg"))[0]).convert("L").save(path)
    return path


def timm_weights(folder: Path, architecture: str, name: str = "model.safetensors", **stated: object) -> str:
    """Random weights as timm publishes them, with a config.json beside them if anything is stated."""
    folder.mkdir(parents=True, exist_ok=True)
    model = create_backbone(BackboneConfig(architecture=architecture, weights="none"))
    save_file(model.state_dict(), folder / name)
    if stated:
        config = {"architecture": architecture, "pretrained_cfg": stated}
        (folder / "config.json").write_text(json.dumps(config))
    return str(folder / name)


def own_timm_weights(folder: Path, architecture: str = "test_byobnet") -> str:
    return timm_weights(folder, architecture, **OWN._asdict())


def pixels_of(architecture: str, weights: str) -> PublishedPixels:
    return Backbone(BackboneConfig(architecture=architecture, weights=weights)).pixels


def test_pixels_of_timm_weights(tmp_path):
    assert pixels_of("test_resnet", "none") == DEFAULT_PIXELS
    assert pixels_of("test_resnet", own_timm_weights(tmp_path / "own", "test_resnet")) == OWN
    partly = timm_weights(tmp_path / "partly", "test_resnet", mean=[0.1, 0.2, 0.3])
    half = (0.5, 0.5, 0.5)
    # What the file leaves open is what timm says of the architecture.
    assert pixels_of("test_resnet", partly) == PublishedPixels(OWN.mean, half, "bilinear")
    alone = timm_weights(tmp_path / "alone", "test_resnet")
    assert pixels_of("test_resnet", alone) == PublishedPixels(half, half, "bilinear")


def test_torchvision_weights_are_known_by_the_name_of_their_file(tmp_path):
    """The default ResNet-18 of timm is resized otherwise than torchvision's."""
    known = timm_weights(tmp_path, "resnet18", "resnet18-f37072fd.pth")
    torch.save(create_backbone(BackboneConfig(architecture="resnet18", weights="none")).state_dict(), known)
    assert pixels_of("resnet18", known) == DEFAULT_PIXELS
    assert pixels_of("resnet18", shutil.copy(known, tmp_path / "mine.pth")).interpolation == "bicubic"


def autoencoder_folder(folder: Path, pixels: PublishedPixels | None = OWN, **processor: object) -> Path:
    torch.manual_seed(0)
    config = MaskedAutoencoderConfig(weights="none", **TINY_AUTOENCODER)
    create_autoencoder(config, mask_ratio=0.0).save_pretrained(folder)
    if pixels:
        save_preprocessor_config(pixels, config.image_size, folder)
    if processor:
        ViTImageProcessor(**processor).save_pretrained(folder)
    return folder


def test_pixels_of_weights_in_transformers_format(tmp_path):
    def found(folder: Path) -> PublishedPixels:
        config = MaskedAutoencoderConfig(weights=str(folder), **TINY_AUTOENCODER)
        return MaskedAutoencoder(config, decoder=False).pixels

    assert found(autoencoder_folder(tmp_path / "own")) == OWN
    assert found(autoencoder_folder(tmp_path / "silent", None)) == DEFAULT_PIXELS
    assert found(
        autoencoder_folder(tmp_path / "plain", None, do_normalize=False, resample=2)
    ) == PublishedPixels((0, 0, 0), (1, 1, 1), "bilinear")
    from_minus_one = {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}
    mean, std, interpolation = found(autoencoder_folder(tmp_path / "scaled", None, **from_minus_one))
    assert [*mean, *std] == pytest.approx([0.5] * 6)
    assert interpolation == "bilinear"


@pytest.mark.parametrize("processor", ["{", '{"image_mean": [0.5, 0.5], "image_std": [1, 1, 0]}'])
def test_a_preprocessor_config_that_cannot_be_used(tmp_path, processor):
    folder = autoencoder_folder(tmp_path)
    (folder / "preprocessor_config.json").write_text(processor)
    with pytest.raises(RadScribeError, match=r"preprocessor_config\.json of .*(weights|states the mean)"):
        pixels_of_transformers(str(folder), "system.vision.weights")


def test_timm_statements_that_cannot_be_used(tmp_path):
    for number, stated in enumerate([{"mean": [0.5, 0.5]}, {"std": [1, 1, 0]}, {"interpolation": "random"}]):
        weights = timm_weights(tmp_path / str(number), "test_resnet", **stated)
        with pytest.raises(
            RadScribeError, match=f"pretrained_cfg of test_resnet states the {next(iter(stated))}"
        ):
            pixels_of("test_resnet", weights)
    (tmp_path / "0" / "config.json").write_text("{")
    with pytest.raises(RadScribeError, match=r"cannot read .*config\.json"):
        pixels_of("test_resnet", str(tmp_path / "0" / "model.safetensors"))


def test_a_weights_file_that_cannot_be_read_is_one_clear_line(tmp_path):
    weights = timm_weights(tmp_path, "test_resnet")
    Path(weights).write_bytes(Path(weights).read_bytes()[:1000])
    with pytest.raises(RadScribeError, match="could not be loaded into test_resnet.*this architecture"):
        create_backbone(BackboneConfig(architecture="test_resnet", weights=weights))


def normalised(encoder: Backbone | MaskedAutoencoder, path: Path, transform: TransformConfig) -> np.ndarray:
    """What the encoder's model takes of a picture, float `[3, crop, crop]`."""
    view = evaluation_view(stored_view(View(path), transform).pixels, transform)
    return encoder.normalise(view.unsqueeze(0))[0].numpy()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_as_timm_transforms_a_real_picture(tmp_path, picture, interpolation):
    """With a store that keeps the picture's own size nothing is resized but by the weights' own filter."""
    from timm.data import create_transform, resolve_data_config

    stated = {**OWN._asdict(), "interpolation": interpolation}
    weights = timm_weights(tmp_path, "test_resnet", **stated)
    encoder = Backbone(BackboneConfig(architecture="test_resnet", weights=weights))
    size = Image.open(picture).size
    transform = TransformConfig(
        store_short_side=min(size), short_side=256, crop=224, interpolation=encoder.pixels.interpolation
    )
    stated_by_timm = resolve_data_config({"crop_pct": 224 / 256}, model=encoder.model)
    theirs = create_transform(**{**stated_by_timm, "input_size": (3, 224, 224)})
    expected = theirs(Image.open(picture).convert("RGB")).numpy()
    np.testing.assert_allclose(normalised(encoder, picture, transform), expected, atol=1e-5)


def test_as_transformers_transforms_a_real_picture(tmp_path, picture):
    folder = autoencoder_folder(tmp_path)
    config = MaskedAutoencoderConfig(weights=str(folder), **TINY_AUTOENCODER)
    encoder = MaskedAutoencoder(config, decoder=False)
    transform = TransformConfig(
        store_short_side=min(Image.open(picture).size),
        short_side=56,
        crop=56,
        evaluation="squash",
        interpolation=encoder.pixels.interpolation,
    )
    processor = ViTImageProcessor.from_pretrained(folder)
    expected = processor(Image.open(picture).convert("RGB"), return_tensors="pt").pixel_values[0].numpy()
    found = normalised(encoder, picture, transform)
    assert found.shape == expected.shape
    # torchvision and Pillow round the cubic weights otherwise: at most one grey value apart.
    assert np.abs(found - expected).max() <= 1.01 / 255 / min(OWN.std)


def own_weights_config(store: PreparedStore, folder: Path, recipe: str) -> RunConfig:
    """A recipe that starts from weights with pixels of their own."""
    config = tiny_config(store.path, recipe, epochs=1)
    if recipe == "bidirectional/phantom":
        weights = str(autoencoder_folder(folder))
        return override_keeping_store(config, {"vision": {**TINY_AUTOENCODER, "weights": weights}})
    return override_keeping_store(config, {"backbone": {"weights": own_timm_weights(folder)}})


def override_keeping_store(config: RunConfig, system: dict[str, object]) -> RunConfig:
    changed = override(config, {"system": system})
    changed.store = config.store
    return changed


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["r2gen-cmn/phantom", "bidirectional/phantom"])
def test_a_run_keeps_the_pixels_of_its_weights(store, tmp_path, recipe):
    config = own_weights_config(store, tmp_path / "weights", recipe)
    out = train(config, tmp_path / "run", progress=False).path
    shutil.rmtree(tmp_path / "weights")
    kept = RunDirectory(out).load_config()
    part = kept.system.vision if recipe == "bidirectional/phantom" else kept.system.backbone
    assert (part.normalisation.mean, part.normalisation.std) == OWN[:2]
    assert kept.data.transform.interpolation == OWN.interpolation
    assert kept.data.transform.store_short_side == 128
    loaded = load(out, "cpu")
    assert loaded.system.backbone.pixels[:2] == OWN[:2]
    assert loaded.system.backbone.normalise.mean.flatten().tolist() == pytest.approx(OWN.mean)
    # The configuration that was given is not touched, and is still that of the run.
    assert config.data.transform.interpolation is None
    RunDirectory(out).checkpoint.unlink()
    with pytest.raises(RadScribeError, match=r"has no checkpoint to go on from: .*last.ckpt' is missing"):
        train(config, out, resume=True, progress=False)
    config.data.transform.interpolation = "box"
    with pytest.raises(RadScribeError, match="begun with another configuration"):
        train(config, out, resume=True, progress=False)
    study = store.studies("test")[0]
    bilinear = override(kept, {"data": {"transform": {"interpolation": "bilinear"}}})
    pairs = zip(evaluation_views(study, kept.data), evaluation_views(study, bilinear.data), strict=True)
    assert all((one != other).any() for one, other in pairs)


def test_what_the_configuration_sets_comes_before_what_the_weights_state(store, tmp_path):
    given = NormalisationConfig(mean=(0.7, 0.7, 0.7))
    encoder = Backbone(
        BackboneConfig(architecture="test_byobnet", weights=own_timm_weights(tmp_path), normalisation=given)
    )
    encoder.keep_normalisation()
    assert given == NormalisationConfig(mean=(0.7, 0.7, 0.7), std=OWN.std)
    transform = TransformConfig(short_side=64, crop=56, interpolation="box")
    assert settled_transform(transform, store, encoder.pixels).interpolation == "box"


def test_a_view_classifier_keeps_the_pixels_of_its_weights(store, tmp_path):
    weights = own_timm_weights(tmp_path / "weights", "test_resnet")
    settings = ViewClassifierSettings(
        architecture="test_resnet", weights=weights, epochs=1, batch=8, threads=1, device="cpu"
    )
    pretrain(ViewClassifierTask, store, tmp_path / "views", settings, progress=False)
    shutil.rmtree(tmp_path / "weights")
    classifier = ViewClassifier.load(tmp_path / "views", "cpu")
    assert classifier.backbone.pixels[:2] == OWN[:2]
    assert classifier.transform.interpolation == OWN.interpolation
    assert classifier.transform.store_short_side == 128


def test_a_masked_autoencoder_of_ones_own_states_its_pixels(store, tmp_path, monkeypatch):
    config = tiny_config(store.path, "bidirectional/phantom")
    config.system.vision = MaskedAutoencoderConfig(**TINY_AUTOENCODER)
    monkeypatch.setitem(RECIPES, "tiny", Recipe("tiny", "Tiny.", "", lambda: config))
    weights = str(autoencoder_folder(tmp_path / "start"))
    settings = MaskedAutoencoderSettings(recipe="tiny", weights=weights, epochs=1, threads=1, device="cpu")
    out = tmp_path / "autoencoder"
    pretrain(MaskedAutoencoderTask, store, out, settings, progress=False)
    assert pixels_of_transformers(str(out), "system.vision.weights") == OWN
    processor = ViTImageProcessor.from_pretrained(out)
    black = processor(Image.new("RGB", (9, 9)), return_tensors="pt").pixel_values
    assert black.shape == (1, 3, 56, 56)
    assert black[0, :, 0, 0].tolist() == pytest.approx(
        [-m / s for m, s in zip(OWN.mean, OWN.std, strict=True)]
    )
