"""Recipes of R2GenCMN. The paper's section 3.3 is the default; `released` is what its code does.

Where the paper is silent (optimiser details, epochs, batch size), the released code's values stand in both.
"""

from __future__ import annotations

from radscribe.decoding.search import DecodingConfig
from radscribe.recipes.registry import recipe
from radscribe.runs.config import DataConfig, RunConfig, TrainingConfig, override
from radscribe.systems.r2gen_cmn import R2GenCMNConfig
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import TransformConfig

DOCS = "systems/r2gen-cmn.md"


@recipe("r2gen-cmn/iu-xray", DOCS)
def iu_xray() -> RunConfig:
    """R2GenCMN on IU X-Ray as the paper describes it: two views, responses only, rates x 0.8 each epoch."""
    return RunConfig(
        recipe="",
        system_name="r2gen-cmn",
        data=DataConfig(cleaning="iu_xray", minimum_count=3, maximum_length=60, views=2),
        system=R2GenCMNConfig(),
        training=TrainingConfig(epochs=100, batch_size=16, patience=50),
        decoding=DecodingConfig(beams=3, maximum_length=60),
    )


@recipe("r2gen-cmn/mimic-cxr", DOCS)
def mimic_cxr() -> RunConfig:
    """R2GenCMN on MIMIC-CXR as the paper describes it: one view, reports to 100 tokens."""
    config = iu_xray()
    config.data = DataConfig(cleaning="mimic_cxr", minimum_count=10, maximum_length=100, views=1)
    config.training.epochs = 30
    config.decoding.maximum_length = 100
    return config


@recipe("r2gen-cmn/phantom", DOCS)
def phantom() -> RunConfig:
    """R2GenCMN small enough to learn the phantom in minutes on two CPU cores, from random weights."""
    config = iu_xray()
    config.data.transform = TransformConfig(short_side=108, crop=96)
    config.system = R2GenCMNConfig(
        backbone=BackboneConfig(architecture="test_resnet", weights="none"),
        width=128,
        feed_forward=256,
        heads=4,
        layers=1,
        dropout=0.0,
        visual_dropout=0.0,
        memory_size=256,
        threads=4,
        top_k=16,
        memory_input="features_and_responses",
    )
    config.training = TrainingConfig(
        epochs=12, batch_size=8, backbone_learning_rate=1e-3, learning_rate=1e-3, decay=0.85, amsgrad=False
    )
    return config


def released(config: RunConfig) -> RunConfig:
    """What the released code does differently from the paper, for any dataset."""
    config = override(config, {"system": {"memory_input": "features_and_responses"}})
    config.training.backbone_learning_rate = 1e-4
    config.training.learning_rate = 5e-4
    config.data.transform.evaluation = "squash"
    config.data.transform.horizontal_flip = True
    return config


@recipe("r2gen-cmn/iu-xray/released", DOCS)
def iu_xray_released() -> RunConfig:
    """The released code on IU X-Ray: features plus responses, higher rates, decay every 10 epochs, flips."""
    config = released(iu_xray())
    config.training.decay_every = 10
    return config


@recipe("r2gen-cmn/mimic-cxr/released", DOCS)
def mimic_cxr_released() -> RunConfig:
    """The released code on MIMIC-CXR: features plus responses, higher rates, decay every 3 epochs, flips."""
    config = released(mimic_cxr())
    config.training.decay_every = 3
    return config


def _register_ablations() -> None:
    """The paper's BASE and BASE+MEM (section 3.2) on every dataset."""
    for base in (iu_xray, mimic_cxr, phantom):
        name = base().recipe

        @recipe(f"{name}/base", DOCS)
        def without_memory(base=base) -> RunConfig:
            """BASE: the same Transformer without memory."""
            config = base()
            config.system.memory = "none"
            return config

        @recipe(f"{name}/separate-memories", DOCS)
        def separate_memories(base=base) -> RunConfig:
            """BASE+MEM: one memory for images and another for text."""
            config = base()
            config.system.memory = "separate"
            return config


_register_ablations()
