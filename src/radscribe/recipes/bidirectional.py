"""Recipes of bidirectional learning: values are from the paper's section 4.1, or else R2GenGPT's."""

from __future__ import annotations

from radscribe.layers.frozen_language_model import LanguageModelConfig
from radscribe.layers.report_encoder import ReportEncoderConfig
from radscribe.recipes import datasets, r2gen_gpt
from radscribe.recipes.registry import recipe
from radscribe.runs.config import DataConfig, RunConfig, override
from radscribe.systems.bidirectional import BidirectionalConfig
from radscribe.vision.masked_autoencoder import MaskedAutoencoderConfig

DOCS = "systems/bidirectional.md"

#: Epochs of each variant, from the paper's Table 3. All variants on the phantom train as long as its recipe.
_EPOCHS = {
    "bidirectional/iu-xray": {"v2t": 8, "v2t-clip": 6, "v2t-t2v": 5},
    "bidirectional/mimic-cxr": {"v2t": 9, "v2t-clip": 7, "v2t-t2v": 7},
}


def _published(data: DataConfig, draft_length: tuple[int, int]) -> RunConfig:
    system = BidirectionalConfig(language_model=LanguageModelConfig(dtype="bfloat16"))
    config = datasets.frozen_language_model("bidirectional", system, data, draft_length=draft_length)
    config.training.batch_size, config.training.accumulate = 4, 1
    config.training.select_by = "BLEU-4"
    return config


@recipe("bidirectional/iu-xray", DOCS)
def iu_xray() -> RunConfig:
    """V2T+T2V+Rec on IU X-Ray: MAE-Large, BLIP's text encoder, frozen Llama-2-7B, two views."""
    config = _published(datasets.iu_xray_r2gengpt(), datasets.IU_XRAY_DRAFTS)
    config.training.epochs = 2
    return config


@recipe("bidirectional/mimic-cxr", DOCS)
def mimic_cxr() -> RunConfig:
    """V2T+T2V+Rec on MIMIC-CXR: MAE-Large, BLIP's text encoder, frozen Llama-2-7B, one view."""
    config = _published(datasets.mimic_cxr_r2gengpt(), datasets.MIMIC_CXR_DRAFTS)
    config.training.epochs, config.training.clip_norm = 5, 1.0
    return config


@recipe("bidirectional/phantom", DOCS)
def phantom() -> RunConfig:
    """V2T+T2V+Rec on the phantom: a small language model made as a stage, random weights elsewhere."""
    data, training = datasets.phantom_language_model(), datasets.phantom_language_model_training()
    # A pretrained autoencoder keeps what it has learnt only if its rate is lower and rises slowly.
    training.backbone_learning_rate, training.warm_up_epochs = 3e-4, 1
    system = BidirectionalConfig(
        vision=MaskedAutoencoderConfig(
            weights="none",
            image_size=data.transform.crop,
            patch_size=16,
            width=96,
            layers=4,
            heads=4,
            feed_forward=192,
            decoder_width=64,
            decoder_layers=2,
            decoder_heads=4,
            decoder_feed_forward=128,
        ),
        language_model=LanguageModelConfig(name=""),
        report_encoder=ReportEncoderConfig(
            weights="none", words=0, width=96, layers=2, heads=4, feed_forward=192, positions=160
        ),
        standardise=True,
    )
    return datasets.three_beams("bidirectional", system, data, training)


@recipe("bidirectional/iu-xray/r2gen-gpt", DOCS)
def iu_xray_on_r2gen_gpt() -> RunConfig:
    """R2GenGPT+T2V (Table 4): R2GenGPT's own system and training in deep alignment, with text to vision."""
    config = r2gen_gpt.iu_xray()
    config.system_name = "bidirectional"
    config.system = BidirectionalConfig(
        vision_kind="r2gen_gpt",
        alignment="deep",
        backbone=config.system.backbone,
        language_model=LanguageModelConfig(dtype="bfloat16"),
        reconstruction=False,
    )
    return config


@recipe("bidirectional/iu-xray/r2gen-gpt-shallow", DOCS)
def iu_xray_on_shallow_r2gen_gpt() -> RunConfig:
    """R2GenGPT+T2V in shallow alignment: the vision encoder is frozen, text to vision trains its mapper."""
    return override(iu_xray_on_r2gen_gpt(), {"system": {"alignment": "shallow"}})


def _register_ablations() -> None:
    """Register Table 3 of the paper on every dataset, and the pairs of Table 4 without text to vision."""
    for base in (iu_xray, mimic_cxr, phantom):
        name = base().recipe
        epochs = _EPOCHS.get(name, {})

        @recipe(f"{name}/v2t", DOCS)
        def v2t(base=base, epochs=epochs) -> RunConfig:
            """V2T: only vision to text."""
            config = base()
            config.system.text_to_vision = config.system.reconstruction = False
            config.training.epochs = epochs.get("v2t", config.training.epochs)
            return config

        @recipe(f"{name}/v2t-clip", DOCS)
        def v2t_clip(v2t=v2t, epochs=epochs) -> RunConfig:
            """V2T+CLIP: image and report are matched within the batch instead of text to vision."""
            config = v2t()
            config.system.clip_weight = 1.0
            config.training.epochs = epochs.get("v2t-clip", config.training.epochs)
            return config

        @recipe(f"{name}/v2t-t2v", DOCS)
        def v2t_t2v(base=base, epochs=epochs) -> RunConfig:
            """V2T+T2V: both directions, no reconstruction."""
            config = base()
            config.system.reconstruction = False
            config.training.epochs = epochs.get("v2t-t2v", config.training.epochs)
            return config

    for base in (iu_xray_on_r2gen_gpt, iu_xray_on_shallow_r2gen_gpt):

        @recipe(f"{base().recipe}/v2t", DOCS)
        def r2gen_gpt_alone(base=base) -> RunConfig:
            """R2GenGPT (Table 4): the recipe before the last slash of the name, without text to vision."""
            config = base()
            config.system.text_to_vision = False
            return config


_register_ablations()
