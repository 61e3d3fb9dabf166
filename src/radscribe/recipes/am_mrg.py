"""Recipes of AM-MRG: values are from the paper's section IV-B and its released code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radscribe.layers.frozen_language_model import LanguageModelConfig
from radscribe.layers.hopfield import HopfieldConfig
from radscribe.recipes import datasets
from radscribe.recipes.registry import RECIPES, recipe
from radscribe.runs.config import DataConfig, RunConfig, override
from radscribe.systems.am_mrg import AMMRGConfig

DOCS = "systems/am-mrg.md"

#: A setting that names another stage stands for the directory of that stage.
_STAGES: dict[str, Mapping[str, Any]] = {"visual-bank": {"queries": "disease-queries"}}
#: Width of queries and banks on the phantom.
_SMALL = 64
_PHANTOM_STAGES: dict[str, Mapping[str, Any]] = {
    "language-model": {"epochs": 30},
    "disease-queries": {
        "architecture": "test_resnet",
        "weights": "none",
        "width": _SMALL,
        "layers": 2,
        "attention_heads": 4,
        "epochs": 30,
        "batch": 16,
        "learning_rate": 1e-3,
    },
    "visual-bank": {"queries": "disease-queries", "width": _SMALL, "most_rows": 60},
    "report-bank": {"encoder": "language-model", "pooling": "embeddings", "width": _SMALL, "rows": 600},
}
#: Rows of a disease (Table V), reports (Table VI), beta (Table VII) and activation maps (Table IX).
_REGIONS = (100, 250, 750, 1000)
_REPORTS = (500, 1000, 3000, 10000)
_BETAS = (0.5, 1.0, 2.0, 8.0, 16.0)
_MAPS = ("hires", "xgrad", "eigen", "grad++")
#: Language models of Tables VIII and X by name; InternLM's code is not in transformers.
_LANGUAGE_MODELS = {
    "llama-2": "meta-llama/Llama-2-7b-chat-hf",
    "vicuna": "lmsys/vicuna-7b-v1.5",
    "orca-2": "microsoft/Orca-2-7b",
    "yi-1.5": "01-ai/Yi-1.5-9B",
    "gpt2-medium": "openai-community/gpt2-medium",
}


def _published(data: DataConfig, draft_length: tuple[int, int], epochs: int) -> RunConfig:
    system = AMMRGConfig(language_model=LanguageModelConfig(dtype="bfloat16"))
    config = datasets.frozen_language_model("am-mrg", system, data, draft_length=draft_length)
    training = config.training
    training.epochs, training.batch_size, training.accumulate = epochs, 2, 1
    training.select_by = "BLEU-4"
    return config


@recipe("am-mrg/iu-xray", DOCS, stages=_STAGES)
def iu_xray() -> RunConfig:
    """AM-MRG on IU X-Ray: MambaXray-VL's encoder and Llama-2-7B, two views averaged, both memories."""
    return _published(datasets.iu_xray_r2gengpt(), datasets.IU_XRAY_DRAFTS, 30)


@recipe("am-mrg/mimic-cxr", DOCS, stages=_STAGES)
def mimic_cxr() -> RunConfig:
    """AM-MRG on MIMIC-CXR: MambaXray-VL's encoder and Llama-2-7B, findings, one view, both memories."""
    data = datasets.mimic_cxr_r2gengpt()
    data.section = "findings"
    return _published(data, datasets.MIMIC_CXR_DRAFTS, 10)


@recipe("am-mrg/chexpert-plus", DOCS, stages=_STAGES)
def chexpert_plus() -> RunConfig:
    """AM-MRG on CheXpert Plus: as on MIMIC-CXR, whose text rules the released code applies here too."""
    return mimic_cxr()


