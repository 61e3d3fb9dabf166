"""Tiny configurations, systems and stores: tests that build or train one take seconds, not minutes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny_language_models import tiny_language_model
from tiny_parts import tiny_parts

from radscribe.recipes import get_recipe
from radscribe.runs.config import RunConfig, override
from radscribe.studies.prepare import prepare
from radscribe.systems.registry import get_system
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import Backbone, VisualTokens


def tiny_store(path: Path, studies: int = 40, short_side: int = 64) -> Path:
    """A prepared phantom store."""
    prepare("phantom", path, short_side=short_side, studies=studies, workers=1, progress=False)
    return path


def config(recipe: str = "r2gen-cmn/phantom", **fields: Any) -> RunConfig:
    """A recipe made so small that its system has a few kilobytes, with some fields of the system changed."""
    base = get_recipe(recipe).build()
    small: dict[str, Any] = {"backbone": {"architecture": "test_byobnet", "weights": "none"}}
    if base.system.language_model:
        small["language_model"] = {"name": str(tiny_language_model())}
    else:
        small |= {"width": 32, "feed_forward": 48, "heads": 4, "layers": 1, "dropout": 0.1}
    if base.system_name == "r2gen-cmn":
        small |= {"memory_size": 24, "top_k": 5}
    if base.system_name == "am-mrg":
        small |= {"hopfield": {"heads": 2, "hidden": 8}}
        small |= {"q_former": {"width": 16, "layers": 2, "heads": 2, "channels": 24}}
    if base.system_name == "bidirectional":
        small["vision"] = {"image_size": 56, "patch_size": 14}
    changed = override(
        base,
        {
            "data": {"minimum_count": 1, "transform": {"short_side": 64, "crop": 56}},
            "system": small,
            "training": {"epochs": 2, "batch_size": 4, "threads": 1, "device": "cpu"},
            "decoding": {"beams": 2, "maximum_length": 20},
        },
    )
    changed.system = replace(changed.system, **fields)
    for field, kind in changed.system.parts.items():
        setattr(changed.system, field, tiny_parts()[kind])
    return changed


def tiny_config(store: Path, recipe: str = "r2gen-cmn/phantom", **training: Any) -> RunConfig:
    """`config` for a training in which an epoch over `tiny_store` takes a second."""
    changed = override(config(recipe), {"training": training})
    changed.store = str(store)
    return changed


def system(config: RunConfig, reports: Iterable[str], *, seed: int = 0) -> Any:
    """The system of a configuration, with random weights and the words of `reports`, in evaluation mode."""
    vocabulary = Vocabulary.build(list(reports), config.data.cleaning, 1)
    torch.manual_seed(seed)
    built = get_system(config.system_name).build(config.system, vocabulary, config.data.maximum_length)
    if built.tokenizer is None:
        # Random logits are flat, and beams of near ties would compare rounding errors.
        with torch.no_grad():
            built.network.logits.weight.mul_(8)
    return built.eval()


class DiseaseQueries(torch.nn.Module):
    """A backbone whose visual tokens are queries: each reads all views, and none has a place on them."""

    def __init__(self, backbone: Backbone, queries: int = 14):
        super().__init__()
        self.backbone = backbone
        generator = torch.Generator().manual_seed(0)
        self.queries = torch.nn.Parameter(torch.randn(queries, backbone.channels, generator=generator))

    def forward(self, views: torch.Tensor, view_mask: torch.Tensor) -> VisualTokens:
        visual = self.backbone(views, view_mask)
        scores = self.queries @ visual.tokens.transpose(1, 2)
        read = scores.masked_fill(~visual.mask.unsqueeze(1), -torch.inf).softmax(-1) @ visual.tokens
        return VisualTokens(read, torch.ones(read.shape[:2], dtype=torch.bool))
