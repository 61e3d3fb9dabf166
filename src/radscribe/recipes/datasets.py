"""Parts of recipes that depend on the data set: text rules, lengths, views; the phantom's sizes and rates.

Papers on the same data follow one of two sets of rules: R2Gen's benchmark, which most papers follow, or
R2GenGPT's benchmark, for systems that write with a frozen language model.
"""

from __future__ import annotations

import re
from typing import Any

from radscribe.decoding.search import DecodingConfig
from radscribe.evaluation.published import Benchmark
from radscribe.runs.config import DataConfig, RunConfig, TrainingConfig
from radscribe.studies.store import PreparedStore
from radscribe.systems.config import SystemConfig
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import TransformConfig


def iu_xray() -> DataConfig:
    """IU X-Ray in R2Gen's benchmark: findings to 60 tokens, two views."""
    return DataConfig(cleaning="iu_xray", minimum_count=3, maximum_length=60, views=2)


def mimic_cxr() -> DataConfig:
    """MIMIC-CXR in R2Gen's benchmark: findings to 100 tokens, one view."""
    return DataConfig(cleaning="mimic_cxr", minimum_count=10, maximum_length=100, views=1)


#: Smallest and largest number of tokens of a draft in R2GenGPT's benchmark.
IU_XRAY_DRAFTS = (40, 100)
MIMIC_CXR_DRAFTS = (80, 120)


def iu_xray_r2gengpt() -> DataConfig:
    """IU X-Ray in R2GenGPT's benchmark: findings to 60 tokens of the language model, two views."""
    return DataConfig(cleaning="iu_xray", maximum_length=60, views=2, protocol="r2gengpt")


def mimic_cxr_r2gengpt() -> DataConfig:
    """MIMIC-CXR in R2GenGPT's benchmark: findings and impression to 100 tokens, one view."""
    return DataConfig(
        section="findings + impression",
        cleaning="mimic_cxr_r2gengpt",
        minimum_count=10,
        maximum_length=100,
        views=1,
        protocol="r2gengpt",
    )


def phantom() -> DataConfig:
    """The phantom, with views so small that it is learnt in minutes on two CPU cores."""
    config = iu_xray()
    config.transform = TransformConfig(short_side=108, crop=96)
    return config


def phantom_language_model() -> DataConfig:
    """The phantom for systems with a language model: reports to 100 tokens, scored uncut."""
    config = phantom()
    config.maximum_length, config.protocol = 100, "clean_full"
    return config


def phantom_backbone() -> BackboneConfig:
    """A small ResNet that learns the phantom from random weights."""
    return BackboneConfig(architecture="test_resnet", weights="none")


def phantom_transformer() -> dict[str, Any]:
    """Sizes of an encoder-decoder that learns the phantom; fields of `TransformerConfig`."""
    return {
        "backbone": phantom_backbone(),
        "width": 128,
        "feed_forward": 256,
        "heads": 4,
        "layers": 1,
        "dropout": 0.0,
        "visual_dropout": 0.0,
    }


def phantom_training() -> TrainingConfig:
    """Rates and epochs that learn the phantom from random weights."""
    return TrainingConfig(
        epochs=12, batch_size=8, backbone_learning_rate=1e-3, learning_rate=1e-3, decay=0.85, amsgrad=False
    )


def phantom_language_model_training() -> TrainingConfig:
    """Rates and epochs that learn the phantom through a frozen language model."""
    config = phantom_training()
    # Through a frozen model the image is learnt slowly; at first all studies get the same report.
    config.batch_size, config.select_by = 4, "0.5 BLEU-4 + 0.5 CIDEr"
    return config


def three_beams(
    system_name: str, system: SystemConfig, data: DataConfig, training: TrainingConfig
) -> RunConfig:
    """A configuration that drafts with three beams, as long as training reports are; `recipe` names it.

    Args:
        system_name: Name of the system.
        system: Configuration of the system.
        data: Settings that belong to the data set.
        training: Learning rates, epochs and other settings of the training.
    """
    return RunConfig(
        recipe="",
        system_name=system_name,
        data=data,
        system=system,
        training=training,
        decoding=DecodingConfig(beams=3, maximum_length=data.maximum_length),
    )


def frozen_language_model(
    system_name: str, system: SystemConfig, data: DataConfig, *, draft_length: tuple[int, int]
) -> RunConfig:
    """A configuration with R2GenGPT's training and decoding; `recipe` names it.

    Args:
        system_name: Name of the system.
        system: Configuration of the system.
        data: Settings that belong to the data set.
        draft_length: Smallest and largest number of tokens of a draft.
    """
    minimum_length, maximum_length = draft_length
    return RunConfig(
        recipe="",
        system_name=system_name,
        data=data,
        system=system,
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
            minimum_length=minimum_length,
            maximum_length=maximum_length,
            repetition_penalty=2.0,
            length_penalty=2.0,
        ),
    )


#: Benchmark of the stores that these readers prepare. Two further forms hold either of them.
_BENCHMARK_OF_READER: dict[str, Benchmark] = {
    "iu-xray-kaggle": "iu_xray",
    "iu-xray-openi": "iu_xray",
    "mimic-cxr": "mimic_cxr",
}
_EITHER = ("r2gen-annotation", "rexrank")
_IU_XRAY_ID = re.compile(r"CXR\d+")
#: Ids of single images, as in R2Gen's annotation, and of studies.
_MIMIC_CXR_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}$|s?5\d{7}$")


def benchmark_of(store: PreparedStore) -> Benchmark | None:
    """The published benchmark that a store was prepared from; None if it is another data set.

    Annotations of R2Gen and files of ReXrank hold either benchmark; the ids of IU X-Ray begin with `CXR`.
    """
    reader = store.manifest["reader"]
    if reader not in _EITHER:
        return _BENCHMARK_OF_READER.get(reader)
    ids = [study.id for study in store.studies("all")]
    if all(_IU_XRAY_ID.match(study) for study in ids):
        return "iu_xray"
    return "mimic_cxr" if all(_MIMIC_CXR_ID.match(study) for study in ids) else None
