"""Recipes of R2Gen, on the same data and under the same protocol as those of R2GenCMN.

The paper's rates and decay are the default; where it is silent, the released code's values stand in both.
"""

from __future__ import annotations

from radscribe.recipes import r2gen_cmn
from radscribe.recipes.registry import recipe
from radscribe.runs.config import RunConfig, override
from radscribe.systems.r2gen import R2GenConfig
from radscribe.systems.r2gen_cmn import R2GenCMNConfig

DOCS = "systems/r2gen.md"


def _with_r2gen(config: RunConfig) -> RunConfig:
    config.system_name = "r2gen"
    config.system = R2GenConfig()
    config.training.betas = (0.9, 0.999)
    config.training.epsilon = 1e-8
    config.training.clip_value = 0.1
    return config


@recipe("r2gen/iu-xray", DOCS)
def iu_xray() -> RunConfig:
    """R2Gen on IU X-Ray as the paper describes it: two views, rates x 0.8 each epoch."""
    return _with_r2gen(r2gen_cmn.iu_xray())


@recipe("r2gen/mimic-cxr", DOCS)
def mimic_cxr() -> RunConfig:
    """R2Gen on MIMIC-CXR as the paper describes it: one view, reports to 100 tokens."""
    return _with_r2gen(r2gen_cmn.mimic_cxr())


@recipe("r2gen/phantom", DOCS)
def phantom() -> RunConfig:
    """R2Gen small enough to learn the phantom in minutes on two CPU cores, from random weights."""
    config = r2gen_cmn.phantom()
    cmn = config.system
    assert isinstance(cmn, R2GenCMNConfig)
    config.system_name = "r2gen"
    config.system = R2GenConfig(
        backbone=cmn.backbone,
        width=cmn.width,
        feed_forward=cmn.feed_forward,
        heads=cmn.heads,
        layers=cmn.layers,
        dropout=cmn.dropout,
        visual_dropout=cmn.visual_dropout,
        memory_heads=cmn.heads,
    )
    return config


def _released(config: RunConfig) -> RunConfig:
    """What the released code does differently from the paper, for any dataset."""
    config.data.transform.evaluation = "squash"
    config.data.transform.horizontal_flip = True
    return config


@recipe("r2gen/iu-xray/released", DOCS)
def iu_xray_released() -> RunConfig:
    """The released code on IU X-Ray: rates x 0.1 every 50 epochs, flips, squashed views."""
    config = _released(iu_xray())
    config.training.decay, config.training.decay_every = 0.1, 50
    return config


@recipe("r2gen/mimic-cxr/released", DOCS)
def mimic_cxr_released() -> RunConfig:
    """The released code on MIMIC-CXR: rates x 0.8 each epoch as in the paper, flips, squashed views."""
    return _released(mimic_cxr())


def _without_memory(config: RunConfig) -> RunConfig:
    return override(config, {"system": {"memory": False}})


@recipe("r2gen/iu-xray/base", DOCS)
def iu_xray_base() -> RunConfig:
    """BASE on IU X-Ray: the same Transformer without memory."""
    return _without_memory(iu_xray())


@recipe("r2gen/mimic-cxr/base", DOCS)
def mimic_cxr_base() -> RunConfig:
    """BASE on MIMIC-CXR: the same Transformer without memory."""
    return _without_memory(mimic_cxr())


@recipe("r2gen/phantom/base", DOCS)
def phantom_base() -> RunConfig:
    """BASE on the phantom: the same Transformer without memory."""
    return _without_memory(phantom())
