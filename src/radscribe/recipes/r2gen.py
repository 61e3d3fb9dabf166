"""Recipes of R2Gen: by default with the paper's values; `released` recipes do what its code does.

The default rates and decay are the paper's. Values that the paper does not give are the released code's in
both.
"""

from __future__ import annotations

from radscribe.recipes import datasets
from radscribe.recipes.registry import recipe
from radscribe.runs.config import RunConfig, TrainingConfig, override
from radscribe.systems.r2gen import R2GenConfig

DOCS = "systems/r2gen.md"


def _training(epochs: int) -> TrainingConfig:
    return TrainingConfig(
        epochs=epochs, batch_size=16, patience=50, betas=(0.9, 0.999), epsilon=1e-8, clip_value=0.1
    )


@recipe("r2gen/iu-xray", DOCS)
def iu_xray() -> RunConfig:
    """R2Gen on IU X-Ray as the paper describes it: two views, learning rates x 0.8 per epoch."""
    return datasets.three_beams("r2gen", R2GenConfig(), datasets.iu_xray(), _training(100))


@recipe("r2gen/mimic-cxr", DOCS)
def mimic_cxr() -> RunConfig:
    """R2Gen on MIMIC-CXR as the paper describes it: one view, reports to 100 tokens."""
    return datasets.three_beams("r2gen", R2GenConfig(), datasets.mimic_cxr(), _training(30))


@recipe("r2gen/phantom", DOCS)
def phantom() -> RunConfig:
    """R2Gen small enough to learn the phantom in minutes on two CPU cores, from random weights."""
    sizes = datasets.phantom_transformer()
    system = R2GenConfig(**sizes, memory_heads=sizes["heads"])
    return datasets.three_beams("r2gen", system, datasets.phantom(), datasets.phantom_training())


def _released(config: RunConfig) -> RunConfig:
    """Change a configuration to what the released code does differently from the paper, for any dataset."""
    config.data.transform.evaluation = "squash"
    config.data.transform.horizontal_flip = True
    return config


@recipe("r2gen/iu-xray/released", DOCS)
def iu_xray_released() -> RunConfig:
    """The released code on IU X-Ray: learning rates x 0.1 every 50 epochs, flips, squashed views."""
    config = _released(iu_xray())
    config.training.decay, config.training.decay_every = 0.1, 50
    return config


@recipe("r2gen/mimic-cxr/released", DOCS)
def mimic_cxr_released() -> RunConfig:
    """The released code on MIMIC-CXR: the paper's learning rates x 0.8 per epoch, flips, squashed views."""
    return _released(mimic_cxr())


def _without_memory(config: RunConfig) -> RunConfig:
    return override(config, {"system": {"memory": False}})


@recipe("r2gen/iu-xray/base", DOCS)
def iu_xray_base() -> RunConfig:
    """BASE on IU X-Ray: R2Gen's Transformer without memory."""
    return _without_memory(iu_xray())


@recipe("r2gen/mimic-cxr/base", DOCS)
def mimic_cxr_base() -> RunConfig:
    """BASE on MIMIC-CXR: R2Gen's Transformer without memory."""
    return _without_memory(mimic_cxr())


@recipe("r2gen/phantom/base", DOCS)
def phantom_base() -> RunConfig:
    """BASE on the phantom: R2Gen's Transformer without memory."""
    return _without_memory(phantom())
