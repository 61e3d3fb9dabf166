"""Recipes of R2GenCMN: by default as in the paper's section 3.3; `released` recipes do what its code does.

Values that the paper does not give (optimiser details, epochs, batch size) are the released code's in both.
"""

from __future__ import annotations

from radscribe.recipes import datasets
from radscribe.recipes.registry import recipe
from radscribe.runs.config import RunConfig, TrainingConfig, override
from radscribe.systems.r2gen_cmn import R2GenCMNConfig

DOCS = "systems/r2gen-cmn.md"


@recipe("r2gen-cmn/iu-xray", DOCS)
def iu_xray() -> RunConfig:
    """R2GenCMN on IU X-Ray as in the paper: two views, responses only, learning rates x 0.8 per epoch."""
    training = TrainingConfig(epochs=100, batch_size=16, patience=50)
    return datasets.three_beams("r2gen-cmn", R2GenCMNConfig(), datasets.iu_xray(), training)


@recipe("r2gen-cmn/mimic-cxr", DOCS)
def mimic_cxr() -> RunConfig:
    """R2GenCMN on MIMIC-CXR as the paper describes it: one view, reports to 100 tokens."""
    training = TrainingConfig(epochs=30, batch_size=16, patience=50)
    return datasets.three_beams("r2gen-cmn", R2GenCMNConfig(), datasets.mimic_cxr(), training)


@recipe("r2gen-cmn/phantom", DOCS)
def phantom() -> RunConfig:
    """R2GenCMN small enough to learn the phantom in minutes on two CPU cores, from random weights."""
    system = R2GenCMNConfig(
        **datasets.phantom_transformer(),
        memory_size=256,
        threads=4,
        top_k=16,
        memory_input="features_and_responses",
    )
    return datasets.three_beams("r2gen-cmn", system, datasets.phantom(), datasets.phantom_training())


def released(config: RunConfig) -> RunConfig:
    """Change a configuration to what the released code does differently from the paper, for any dataset."""
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
    """Register the paper's BASE and BASE+MEM (section 3.2) on every dataset."""
    for base in (iu_xray, mimic_cxr, phantom):
        name = base().recipe

        @recipe(f"{name}/base", DOCS)
        def without_memory(base=base) -> RunConfig:
            """BASE: R2GenCMN's Transformer without memory."""
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
