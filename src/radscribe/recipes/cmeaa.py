"""Recipes of CmEAA: values are from the paper's appendix A.3, or else R2GenGPT's, from which it sets out."""

from __future__ import annotations

from radscribe.layers.frozen_language_model import LanguageModelConfig
from radscribe.recipes import datasets
from radscribe.recipes.registry import recipe
from radscribe.runs.config import DataConfig, LabelConfig, RunConfig, override
from radscribe.systems.cmeaa import STABLE, CmEAAConfig

DOCS = "systems/cmeaa.md"

#: Backbones of the parts for real data, with published weights.
_STAGES = {
    "observation-classifier": {"architecture": "densenet121", "weights": "ra_in1k"},
    "retriever": {"architecture": "resnet50", "weights": "a1_in1k"},
}
#: Widths k of NMIA's space that the paper compares (its Table 3); 256 is the default.
_WIDTHS = (32, 64, 128, 512)


def _labelled(data: DataConfig) -> DataConfig:
    """Uncertain observations are positive (appendix A.1); those that a report does not mention are open."""
    data.labels = LabelConfig(uncertain="as_present", missing="ignore")
    return data


def _published(data: DataConfig, draft_length: tuple[int, int]) -> RunConfig:
    system = CmEAAConfig(language_model=LanguageModelConfig(dtype="bfloat16"))
    config = datasets.frozen_language_model("cmeaa", system, _labelled(data), draft_length=draft_length)
    config.training.accumulate = 1
    return config


@recipe("cmeaa/iu-xray", DOCS, stages=_STAGES)
def iu_xray() -> RunConfig:
    """CmEAA on IU X-Ray: frozen Swin-B and Llama-2-7B, two views averaged, both modules."""
    config = _published(datasets.iu_xray_r2gengpt(), datasets.IU_XRAY_DRAFTS)
    config.training.epochs = 10
    return config


@recipe("cmeaa/mimic-cxr", DOCS, stages=_STAGES)
def mimic_cxr() -> RunConfig:
    """CmEAA on MIMIC-CXR: frozen Swin-B and Llama-2-7B, one view, both modules."""
    config = _published(datasets.mimic_cxr_r2gengpt(), datasets.MIMIC_CXR_DRAFTS)
    training = config.training
    training.epochs, training.batch_size = 3, 6
    training.learning_rate = training.backbone_learning_rate = 1e-5
    return config


# The phantom says few things in few ways: hardly a phrase of it would pass the count for real reports.
@recipe("cmeaa/phantom", DOCS, stages={"phrases": {"minimum_count": 1}, "language-model": {"epochs": 30}})
def phantom() -> RunConfig:
    """CmEAA on the phantom: a small language model of your own, the visual extractor trained as well."""
    system = CmEAAConfig(
        backbone=datasets.phantom_backbone(),
        language_model=LanguageModelConfig(name=""),
        frozen_backbone=False,
        views="concatenate",
        **STABLE,
    )
    data, training = datasets.phantom_language_model(), datasets.phantom_language_model_training()
    return datasets.three_beams("cmeaa", system, _labelled(data), training)


def _register_variants() -> None:
    """Register Table 2 and the widths of NMIA on every data set, and the other preset of each."""
    for base in (iu_xray, mimic_cxr, phantom):
        name = base().recipe

        @recipe(f"{name}/linear", DOCS)
        def linear(base=base) -> RunConfig:
            """Model (a) of Table 2: a linear layer, without CFE and NMIA."""
            return override(base(), {"system": {"enhancement": False, "aligner": False}})

        @recipe(f"{name}/cfe", DOCS)
        def enhanced(base=base) -> RunConfig:
            """Model (b) of Table 2: CFE without NMIA."""
            return override(base(), {"system": {"aligner": False}})

        @recipe(f"{name}/nmia", DOCS)
        def aligned(base=base) -> RunConfig:
            """Model (c) of Table 2: NMIA without CFE."""
            return override(base(), {"system": {"enhancement": False}})

        for width in _WIDTHS:

            @recipe(f"{name}/k-{width}", DOCS)
            def narrower(base=base, width=width) -> RunConfig:
                """Another width k of the space in which NMIA aligns; the number is in the name."""
                return override(base(), {"system": {"aligner_width": width}})

    for base in (iu_xray, mimic_cxr):

        @recipe(f"{base().recipe}/stable", DOCS)
        def stable(base=base) -> RunConfig:
            """The preset stable: the bound of NMIA has an upper limit, and a tenth of the weight."""
            return override(base(), {"system": STABLE})

    @recipe("cmeaa/phantom/paper", DOCS)
    def paper() -> RunConfig:
        """The preset paper on the phantom: the Donsker-Varadhan bound, which may diverge, at full weight."""
        return override(phantom(), {"system": {"estimator": "dv", "alignment_weight": 1.0}})


_register_variants()
