"""RandAugment: it is timm's, it depends on its generator alone, and it leaves all others as they are."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from radscribe.vision.rand_augment import rand_augmented
from radscribe.vision.transforms import TransformConfig, training_view

CROP = 48


@pytest.fixture
def view():
    """A view in which every crop and change is seen: shades, and two marks."""
    pixels = np.array(Image.radial_gradient("L").resize((80, 64)))
    pixels[10:20, 12:30] = 250
    pixels[40:48, 50:70] = 5
    return pixels


def as_released(pixels, seed):
    """Grey from 0 to 255, and which pixels are noise, by the whole transform of the released code."""
    transform = create_transform(
        input_size=CROP,
        is_training=True,
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
        interpolation="bicubic",
    )
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    normalised = transform(Image.fromarray(pixels).convert("RGB"))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colours = (normalised * std.view(3, 1, 1) + mean.view(3, 1, 1)) * 255
    noise = (colours - colours.round()).abs().amax(dim=0) > 1e-2
    grey = (colours * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=0)
    return grey.numpy(), noise.numpy()


def test_it_is_what_the_released_code_does(view):
    """Pixel by pixel, but for noise, which stands at the same places."""
    noisy = []
    for number in range(24):
        seed = int(np.random.default_rng(number).integers(2**32))
        expected, noise = as_released(view, seed)
        found = rand_augmented(view, CROP, np.random.default_rng(number))
        assert found.shape == (CROP, CROP)
        assert found.dtype == np.uint8
        assert np.abs(found - expected)[~noise].max() <= 0.51
        if noise.any():
            assert found[noise].std() > 30
        noisy.append(noise.any())
    assert 0 < sum(noisy) < len(noisy) / 2


def test_it_depends_on_its_generator_alone(view):
    def changed(seed):
        generator = np.random.default_rng(seed)
        return [rand_augmented(view, CROP, generator) for _ in range(3)]

    first = changed(0)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert all(np.array_equal(one, other) for one, other in zip(first, changed(0), strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], changed(1)[0])


def test_other_generators_go_on_as_before(view):
    def drawn():
        return random.random(), np.random.random(), torch.rand(()).item()

    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    expected = drawn(), drawn()
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    first = drawn()
    rand_augmented(view, CROP, np.random.default_rng(0))
    assert (first, drawn()) == expected


def test_a_training_view_is_changed_at_the_size_of_the_configuration(view):
    config = TransformConfig(short_side=32, crop=24, augmentation="rand_augment")
    found = training_view(view, config, np.random.default_rng(3))
    assert found.shape == (24, 24)
    assert found.dtype == torch.uint8
    smaller = np.array(Image.fromarray(view).resize((40, 32), config.filter))
    assert np.array_equal(found.numpy(), rand_augmented(smaller, 24, np.random.default_rng(3)))
