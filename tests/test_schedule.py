"""Learning rates by epoch, and what else the presets of the recipes say, against tables written by hand."""

import json
from dataclasses import asdict

import pytest
import tiny
import torch
from tiny import tiny_config, tiny_store

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.recipes import RECIPES, get_recipe
from radscribe.runs.config import RunConfig, TrainingConfig
from radscribe.training.optimizer import create_optimizer
from radscribe.training.schedule import learning_rate, rates_by_epoch
from radscribe.training.train import train

pytestmark = pytest.mark.usefixtures("without_java")

STEPS = 4  # of an epoch, in the tables below

#: x 0.8 each epoch.
FALLING = {1: 1.0, 2: 0.8, 3: 0.64, 4: 0.512, 5: 0.4096, 10: 0.134217728, 11: 0.1073741824, 30: 0.001547425}
COSINE_OVER_5 = {1: 1e-4, 2: 9.0546341e-5, 3: 6.5796341e-5, 4: 3.5203659e-5, 5: 1.0453659e-5}
COSINE_OVER_15 = {1: 1e-4, 2: 9.8918306e-5, 3: 9.57205e-5, 8: 5.5674159e-5, 9: 4.5325841e-5, 15: 2.0816938e-6}

#: Epochs, and the rates of the visual extractor and of the rest in some of them; None where it is frozen.
RATES = {
    "r2gen/iu-xray": (100, {epoch: (5e-5 * by, 1e-4 * by) for epoch, by in FALLING.items()}),
    "r2gen/mimic-cxr": (30, {epoch: (5e-5 * by, 1e-4 * by) for epoch, by in FALLING.items()}),
    "r2gen/iu-xray/released": (
        100,
        {1: (5e-5, 1e-4), 50: (5e-5, 1e-4), 51: (5e-6, 1e-5), 100: (5e-6, 1e-5)},
    ),
    "r2gen/mimic-cxr/released": (30, {epoch: (5e-5 * by, 1e-4 * by) for epoch, by in FALLING.items()}),
    "r2gen-cmn/iu-xray": (100, {epoch: (5e-5 * by, 1e-4 * by) for epoch, by in FALLING.items()}),
    "r2gen-cmn/mimic-cxr": (30, {epoch: (5e-5 * by, 1e-4 * by) for epoch, by in FALLING.items()}),
    "r2gen-cmn/iu-xray/released": (
        100,
        {
            1: (1e-4, 5e-4),
            10: (1e-4, 5e-4),
            11: (8e-5, 4e-4),
            20: (8e-5, 4e-4),
            21: (6.4e-5, 3.2e-4),
            91: (1.34217728e-5, 6.7108864e-5),
            100: (1.34217728e-5, 6.7108864e-5),
        },
    ),
    "r2gen-cmn/mimic-cxr/released": (
        30,
        {
            1: (1e-4, 5e-4),
            3: (1e-4, 5e-4),
            4: (8e-5, 4e-4),
            6: (8e-5, 4e-4),
            7: (6.4e-5, 3.2e-4),
            28: (1.34217728e-5, 6.7108864e-5),
            30: (1.34217728e-5, 6.7108864e-5),
        },
    ),
    "camanet/iu-xray": (30, {1: (1e-3, 2e-3), 2: (1e-3, 2e-3), 30: (1e-3, 2e-3)}),
    "camanet/mimic-cxr": (30, {1: (5e-5, 1e-4), 2: (5e-5, 1e-4), 30: (5e-5, 1e-4)}),
    "camanet/iu-xray/released": (30, {1: (1e-3, 2e-3), 2: (1e-3, 2e-3), 30: (1e-3, 2e-3)}),
    "camanet/mimic-cxr/released": (30, {4: (5e-5, 1e-4), 5: (5e-5, 1e-4), 30: (5e-5, 1e-4)}),
    "r2gen-gpt/iu-xray": (15, {epoch: (None, rate) for epoch, rate in COSINE_OVER_15.items()}),
    "r2gen-gpt/iu-xray/delta": (15, {epoch: (rate, rate) for epoch, rate in COSINE_OVER_15.items()}),
    "r2gen-gpt/iu-xray/deep": (15, {epoch: (rate, rate) for epoch, rate in COSINE_OVER_15.items()}),
    "r2gen-gpt/mimic-cxr": (5, {epoch: (None, rate) for epoch, rate in COSINE_OVER_5.items()}),
    "r2gen-gpt/mimic-cxr/delta": (5, {epoch: (rate, rate) for epoch, rate in COSINE_OVER_5.items()}),
    "r2gen-gpt/mimic-cxr/deep": (5, {epoch: (rate, rate) for epoch, rate in COSINE_OVER_5.items()}),
    "bidirectional/iu-xray": (2, {1: (1e-4, 1e-4), 2: (5.05e-5, 5.05e-5)}),
    "bidirectional/mimic-cxr": (5, {epoch: (rate, rate) for epoch, rate in COSINE_OVER_5.items()}),
    "cmeaa/iu-xray": (10, {1: (None, 1e-4), 6: (None, 5.05e-5), 10: (None, 3.4227e-6)}),
    "cmeaa/mimic-cxr": (3, {1: (None, 1e-5), 2: (None, 7.525e-6), 3: (None, 2.575e-6)}),
    **{
        f"am-mrg/iu-xray{variant}": (30, {1: (1e-4, 1e-4), 16: (5.05e-5, 5.05e-5), 30: (1.27116618e-6,) * 2})
        for variant in ("", "/released")
    },
    **{
        f"am-mrg/{data}{variant}": (10, {1: (1e-4, 1e-4), 6: (5.05e-5, 5.05e-5), 10: (3.4227e-6,) * 2})
        for data in ("mimic-cxr", "chexpert-plus")
        for variant in ("", "/released")
    },
}
#: The first and the last step of the epochs in which the rates rise.
WARM_UPS = {
    "camanet/mimic-cxr/released": {
        1: ((5e-6, 5e-6), (1.625e-5, 2.875e-5)),
        2: ((2e-5, 3.6666667e-5), (3.125e-5, 6.0416667e-5)),
        3: ((3.5e-5, 6.8333333e-5), (4.625e-5, 9.2083333e-5)),
    }
}


