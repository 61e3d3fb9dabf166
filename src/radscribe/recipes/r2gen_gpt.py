"""Recipes of R2GenGPT, with the sizes and rates of its released code, which are also those of the paper.

The effective batch is as large as that of the released code on its several devices. Views are cropped as in
the other recipes; the released code squashes them, in training too.
"""

from __future__ import annotations

from radscribe.layers.frozen_language_model import LanguageModelConfig
from radscribe.recipes import datasets
from radscribe.recipes.registry import recipe
from radscribe.runs.config import RunConfig, override
from radscribe.systems.r2gen_gpt import R2GenGPTConfig

DOCS = "systems/r2gen-gpt.md"


@recipe("r2gen-gpt/iu-xray", DOCS)
def iu_xray() -> RunConfig:
    """R2GenGPT on IU X-Ray, shallow alignment: frozen Swin-B and Llama-2-7B, two views averaged."""
    return datasets.frozen_language_model(
        "r2gen-gpt",
        R2GenGPTConfig(language_model=LanguageModelConfig(dtype="bfloat16")),
        datasets.iu_xray_r2gengpt(),
        draft_length=datasets.IU_XRAY_DRAFTS,
    )


@recipe("r2gen-gpt/mimic-cxr", DOCS)
def mimic_cxr() -> RunConfig:
    """R2GenGPT on MIMIC-CXR, shallow alignment: findings and impression, one view, reports to 100 tokens."""
    config = datasets.frozen_language_model(
        "r2gen-gpt",
        R2GenGPTConfig(language_model=LanguageModelConfig(dtype="bfloat16")),
        datasets.mimic_cxr_r2gengpt(),
        draft_length=datasets.MIMIC_CXR_DRAFTS,
    )
    config.training.epochs, config.training.accumulate, config.training.clip_norm = 5, 4, 1.0
    return config


@recipe("r2gen-gpt/phantom", DOCS)
def phantom() -> RunConfig:
    """R2GenGPT on the phantom: a small language model, made as a stage; the visual extractor trains too."""
    system = R2GenGPTConfig(
        backbone=datasets.phantom_backbone(),
        language_model=LanguageModelConfig(name=""),
        alignment="deep",
        views="concatenate",
    )
    data, training = datasets.phantom_language_model(), datasets.phantom_language_model_training()
    return datasets.three_beams("r2gen-gpt", system, data, training)


@recipe("r2gen-gpt/iu-xray/delta", DOCS)
def iu_xray_delta() -> RunConfig:
    """Delta alignment on IU X-Ray: low-rank adapters on query and value of the visual extractor train too."""
    return override(iu_xray(), {"system": {"alignment": "delta"}})


@recipe("r2gen-gpt/iu-xray/deep", DOCS)
def iu_xray_deep() -> RunConfig:
    """Deep alignment on IU X-Ray: the whole visual extractor trains as well."""
    return override(iu_xray(), {"system": {"alignment": "deep"}})


@recipe("r2gen-gpt/mimic-cxr/delta", DOCS)
def mimic_cxr_delta() -> RunConfig:
    """Delta alignment on MIMIC-CXR: low-rank adapters train as well; gradients are not clipped."""
    return override(mimic_cxr(), {"system": {"alignment": "delta"}, "training": {"clip_norm": 0.0}})


@recipe("r2gen-gpt/mimic-cxr/deep", DOCS)
def mimic_cxr_deep() -> RunConfig:
    """Deep alignment on MIMIC-CXR: the whole visual extractor trains as well, in batches of 6 x 4."""
    return override(mimic_cxr_delta(), {"system": {"alignment": "deep"}, "training": {"batch_size": 6}})