@recipe("am-mrg/phantom", DOCS, stages=_PHANTOM_STAGES)
def phantom() -> RunConfig:
    """AM-MRG on the phantom: one small encoder for both stages, and a small language model of your own."""
    system = AMMRGConfig(
        backbone=datasets.phantom_backbone(),
        encoder="stage-1",
        language_model=LanguageModelConfig(name=""),
        # Products of states and keys are small in layers so small: 256 picks entries about as 4 does in
        # those of the paper's size, where 4 would recall all entries alike.
        hopfield=HopfieldConfig(heads=4, hidden=32, beta=256.0),
    )
    data, training = datasets.phantom_language_model(), datasets.phantom_language_model_training()
    return datasets.three_beams("am-mrg", system, data, training)


def _with_stage(base: RunConfig, kind: str, settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The stages of a recipe, with other settings of one of them."""
    stages = RECIPES[base.recipe].stages
    return {**stages, kind: {**stages.get(kind, {}), **settings}}


def _register_variants() -> None:
    """Register Tables IV to X on every data set, as far as it can have them."""
    for base in (iu_xray, mimic_cxr, chexpert_plus, phantom):
        name = base().recipe

        @recipe(f"{name}/baseline", DOCS)
        def baseline(base=base) -> RunConfig:
            """Row 01 of Table IV: neither memory."""
            return override(base(), {"system": {"visual_memory": False, "report_memory": False}})

        @recipe(f"{name}/visual", DOCS)
        def visual(base=base) -> RunConfig:
            """Row 02 of Table IV: regions, without reports."""
            return override(base(), {"system": {"report_memory": False}})

        @recipe(f"{name}/report", DOCS)
        def report(base=base) -> RunConfig:
            """Row 03 of Table IV: reports, without regions."""
            return override(base(), {"system": {"visual_memory": False}})

        for maps in _MAPS:

            @recipe(f"{name}/maps-{maps}", DOCS, stages=_with_stage(base(), "visual-bank", {"maps": maps}))
            def with_maps(base=base) -> RunConfig:
                """Other activation maps find the regions (Table IX); their kind is in the name."""
                return base()

    for base in (iu_xray, mimic_cxr, chexpert_plus):
        name = base().recipe
        for beta in _BETAS:

            @recipe(f"{name}/beta-{beta:g}", DOCS)
            def with_beta(base=base, beta=beta) -> RunConfig:
                """Another inverse temperature of the Hopfield layers (Table VII); it is in the name."""
                return override(base(), {"system": {"hopfield": {"beta": beta}}})

        for rows in _REGIONS:

            @recipe(
                f"{name}/regions-{rows}", DOCS, stages=_with_stage(base(), "visual-bank", {"most_rows": rows})
            )
            def with_regions(base=base) -> RunConfig:
                """Another largest number of regions of a disease (Table V); the number is in the name."""
                return base()

        for rows in _REPORTS:

            @recipe(f"{name}/reports-{rows}", DOCS, stages=_with_stage(base(), "report-bank", {"rows": rows}))
            def with_reports(base=base) -> RunConfig:
                """Another number of reports in memory (Table VI); the number is in the name."""
                return base()

        for short, model in _LANGUAGE_MODELS.items():
            embedded = {"encoder": model, "pooling": "embeddings"}

            @recipe(f"{name}/encoder-{short}", DOCS, stages=_with_stage(base(), "report-bank", embedded))
            def encoded_by(base=base) -> RunConfig:
                """A language model's embeddings are the features of reports (Table VIII)."""
                return base()

            if short != "llama-2":  # it is the default

                @recipe(f"{name}/llm-{short}", DOCS)
                def written_by(base=base, model=model) -> RunConfig:
                    """Another language model writes (Table X); its name is in the name."""
                    return override(base(), {"system": {"language_model": {"name": model}}})

        @recipe(f"{name}/released", DOCS)
        def released(base=base) -> RunConfig:
            """The released code: BLIP-2's Q-Former with new queries, and what is recalled in blocks."""
            q_former = {"weights": "blip2_pretrained_flant5xxl.pth"}
            changed = {"query_former": "blip2-fresh", "q_former": q_former, "order": "blocks"}
            return override(base(), {"system": changed})


_register_variants()
