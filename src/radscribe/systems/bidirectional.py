"""Bidirectional learning with a frozen LLM: what a language model shall read, it shall be able to generate.

Bidirectional Learning for the Visual Representation in Radiology Report Generation with Frozen LLMs.
Anonymous, under double-blind review; no released code. Equation numbers in this file are the paper's.

Vision to text (Eq. 1): a masked autoencoder's encoder and a linear visual mapper put a view into the word
embedding space of a frozen language model, which writes the report. In training, two more branches act on the
same visual embeddings: text to vision, in which the language model reads the report, through a text encoder
and a textual mapper, and its hidden states must predict the visual embeddings (Eq. 2); and reconstruction, in
which a reverse mapper and the autoencoder's decoder must draw the view from them. Drafting uses vision to
text alone.

The paper does not say where the visual embeddings that the language model generates are read: here it is
given the visual embeddings themselves, and the hidden state in front of each must equal it. The paper takes
one view a study: here the views of a study stand behind each other in the report's prompt, and each is
generated and reconstructed by itself, from the report with a sentence that names its projection.

Gradients of text to vision reach the visual embeddings as its target (Eq. 4-5), and as what is read before
the next; `consistency_target` and `teacher` switch each off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from radscribe.layers.contrastive import ImageTextMatching, mean_token
from radscribe.layers.frozen_language_model import Embedded, LanguageModelConfig
from radscribe.layers.report_encoder import ReportEncoder, ReportEncoderConfig
from radscribe.ranges import WEIGHT, check_fields
from radscribe.studies.study import PROJECTIONS
from radscribe.systems.language_model_system import LanguageModelSystem
from radscribe.systems.system import Batch, Losses
from radscribe.text.prompts import VISION_PROMPT
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import Backbone, BackboneConfig, ViewEncoder
from radscribe.vision.masked_autoencoder import MaskedAutoencoder, MaskedAutoencoderConfig

#: Width of the space in which the comparison with CLIP matches image and report (the paper's footnote 4).
_MATCHING_WIDTH = 512


@dataclass(kw_only=True)
class BidirectionalConfig:
    """Parts and switches; the defaults are the paper's (section 4.1).

    Attributes:
        vision: the masked autoencoder.
        backbone: with `vision_kind` `backbone`: a timm model in its place, as for the paper's Table 4.
        vision_kind: `autoencoder` or `backbone`; the latter cannot reconstruct.
        language_model: the frozen language model.
        report_encoder: the text encoder of the text-to-vision branch.
        text_to_vision: T2V, with its loss (Eq. 2).
        reconstruction: of the views.
        consistency_weight: λ1 of Eq. 3.
        reconstruction_weight: λ2 of Eq. 3.
        clip_weight: of the image-text matching that the paper compares with (V2T+CLIP); 0 leaves it out.
        consistency_target: `trained`, or `detached`: Eq. 2 then moves the text encoder alone to the visual
            embeddings, and not these.
        teacher: whether gradients also pass through the visual embeddings that the language model reads as it
            generates the next: `trained` or `detached`.
        standardise: have the visual mapper read features of mean 0 and variance 1 over the training views, as
            linear probes of masked autoencoders do (He et al., CVPR 2022, appendix A.1). In drafting it is
            still a linear map.
    """

    vision: MaskedAutoencoderConfig = field(default_factory=MaskedAutoencoderConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    vision_kind: Literal["autoencoder", "backbone"] = "autoencoder"
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    report_encoder: ReportEncoderConfig = field(default_factory=ReportEncoderConfig)
    text_to_vision: bool = True
    reconstruction: bool = True
    consistency_weight: float = 1.0
    reconstruction_weight: float = 1.0
    clip_weight: float = 0.0
    consistency_target: Literal["trained", "detached"] = "trained"
    teacher: Literal["trained", "detached"] = "trained"
    standardise: bool = False

    def __post_init__(self) -> None:
        check_fields(
            self,
            "system.",
            consistency_weight=WEIGHT,
            reconstruction_weight=WEIGHT,
            clip_weight=WEIGHT,
        )
        if self.reconstruction and self.vision_kind == "backbone":
            raise ValueError("system.reconstruction needs system.vision_kind autoencoder")


class Bidirectional(LanguageModelSystem):
    """The system `bidirectional`: both directions through one frozen language model."""

    def __init__(self, config: BidirectionalConfig, vocabulary: Vocabulary, maximum_length: int):
        super().__init__(config.language_model, vocabulary, maximum_length)
        self.config = config
        self.backbone: ViewEncoder = (
            MaskedAutoencoder(config.vision, decoder=config.reconstruction)
            if config.vision_kind == "autoencoder"
            else Backbone(config.backbone)
        )
        channels, width = self.backbone.channels, self.language_model.width
        self.standardise = nn.BatchNorm1d(channels, affine=False) if config.standardise else None
        self.visual_mapper = nn.Linear(channels, width)
        if config.text_to_vision:
            self.report_encoder = ReportEncoder(config.report_encoder, self.language_model.tokens)
            self.textual_mapper = nn.Linear(self.report_encoder.width, width)
        if config.reconstruction:
            self.reverse_mapper = nn.Linear(width, channels)
        if config.clip_weight:
            self.matching = ImageTextMatching()
            self.matching_image = nn.Linear(channels, _MATCHING_WIDTH)
            self.matching_text = nn.Linear(width, _MATCHING_WIDTH)
        self.train()

    def backbone_parameters(self) -> list[nn.Parameter]:
        """See `System.backbone_parameters`."""
        return list(self.backbone.parameters())

    # --- vision to text, all that drafting uses ------------------------------------------------------------

    def visual_embeddings(self, views: Tensor, view_mask: Tensor) -> Embedded:
        """E_v of all views of each study, behind each other; see `LanguageModelSystem.visual_embeddings`."""
        features, mask = self.backbone(views, view_mask)
        return self.map_features(features, mask)

    def map_features(self, features: Tensor, mask: Tensor) -> Embedded:
        """E_v (Eq. 1) of features `[studies, patches, channels]`; where nothing is there it means nothing."""
        if self.standardise:
            features = torch.zeros_like(features).masked_scatter(
                mask.unsqueeze(-1), self.standardise(features[mask]).to(features.dtype)
            )
        return Embedded(self.visual_mapper(features), mask)

    def on_views(self, attention: Tensor, view_mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `LanguageModelSystem.on_views`."""
        per_view = attention.size(-1) // view_mask.size(1)
        return attention, view_mask.unsqueeze(-1).expand(-1, -1, per_view).flatten(1)

    # --- training ------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Losses:
        """The losses of Eq. 1-3."""
        config = self.config
        features, mask = self.backbone(batch.views, batch.view_mask)
        embedded = self.map_features(features, mask)
        visual, prompt = embedded.embeddings, self.prompt(embedded)
        terms = {"cross_entropy": self.language_model.loss(prompt, batch.tokens)}  # Eq. 1, a word's mean
        weights = {
            "cross_entropy": 1.0,
            "consistency": config.consistency_weight,
            "reconstruction": config.reconstruction_weight,
            "image_text_matching": config.clip_weight,
        }
        # From here on each view stands by itself: `[views that are there, patches, width]`.
        of_views = visual.unflatten(1, (batch.view_mask.size(1), -1))[batch.view_mask]
        if config.text_to_vision:
            terms["consistency"] = self.consistency(of_views, batch)
        if config.reconstruction:
            terms["reconstruction"] = self.reconstruction(of_views, batch.views[batch.view_mask])
        if config.clip_weight:
            words = self.language_model.embed_words(batch.tokens[:, 1:])
            terms["image_text_matching"] = self.matching(
                self.matching_image(mean_token(features, mask)),
                self.matching_text(mean_token(words.embeddings.float(), words.mask)),
            )
        # Eq. 3
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return Losses(total, terms)

    def reconstruction(self, visual: Tensor, views: Tensor) -> Tensor:
        """L_REC: squared difference of the normalised pixels, their mean.

        Args:
            visual: E_v of each view, `[views, patches, width]`.
            views: uint8 `[views, height, width]`.
        """
        assert isinstance(self.backbone, MaskedAutoencoder)
        drawn = self.backbone.reconstruct(self.reverse_mapper(visual))
        return (self.backbone.normalise(views) - drawn).square().mean()

    def consistency(self, visual: Tensor, batch: Batch) -> Tensor:
        """L_TVC (Eq. 2): squared distance of each visual embedding to the generated one, a patch's mean.

        Args:
            visual: E_v of each view that is there, `[views, patches, width]`.
            batch: with the reports and the projections of the views.
        """
        ids, mask = self.reports_with_projection(batch)
        text = Embedded(self.textual_mapper(self.report_encoder(ids, mask)), mask)
        prompt = self.language_model.prompt(VISION_PROMPT[0], text, VISION_PROMPT[1])
        read = visual if self.config.teacher == "trained" else visual.detach()
        following = Embedded(read, torch.ones_like(read[..., 0], dtype=torch.bool))
        generated = self.language_model.preceding(prompt, following)
        target = visual if self.config.consistency_target == "trained" else visual.detach()
        return (target - generated).square().sum(dim=-1).mean()

    def reports_with_projection(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The report of every view that is there, with a sentence about its projection where that is known.

        Returns:
            Ids of the text encoder's tokenizer `[views, length]` and their mask.
        """
        model = self.language_model
        texts = [model.tokenizer.decode(model.ids(row)) for row in batch.tokens[:, 1:].tolist()]
        rows = batch.view_mask.nonzero()[:, 0].tolist()
        if batch.projections is None:
            names = ["unknown"] * len(rows)
        else:
            names = [PROJECTIONS[index] for index in batch.projections[batch.view_mask].tolist()]
        encoded = [
            self._report_ids(texts[row] + ("" if name == "unknown" else f" this is a {name} view ."))
            for row, name in zip(rows, names, strict=True)
        ]
        length = max(map(len, encoded))
        device = batch.tokens.device
        ids = torch.tensor([each + [0] * (length - len(each)) for each in encoded], device=device)
        mask = torch.arange(length, device=device) < torch.tensor(
            [[len(each)] for each in encoded], device=device
        )
        return ids, mask

    def _report_ids(self, text: str) -> list[int]:
        """Ids of a text for the text encoder, at most as many as it has positions, at least one."""
        encoder = self.report_encoder
        if self.config.report_encoder.words:
            return encoder.tokenize(text, self.config.report_encoder.weights)
        return (self.language_model.tokenizer.encode(text) or [0])[: encoder.positions]
