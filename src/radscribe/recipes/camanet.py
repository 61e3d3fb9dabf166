"""Recipes of CAMANet: by default as in the paper's section IV-C; `released` recipes do what its code does.

Values that the paper does not give (optimiser details, decay, patience) are the released code's in both.
"""

from __future__ import annotations

from radscribe.recipes import datasets
from radscribe.recipes.registry import recipe
from radscribe.runs.config import DataConfig, RunConfig, TrainingConfig, override
from radscribe.systems.camanet import CAMANetConfig
from radscribe.vision.backbones import BackboneConfig

DOCS = "systems/camanet.md"


def _augmented(data: DataConfig) -> DataConfig:
    data.transform.augmentation = "rotate_or_scale"
    return data


@recipe("camanet/iu-xray", DOCS)
def iu_xray() -> RunConfig:
    """CAMANet on IU X-Ray as the paper describes it: DenseNet-121, two views, delta 0.15, k 0.25."""
    training = TrainingConfig(
        epochs=30,
        batch_size=32,
        patience=10,
        backbone_learning_rate=1e-3,
        learning_rate=2e-3,
        betas=(0.9, 0.999),
        epsilon=1e-8,
        clip_value=0.1,
        # The released scripts decay for the first time after 50 epochs, but train only 30: there is no decay.
        decay_every=50,
    )
    system = CAMANetConfig(backbone=BackboneConfig(architecture="densenet121"))
    return datasets.three_beams("camanet", system, _augmented(datasets.iu_xray()), training)


@recipe("camanet/mimic-cxr", DOCS)
def mimic_cxr() -> RunConfig:
    """CAMANet on MIMIC-CXR as the paper describes it: one view, reports to 100 tokens, delta 0.5, k 0.3."""
    config = iu_xray()
    config.data = _augmented(datasets.mimic_cxr())
    config.decoding.maximum_length = config.data.maximum_length
    config = override(config, {"system": {"consistency_weight": 0.5, "word_share": 0.3}})
    training = config.training
    training.batch_size, training.backbone_learning_rate, training.learning_rate = 64, 5e-5, 1e-4
    return config


@recipe("camanet/phantom", DOCS)
def phantom() -> RunConfig:
    """CAMANet small enough to learn the phantom in minutes on two CPU cores, from random weights."""
    sizes = datasets.phantom_transformer()
    system = CAMANetConfig(**sizes, memory_heads=sizes["heads"])
    # By default the architecture makes maps of 3 x 3 tokens of small views, which cannot point at a lesion.
    system.backbone.output_stride = 16
    data = datasets.phantom()
    data.labels.uncertain = "as_present"
    return datasets.three_beams("camanet", system, data, datasets.phantom_training())


def _released(config: RunConfig) -> RunConfig:
    """Change a configuration to what the released code does differently from the paper, for any dataset."""
    system = {
        "map_normalisation": "joint",
        "word_anchor": "first_patch",
        "word_selection": "floor",
        "consistency_studies": "with_findings",
    }
    config = override(config, {"system": system})
    config.data.transform.evaluation = "squash"
    config.training.select_by = "BLEU-4 + 0.5 BLEU-1"
    return config


@recipe("camanet/iu-xray/released", DOCS)
def iu_xray_released() -> RunConfig:
    """The released code on IU X-Ray: joint maps, words that resemble the first patch, only flips."""
    config = _released(iu_xray())
    config.data.transform.augmentation, config.data.transform.horizontal_flip = "none", True
    return config


@recipe("camanet/mimic-cxr/released", DOCS)
def mimic_cxr_released() -> RunConfig:
    """The released code on MIMIC-CXR: as on IU X-Ray, but no flips; rotation, scaling, warm-up from 5e-6."""
    config = _released(mimic_cxr())
    config.data.transform.augmentation = "rotate_and_scale"
    config.training.warm_up_epochs, config.training.warm_up_from = 3, 5e-6
    return config


def _register_ablations() -> None:
    """Register the paper's Base, +VDMAE and +VDMAE+CLIP (Table IV) on every dataset."""
    for base in (iu_xray, mimic_cxr, phantom):
        name = base().recipe

        @recipe(f"{name}/base", DOCS)
        def without_maps(base=base) -> RunConfig:
            """Base: CAMANet's backbone and memory-driven Transformer, and nothing else."""
            config = base()
            config.system.attention_consistency = config.system.vdm_assisted_encoder = False
            return config

        @recipe(f"{name}/vdmae", DOCS)
        def without_consistency(base=base) -> RunConfig:
            """Base+VDMAE: the discriminative token enters the encoder; no attention consistency."""
            config = base()
            config.system.attention_consistency = False
            return config

        for weight in (0.1, 0.25):

            @recipe(f"{name}/clip-{weight}", DOCS)
            def with_clip(base=without_consistency, weight=weight) -> RunConfig:
                """Base+VDMAE+CLIP: image-text matching instead of attention consistency."""
                config = base()
                config.system.clip_weight = weight
                return config


_register_ablations()
