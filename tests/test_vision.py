"""Backbones and transforms."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from radscribe.errors import RadScribeError
from radscribe.vision.backbones import Backbone, BackboneConfig, Grid, create_backbone
from radscribe.vision.transforms import (
    TransformConfig,
    evaluation_mask,
    evaluation_view,
    stack_views,
    training_view,
)


def backbone(architecture: str = "test_byobnet", weights: str = "none") -> Backbone:
    torch.manual_seed(0)
    return Backbone(BackboneConfig(architecture=architecture, weights=weights)).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "side", "tokens"),
    [
        ("test_byobnet", 64, 4),
        ("densenet121", 64, 4),
        ("swin_tiny_patch4_window7_224", 224, 49),
        ("test_vit", 160, 100),
        ("test_arm_pz16", 64, 16),
    ],
)
def test_visual_tokens(architecture, side, tokens):
    """CNNs, Swin (channels last), ViT and vision Mamba give [studies, views * tokens, channels]."""
    model = backbone(architecture)
    views = torch.randint(0, 256, (2, 2, side, side), dtype=torch.uint8)
    mask = torch.tensor([[True, True], [True, False]])
    with torch.inference_mode():
        visual = model(views, mask)
        alone = model(views[1:, :1], mask[1:, :1])
    assert visual.tokens.shape == (2, 2 * tokens, model.channels)
    assert visual.mask.sum(dim=1).tolist() == [2 * tokens, tokens]
    assert visual.tokens[1, tokens:].abs().max() == 0
    assert (visual.tokens[1, :tokens] - alone.tokens[0]).abs().max() < 1e-5
    rows, columns = visual.grid
    assert rows == columns
    assert rows * columns == tokens


def test_a_grid_is_square_or_not_there():
    assert Grid.of_square(49) == (7, 7)
    assert Grid.of_square(1) == (1, 1)
    assert Grid.of_square(14) is None


def test_absent_views_do_not_pass_through_the_backbone():
    model, seen = backbone(), []
    forward_features = model.model.forward_features
    model.model.forward_features = lambda views: seen.append(len(views)) or forward_features(views)
    model(torch.zeros(3, 4, 64, 64, dtype=torch.uint8), torch.eye(3, 4, dtype=torch.bool))
    assert seen == [3]


def test_batch_statistics_ignore_absent_views():
    """In training, too, what stands in an absent view changes nothing."""
    views = torch.randint(0, 256, (2, 2, 64, 64), dtype=torch.uint8)
    mask = torch.tensor([[True, False], [True, True]])
    model = backbone().train()
    first = model(views, mask).tokens
    views[0, 1] = 255
    assert torch.equal(model(views, mask).tokens, first)


def test_local_weights(tmp_path):
    model = create_backbone(BackboneConfig(architecture="test_resnet", weights="none"))
    for name, file in (("safetensors", save_file), ("pth", torch.save)):
        file(model.state_dict(), tmp_path / f"weights.{name}")
        loaded = create_backbone(
            BackboneConfig(architecture="test_resnet", weights=str(tmp_path / f"weights.{name}"))
        )
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))


@pytest.mark.parametrize(
    ("architecture", "weights", "message"),
    [
        ("resnet1001", "none", "unknown backbone architecture 'resnet1001'.*resnet101"),
        ("test_resnet", "nowhere.pth", "neither a file nor a published tag.*r160_in1k"),
        ("test_resnet", "r160_in1k", "could not be downloaded.*--system.backbone.weights"),
    ],
)
def test_clear_errors(architecture, weights, message, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RadScribeError, match=message):
        create_backbone(BackboneConfig(architecture=architecture, weights=weights))


PIXELS = np.random.default_rng(0).integers(0, 256, (300, 256), dtype=np.uint8)


def test_training_crops_are_random_parts_and_never_mirrored_unless_asked():
    config = TransformConfig(short_side=256, crop=224)
    windows = np.lib.stride_tricks.sliding_window_view(PIXELS, (224, 224))
    found = set()
    for seed in range(8):
        view = training_view(PIXELS, config, np.random.default_rng(seed)).numpy()
        places = np.argwhere((windows[:, :, 0, :8] == view[0, :8]).all(-1))
        top, left = next(place for place in places if (windows[tuple(place)] == view).all())
        found.add((int(top), int(left)))
    assert len(found) > 4
    flipping = TransformConfig(short_side=256, crop=256, horizontal_flip=True)
    square = PIXELS[:256]
    views = [training_view(square, flipping, np.random.default_rng(seed)).numpy() for seed in range(20)]
    mirrored = sum((view == square[:, ::-1]).all() for view in views)
    assert 0 < mirrored < 20


def test_evaluation_geometries():
    cropped = evaluation_view(PIXELS, TransformConfig(short_side=256, crop=224)).numpy()
    assert (cropped == PIXELS[38:262, 16:240]).all()
    squashed = evaluation_view(PIXELS, TransformConfig(short_side=256, crop=224, evaluation="squash"))
    assert squashed.shape == (224, 224)
    small = evaluation_view(PIXELS, TransformConfig(short_side=144, crop=128))
    assert small.shape == (128, 128)
    assert abs(float(small.float().mean()) - PIXELS.mean()) < 3


def test_stacking_pads_and_masks():
    view = torch.full((8, 8), 7, dtype=torch.uint8)
    views, mask = stack_views([[view], [view, view, view]])
    assert views.shape == (2, 3, 8, 8)
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    assert views[0, 1:].sum() == 0


@pytest.mark.parametrize("evaluation", ["center_crop", "squash"])
@pytest.mark.parametrize("shape", [(64, 64), (80, 64), (300, 410)])
def test_a_mask_lies_where_its_view_does(evaluation, shape):
    config = TransformConfig(short_side=64, crop=56, evaluation=evaluation)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    mask = np.hypot(rows / shape[0] - 0.4, columns / shape[1] - 0.6) < 0.2
    moved = evaluation_mask(mask, config)
    view = evaluation_view(mask.astype(np.uint8) * 255, config).numpy()
    assert moved.shape == (56, 56)
    assert moved.dtype == bool
    # The view is smoothed at the outline, where nearest may take either side.
    assert moved[view == 255].all()
    assert not moved[view == 0].any()
    assert moved.any()


class TestAugmentation:
    def views(self, augmentation, seeds=40):
        pixels = np.zeros((60, 60), dtype=np.uint8)
        pixels[25:35, 30:40] = 255
        config = TransformConfig(short_side=60, crop=60, augmentation=augmentation)
        return [training_view(pixels, config, np.random.default_rng(seed)).numpy() for seed in range(seeds)]

    def test_one_of_the_two(self):
        plain, changed = self.views("none"), self.views("rotate_or_scale")
        scaled = [view.sum() / 255 / 100 for view in changed]
        assert all(0.6 < area < 1.5 for area in scaled)
        rotated = [abs(area - 1) < 0.02 for area in scaled]
        assert 8 < sum(rotated) < 32
        assert all((a != b).any() for a, b in zip(plain, changed, strict=True))

    def test_both_in_half_of_the_views(self):
        plain, changed = self.views("none"), self.views("rotate_and_scale")
        same = sum(bool((a == b).all()) for a, b in zip(plain, changed, strict=True))
        assert 8 < same < 32

    def test_rotation_is_about_the_centre(self):
        pixels = np.zeros((61, 61), dtype=np.uint8)
        pixels[30, 30] = 255
        config = TransformConfig(short_side=61, crop=61, augmentation="rotate_and_scale")
        for seed in range(10):
            view = training_view(pixels, config, np.random.default_rng(seed)).numpy()
            assert view.argmax() == 30 * 61 + 30
