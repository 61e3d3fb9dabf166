"""Recipes of R2GenGPT, with the sizes and rates of its released code, which are the paper's.

The effective batch is that of its several devices. Views are cropped as in the other recipes; the released
code squashes them, in training too.
"""

from __future__ import annotations

from radscribe.decoding.search import DecodingConfig
from radscribe.layers.frozen_language_model import LanguageModelConfig
from radscribe.recipes import r2gen_cmn
from radscribe.recipes.registry import recipe
from radscribe.runs.config import DataConfig, RunConfig, TrainingConfig, override
from radscribe.systems.r2gen_gpt import R2GenGPTConfig

DOCS = "systems/r2gen-gpt.md"


def llama_2() -> LanguageModelConfig:
    """The language model of the paper, held in 16 bits."""
    return LanguageModelConfig(dtype="bfloat16")


@recipe("r2gen-gpt/iu-xray", DOCS)
def iu_xray() -> RunConfig:
    """R2GenGPT on IU X-Ray, shallow alignment: frozen Swin-B and Llama-2-7B, two views averaged."""
    return RunConfig(
        recipe="",
        system_name="r2gen-gpt",
        data=DataConfig(cleaning="iu_xray", maximum_length=60, views=2, protocol="r2gengpt"),
        system=R2GenGPTConfig(language_model=llama_2()),
        training=TrainingConfig(
            epochs=15,
            batch_size=8,
            accumulate=2,
            optimizer="adamw",
            backbone_learning_rate=1e-4,
            learning_rate=1e-4,
            betas=(0.9, 0.999),
            epsilon=1e-8,
            amsgrad=False,
            weight_decay=0.01,
            schedule="cosine",
            floor=0.01,
            precision="bf16-mixed",
            select_by="0.5 BLEU-4 + 0.5 CIDEr",
        ),
        decoding=DecodingConfig(
            beams=3,
            scoring="full",
            minimum_length=40,
            maximum_length=100,
            repetition_penalty=2.0,
            length_penalty=2.0,
        ),
    )


@recipe("r2gen-gpt/mimic-cxr", DOCS)
def mimic_cxr() -> RunConfig:
    """R2GenGPT on MIMIC-CXR, shallow alignment: findings and impression, one view, reports to 100 tokens."""
    config = iu_xray()
    config.data = DataConfig(
        section="findings + impression",
        cleaning="mimic_cxr_r2gengpt",
        minimum_count=10,
        maximum_length=100,
        views=1,
        protocol="r2gengpt",
    )
    config.training.epochs, config.training.accumulate = 5, 4
    config.training.clip_norm = 1.0
    config.decoding.minimum_length, config.decoding.maximum_length = 80, 120
    return config


@recipe("r2gen-gpt/phantom", DOCS)
def phantom() -> RunConfig:
    """R2GenGPT on the phantom: a small language model of your own, the visual extractor trained as well."""
    config = r2gen_cmn.phantom()
    config.system_name = "r2gen-gpt"
    config.system = R2GenGPTConfig(
        backbone=config.system.backbone,
        # There is none that could be assumed: training says how to make one.
        language_model=LanguageModelConfig(name=""),
        alignment="deep",
        views="concatenate",
    )
    config.data.maximum_length = config.decoding.maximum_length = 100
    config.data.protocol = "clean_full"
    # Through a frozen model the image is learnt slowly, and weights that write one report for all come first.
    config.training.batch_size, config.training.select_by = 4, "0.5 BLEU-4 + 0.5 CIDEr"
    return config


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
