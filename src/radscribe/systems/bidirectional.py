"""Bidirectional learning: a frozen LLM reads visual embeddings, and must generate them from the report.

Bidirectional Learning for the Visual Representation in Radiology Report Generation with Frozen LLMs.
Anonymous, under double-blind review; no released code. Equation numbers in this file are the paper's.

Vision to text (Eq. 1): a masked autoencoder's encoder and a linear visual mapper put a view into the word
embedding space of a frozen language model, which writes the report. In training, two more branches act on
the same visual embeddings E_v. Text to vision (Eq. 2): the language model reads the report, through a text
encoder and a textual mapper, and generates visual embeddings E_g, which E_v must equal. Reconstruction: a
reverse mapper and the autoencoder's decoder must draw the view from E_v. Drafting uses only vision to text.

The paper does not say how the language model, which writes words, generates an embedding. Here E_g of a patch
is read at the position before the patch (field `generated`). The embeddings that the language model reads up
to there pass no gradient to E_v (field `preceding`): by Eq. 4-5, E_g depends on the text encoder, not on the
vision encoder.

The paper takes one view of a study. Here the prompt contains all views of a study, one after the other. Each
view is generated and reconstructed by itself; it is generated from the report and a sentence that names the
projection of the view. R2GenGPT's visual embeddings (the paper's Table 4) are means over the views of a
study; these means are generated from the report alone.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.layers.contrastive import ImageTextMatching, mean_token
from radscribe.layers.frozen_language_model import Embedded, LanguageModelConfig
from radscribe.layers.report_encoder import ReportEncoderConfig
from radscribe.ranges import COUNT_OR_NONE, WEIGHT, check_fields
from radscribe.studies.study import PROJECTIONS
from radscribe.systems.config import ComponentConfig, SystemConfig
from radscribe.systems.language_model_system import LanguageModelSystem
from radscribe.systems.system import Batch, Losses, pad_tokens
from radscribe.text.prompts import VISION_PROMPT
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import (
    Backbone,
    ViewEncoder,
    VisualTokens,
    average_views,
)
from radscribe.vision.masked_autoencoder import MaskedAutoencoder, MaskedAutoencoderConfig

#: Width of the space in which image and report are matched for the comparison with CLIP (paper's footnote 4).
_MATCHING_WIDTH = 512


@dataclass(kw_only=True, slots=True)
class BidirectionalConfig(SystemConfig):
    """Parts and switches. The defaults are the paper's (section 4.1) where the paper gives a value.

    Attributes:
        vision: The masked autoencoder.
        backbone: The timm model that replaces the masked autoencoder unless `vision_kind` is `autoencoder`.
        vision_kind: What makes the visual embeddings. `autoencoder` is the paper's masked autoencoder.
            `backbone` replaces it by a timm model. `r2gen_gpt` makes the embeddings as R2GenGPT does
            (Table 4): the tokens of a timm model are averaged over views, and a layer normalisation follows
            the visual mapper. Only `autoencoder` can reconstruct views.
        alignment: Whether the timm model trains with `vision_kind` `r2gen_gpt`; R2GenGPT's field of this
            name. `shallow` freezes the timm model, `deep` trains it.
        language_model: The frozen language model.
        report_encoder: The text encoder of the text-to-vision branch.
        text_to_vision: Train the text-to-vision branch (T2V) with its loss L_TVC (Eq. 2).
        reconstruction: Train the reconstruction of the views.
        word_loss: How L_VTC combines the losses of a report's words (Eq. 1). `sum` is the equation: the sum
            over words, averaged over studies. `mean` divides by the number of words, as most code does; the
            other losses of Eq. 3 then weigh more, by that number.
        consistency_weight: Weight of L_TVC, λ1 of Eq. 3. The paper's value 1 goes with `word_loss` `sum`.
        reconstruction_weight: Weight of the reconstruction loss L_REC, λ2 of Eq. 3.
        clip_weight: Weight of the image-text matching that the paper compares with (V2T+CLIP); 0 leaves it
            out.
        generated: How an embedding E_g (Eq. 2) is read from the language model. `expected_word` is the mean
            of the word embeddings, weighted with the probability of each word. It lies among the words, and
            the paper finds visual embeddings near words (Figure 4). `state` is the last hidden state after
            the final normalisation. It is much longer than a word embedding, so that visual embeddings drawn
            to it leave the words.
        preceding: What the language model reads before a patch as it generates the patch. `teacher` gives it
            the visual embeddings of the earlier patches, detached. `queries` gives it learnt embeddings, one
            for each patch, so that only the report tells images apart. With both, E_g has no gradient to the
            vision encoder (Eq. 4-5).
        patches: Number of visual embeddings of a view. It must be set with `preceding` `queries` where the
            vision encoder is not the autoencoder (the autoencoder knows its own number). Otherwise it is not
            used.
        consistency_target: Which embeddings Eq. 2 moves. `trained` moves E_v and E_g towards each other, as
            in Eq. 4-5. `detached` leaves E_v as it is, so that the text-to-vision branch learns and changes
            nothing else.
        standardise: Have the visual mapper read features of mean 0 and variance 1 over the training views, as
            linear probes of masked autoencoders do (He et al., CVPR 2022, appendix A.1). In drafting the
            mapping is still linear.
    """

    vision: MaskedAutoencoderConfig = field(default_factory=MaskedAutoencoderConfig)
    vision_kind: Literal["autoencoder", "backbone", "r2gen_gpt"] = "autoencoder"
    alignment: Literal["shallow", "deep"] = "deep"
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    report_encoder: ReportEncoderConfig = field(default_factory=ReportEncoderConfig)
    text_to_vision: bool = True
    reconstruction: bool = True
    word_loss: Literal["sum", "mean"] = "sum"
    consistency_weight: float = 1.0
    reconstruction_weight: float = 1.0
    clip_weight: float = 0.0
    generated: Literal["expected_word", "state"] = "expected_word"
    preceding: Literal["teacher", "queries"] = "teacher"
    patches: int = 0
    consistency_target: Literal["trained", "detached"] = "trained"
    standardise: bool = False

    def __post_init__(self) -> None:
        check_fields(
            self,
            "system.",
            consistency_weight=WEIGHT,
            reconstruction_weight=WEIGHT,
            clip_weight=WEIGHT,
            patches=COUNT_OR_NONE,
        )
        if self.reconstruction and self.vision_kind != "autoencoder":
            raise ValueError("system.reconstruction needs system.vision_kind autoencoder")
        if self.preceding == "queries" and self.vision_kind != "autoencoder" and self.patches < 1:
            raise ValueError(
                "system.preceding queries needs system.patches, the number of embeddings of a view, unless "
                "system.vision_kind is autoencoder"
            )

    @property
    def components(self) -> tuple[ComponentConfig, ...]:
        """See `SystemConfig.components`."""
        autoencoder = (self.vision,) if self.vision_kind == "autoencoder" else ()
        return (*autoencoder, self.report_encoder) if self.text_to_vision else autoencoder


class Bidirectional(LanguageModelSystem):
    """The system `bidirectional`: vision to text and text to vision through one frozen language model."""

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
        self.averaged = config.vision_kind == "r2gen_gpt"
        self.visual_norm = nn.LayerNorm(width) if self.averaged else nn.Identity()
        self.frozen_vision = self.averaged and config.alignment == "shallow"
        self.backbone.requires_grad_(not self.frozen_vision)
        self.learns_projections = config.text_to_vision and not self.averaged
        if config.text_to_vision:
            self.report_encoder = config.report_encoder.build(self.language_model.tokens)
            self.textual_mapper = nn.Linear(self.report_encoder.width, width)
            if config.preceding == "queries":
                self.queries = nn.Parameter(self._first_queries())
        if config.reconstruction:
            self.reverse_mapper = nn.Linear(width, channels)
        if config.clip_weight:
            self.matching = ImageTextMatching()
            self.matching_image = nn.Linear(channels, _MATCHING_WIDTH)
            self.matching_text = nn.Linear(width, _MATCHING_WIDTH)
        self.train()

    def _first_queries(self) -> Tensor:
        """Random embeddings `[patches - 1, width]` as long as word embeddings, one before each patch.

        The first patch needs none: the end of the prompt stands before it.
        """
        backbone = self.backbone
        patches = backbone.patches if isinstance(backbone, MaskedAutoencoder) else self.config.patches
        words = self.language_model.model.get_input_embeddings().weight.float()
        return torch.randn(patches - 1, words.size(1)) * words.std()

    def train(self, mode: bool = True) -> Bidirectional:
        """Switch the mode; a frozen vision encoder stays in evaluation mode, as in R2GenGPT."""
        super().train(mode)
        if self.frozen_vision:
            self.backbone.eval()
        return self

    def backbone_parameters(self) -> list[nn.Parameter]:
        """See `System.backbone_parameters`."""
        return list(self.backbone.parameters())

    # --- vision to text: the only branch that drafting uses ------------------------------------------------

    def visual_embeddings(self, views: Tensor, view_mask: Tensor) -> VisualTokens:
        """E_v of all views of each study, view after view; see `LanguageModelSystem.visual_embeddings`."""
        return self.map_features(self.features(views, view_mask))

    def features(self, views: Tensor, view_mask: Tensor) -> VisualTokens:
        """Z_v of all views of each study, view after view, or their mean over views (`r2gen_gpt`)."""
        with torch.no_grad() if self.frozen_vision else nullcontext():
            visual: VisualTokens = self.backbone(views, view_mask)
        return average_views(visual, view_mask) if self.averaged else visual

    def map_features(self, visual: VisualTokens) -> VisualTokens:
        """E_v = m_v(Z_v) (Eq. 1); the values for absent views are meaningless."""
        features, mask = visual.tokens, visual.mask
        if self.standardise:
            features = torch.zeros_like(features).masked_scatter(
                mask.unsqueeze(-1), self.standardise(features[mask]).to(features.dtype)
            )
        return visual._replace(tokens=self.visual_norm(self.visual_mapper(features)))

    # --- training ------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Losses:
        """The losses of Eq. 1-3."""
        config = self.config
        features = self.features(batch.views, batch.view_mask)
        visual = self.map_features(features)
        # Eq. 1
        terms = {
            "cross_entropy": self.language_model.loss(self.prompt(visual), batch.tokens, config.word_loss)
        }
        weights = {
            "cross_entropy": 1.0,
            "consistency": config.consistency_weight,
            "reconstruction": config.reconstruction_weight,
            "image_text_matching": config.clip_weight,
        }
        images = self.by_image(visual, batch.view_mask)
        if config.text_to_vision:
            target = images if config.consistency_target == "trained" else images.detach()
            terms["consistency"] = self.consistency(target, batch).mean()
        if config.reconstruction:
            terms["reconstruction"] = self.reconstruction(images, batch.views[batch.view_mask])
        if config.clip_weight:
            words = self.language_model.embed_words(batch.tokens[:, 1:])
            terms["image_text_matching"] = self.matching(
                self.matching_image(mean_token(features.tokens, features.mask)),
                self.matching_text(mean_token(words.embeddings.float(), words.mask)),
            )
        # Eq. 3
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return Losses(total, terms)

    def reconstruction(self, visual: Tensor, views: Tensor) -> Tensor:
        """L_REC: mean squared difference of the normalised pixels.

        Args:
            visual: E_v of each view, `[views, patches, width]`.
            views: The views themselves, uint8 `[views, height, width]`.
        """
        assert isinstance(self.backbone, MaskedAutoencoder)
        drawn = self.backbone.reconstruct(self.reverse_mapper(visual))
        return (self.backbone.normalise(views) - drawn).square().mean()

    def consistency(self, visual: Tensor, batch: Batch) -> Tensor:
        """L_TVC of each image (Eq. 2) `[images]`: squared distance of E_v to E_g, averaged over patches.

        Args:
            visual: E_v of each image of the batch, as `by_image` gives it.
            batch: Holds the reports from which E_g is generated, and the projections of the views.
        """
        difference = visual.float() - self.generated(visual, batch).float()
        return difference.square().sum(dim=-1).mean(dim=-1)

    def generated(self, visual: Tensor, batch: Batch) -> Tensor:
        """E_g of each image `[images, patches, width]`, generated from its report (Eq. 2).

        Args:
            visual: E_v of each image of the batch; see `consistency`. No gradient reaches it (Eq. 4-5).
            batch: Holds the reports and the projections; see `consistency`.

        Raises:
            RadScribeError: an image has more or fewer patches than there are queries for.
        """
        ids, mask = self.reports_with_projection(batch)
        text = Embedded(self.textual_mapper(self.report_encoder(ids, mask)), mask)
        prompt = self.language_model.prompt(VISION_PROMPT[0], text, VISION_PROMPT[1])
        read = visual.detach()
        if self.config.preceding == "queries":
            if len(self.queries) + 1 != visual.size(1):
                raise RadScribeError(
                    f"system.patches is {len(self.queries) + 1}, but a view has {visual.size(1)} patches",
                    f"Pass --system.patches {visual.size(1)}",
                )
            # Nothing is generated after the last patch, so what is read at its place does not matter.
            read = F.pad(self.queries, (0, 0, 0, 1)).expand(len(visual), -1, -1)
        following = Embedded(read, torch.ones_like(read[..., 0], dtype=torch.bool))
        if self.config.generated == "state":
            return self.language_model.preceding(prompt, following)
        return self.language_model.expected_words(prompt, following)

    def reports_with_projection(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The report of every image; a sentence names the projection of the view where it is known.

        Returns:
            Token ids for the text encoder `[images, length]` and their mask.
        """
        model = self.language_model
        texts = [model.tokenizer.decode(model.ids(row)) for row in batch.tokens[:, 1:].tolist()]
        if not self.averaged:
            projections = batch.projections
            if projections is None:
                projections = torch.full_like(batch.view_mask, PROJECTIONS.index("unknown"), dtype=torch.long)
            rows = batch.view_mask.nonzero()[:, 0].tolist()
            names = [PROJECTIONS[index] for index in projections[batch.view_mask].tolist()]
            texts = [
                texts[row] + ("" if name == "unknown" else f" this is a {name} view .")
                for row, name in zip(rows, names, strict=True)
            ]
        encoded = [self._report_ids(text) for text in texts]
        device = batch.tokens.device
        ids = pad_tokens(encoded).to(device)
        mask = torch.arange(ids.size(1), device=device) < torch.tensor(
            [[len(row)] for row in encoded], device=device
        )
        return ids, mask

    def _report_ids(self, text: str) -> list[int]:
        """Token ids of a text for the text encoder: at least one, at most as many as it has positions."""
        encoder = self.report_encoder
        if self.config.report_encoder.words:
            return encoder.tokenize(text, self.config.report_encoder.weights)
        return (self.language_model.tokenizer.encode(text) or [0])[: encoder.positions]