def tiny_system(config: RunConfig):
    """The recipe's system at a tiny size, with the same parts frozen."""
    small = tiny.config(f"{config.system_name}/phantom")
    if config.system_name == "r2gen-gpt":
        small.system.alignment = config.system.alignment
        small.system.backbone.architecture = (
            "test_vit" if small.system.alignment == "delta" else "test_byobnet"
        )
    if config.system_name == "cmeaa":
        small.system.frozen_backbone = config.system.frozen_backbone
    return tiny.system(small, ["a b ."])


def pair(rates: dict[str, float]) -> tuple[float | None, float]:
    return rates.get("backbone"), rates["rest"]


def approximately(rates: tuple[float | None, float]):
    return tuple(rate if rate is None else pytest.approx(rate, rel=1e-6) for rate in rates)


def test_every_recipe_with_a_schedule_of_its_own_is_in_the_table():
    published = {name for name in RECIPES if "phantom" not in name and name.count("/") == 1}
    released = {name for name in RECIPES if name.endswith("/released")}
    assert published | released <= set(RATES)


@pytest.mark.slow
@pytest.mark.parametrize("name", RATES)
def test_learning_rates_of_a_recipe(name):
    """Both groups of the optimiser of the recipe's system, by epoch, as training sets them."""
    config = get_recipe(name).build()
    optimizer = create_optimizer(tiny_system(config), config.training)
    rates = rates_by_epoch(optimizer, config.training, STEPS)
    epochs, expected = RATES[name]
    assert len(rates) == epochs
    warm_up = WARM_UPS.get(name, {})
    for epoch, both in expected.items():
        if epoch <= epochs:
            assert pair(rates[epoch - 1].first) == approximately(both), epoch
    for row in rates:
        if row.epoch in warm_up:
            first, last = warm_up[row.epoch]
            assert pair(row.first) == approximately(first)
            assert pair(row.last) == approximately(last)
        else:
            assert row.first == row.last


