"""R2GenGPT: radiology report generation with frozen LLMs.

Wang, Liu, Wang, Zhou. Meta-Radiology 1(3), 2023. https://github.com/wang-zhanyu/R2GenGPT

One linear layer maps the visual tokens of a Swin Transformer into the word embedding space of a frozen
language model. The prompt contains them between `<Img>` and `</Img>`, and the language model writes the
report. The paper's three alignments differ in what else trains: nothing (shallow), low-rank adapters in the
visual extractor (delta), or the whole visual extractor (deep).

As in the released code, a layer normalisation follows the linear layer, and the tokens of several views are
averaged; `views="concatenate"` puts them one after the other instead.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from radscribe.layers.frozen_language_model import LanguageModelConfig
from radscribe.layers.low_rank import LowRankConfig, add_adapters, train_adapters
from radscribe.systems.config import SystemConfig
from radscribe.systems.language_model_system import LanguageModelSystem
from radscribe.systems.system import Batch, Losses
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import (
    Backbone,
    BackboneConfig,
    VisualTokens,
    average_views,
    split_attention_projections,
)


def _swin() -> BackboneConfig:
    return BackboneConfig(architecture="swin_base_patch4_window7_224", weights="ms_in1k")


@dataclass(kw_only=True, slots=True)
class R2GenGPTConfig(SystemConfig):
    """Parts and switches of R2GenGPT; the defaults are the paper's.

    Attributes:
        language_model: The frozen language model.
        alignment: What trains beside the linear mapper: `shallow` leaves the visual extractor as it is,
            `delta` trains adapters in it, and `deep` trains all of it.
        adapters: Adapters for `alignment` `delta`, on the query and value projections of the visual
            extractor's attention.
        views: What happens to the tokens of several views: `average` them (released code), or `concatenate`
            them.
    """

    backbone: BackboneConfig = field(default_factory=_swin)
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    alignment: Literal["shallow", "delta", "deep"] = "shallow"
    adapters: LowRankConfig = field(default_factory=lambda: LowRankConfig(rank=16))
    views: Literal["average", "concatenate"] = "average"

    def __post_init__(self) -> None:
        if self.alignment == "delta" and not self.adapters.rank:
            raise ValueError("system.alignment delta needs system.adapters.rank above 0")


class R2GenGPT(LanguageModelSystem):
    """The system `r2gen-gpt`: visual extractor, linear mapper, frozen language model."""

    def __init__(self, config: R2GenGPTConfig, vocabulary: Vocabulary, maximum_length: int):
        super().__init__(config.language_model, vocabulary, maximum_length)
        self.config = config
        self.averaged = config.views == "average"
        self.backbone = Backbone(config.backbone)
        if config.alignment == "delta":
            split_attention_projections(self.backbone)
            add_adapters(self.backbone, config.adapters, ["query", "value"])
        elif config.alignment == "shallow":
            self.backbone.requires_grad_(False)
        self.visual_projection = nn.Linear(self.backbone.channels, self.language_model.width)
        self.visual_norm = nn.LayerNorm(self.language_model.width)
        self.train()

    def train(self, mode: bool = True) -> R2GenGPT:
        """Switch the mode; a frozen visual extractor stays in evaluation mode, only its adapters switch."""
        super().train(mode)
        if self.config.alignment != "deep":
            self.backbone.eval()
            train_adapters(self.backbone, mode)
        return self

    def backbone_parameters(self) -> list[nn.Parameter]:
        """See `System.backbone_parameters`."""
        return list(self.backbone.parameters())

    def visual_embeddings(self, views: Tensor, view_mask: Tensor) -> VisualTokens:
        """See `LanguageModelSystem.visual_embeddings`."""
        with torch.no_grad() if self.config.alignment == "shallow" else nullcontext():
            visual: VisualTokens = self.backbone(views, view_mask)
        if self.averaged:
            visual = average_views(visual, view_mask)
        return visual._replace(tokens=self.visual_norm(self.visual_projection(visual.tokens)))

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy of the reports, averaged over words."""
        prompt = self.prompt(self.visual_embeddings(batch.views, batch.view_mask))
        loss = self.language_model.loss(prompt, batch.tokens)
        return Losses(total=loss, terms={"cross_entropy": loss})