def test_the_printed_table(capsys):
    """One line for all epochs in a row with the same rates; a warm-up has a line for each epoch."""
    main(["recipes", "r2gen/iu-xray/released", "--rates"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()[4:]] == [
        ["1-50", "5e-05", "0.0001"],
        ["51-100", "5e-06", "1e-05"],
    ]
    main(["recipes", "camanet/mimic-cxr/released", "--rates"])
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[4:]] == [
        "1 5e-06 to 2e-05 5e-06 to 3.66e-05",
        "2 2e-05 to 3.5e-05 3.67e-05 to 6.83e-05",
        "3 3.5e-05 to 5e-05 6.83e-05 to 0.0001",
        "4-30 5e-05 0.0001",
    ]
    main(["recipes", "r2gen/mimic-cxr/released", "--rates", "--json"])
    (recipe,) = json.loads(capsys.readouterr().out)
    assert [row["epoch"] for row in recipe["rates"]] == list(range(1, 31))
    assert recipe["rates"][1]["first"] == pytest.approx({"backbone": 4e-5, "rest": 8e-5})


PRESETS = {
    "camanet/iu-xray": {"augmentation": "rotate_or_scale", "horizontal_flip": False, "classifier": "sigmoid"},
    "camanet/mimic-cxr": {"augmentation": "rotate_or_scale", "horizontal_flip": False},
    "camanet/iu-xray/released": {"augmentation": "none", "horizontal_flip": True, "classifier": "sigmoid"},
    "camanet/mimic-cxr/released": {"augmentation": "rotate_and_scale", "horizontal_flip": False},
    "r2gen-gpt/iu-xray": {"batch_size": 8, "accumulate": 2, "clip_norm": 0.0},
    "r2gen-gpt/iu-xray/deep": {"batch_size": 8, "accumulate": 2, "clip_norm": 0.0, "alignment": "deep"},
    "r2gen-gpt/mimic-cxr": {"batch_size": 8, "accumulate": 4, "clip_norm": 1.0, "alignment": "shallow"},
    "r2gen-gpt/mimic-cxr/delta": {"batch_size": 8, "accumulate": 4, "clip_norm": 0.0, "alignment": "delta"},
    "r2gen-gpt/mimic-cxr/deep": {"batch_size": 6, "accumulate": 4, "clip_norm": 0.0, "alignment": "deep"},
}


@pytest.mark.parametrize("name", PRESETS)
def test_other_fields_of_a_preset(name):
    config = get_recipe(name).build()
    fields = asdict(config.system) | asdict(config.training) | asdict(config.data.transform)
    assert {field: fields[field] for field in PRESETS[name]} == PRESETS[name]


def test_rates_fall_along_a_cosine_as_torch_has_it():
    training = TrainingConfig(epochs=5, schedule="cosine", floor=0.01)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5, eta_min=1e-6)
    for epoch in range(6):
        assert learning_rate(training, 1e-4, epoch) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        theirs.step()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny_store(tmp_path_factory.mktemp("stores") / "phantom", studies=32)


@pytest.mark.slow
def test_training_steps_with_the_rates_of_the_table(store, tmp_path, monkeypatch):
    """Each step of an optimiser that accumulates, through the warm-up and the decay."""
    seen = []
    step = torch.optim.Adam.step

    def watching_step(self, closure):
        seen.append({group["name"]: group["lr"] for group in self.param_groups})
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", watching_step)
    config = tiny_config(
        store, epochs=3, accumulate=2, warm_up_epochs=1, warm_up_from=1e-5, decay=0.5, decay_every=2
    )
    train(config, tmp_path / "run", progress=False)
    steps = len(seen) // 3
    assert steps > 2
    rates = {"backbone": config.training.backbone_learning_rate, "rest": config.training.learning_rate}
    expected = [
        {name: 1e-5 + (rate - 1e-5) * number / steps for name, rate in rates.items()}
        for number in range(steps)
    ]
    expected += [rates] * steps + [{name: rate / 2 for name, rate in rates.items()}] * steps
    assert [list(both.values()) for both in seen] == [
        pytest.approx(list(both.values()), rel=1e-9) for both in expected
    ]


def test_a_warm_up_that_begins_above_the_rate_is_refused(store, tmp_path):
    """Earlier versions meant a share of the rate: their runs must not go on with it as a rate."""
    config = tiny_config(store, warm_up_epochs=1, warm_up_from=0.1)
    with pytest.raises(RadScribeError, match=r"warm_up_from 0\.1 is above .*--training\.warm_up_from 0"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
