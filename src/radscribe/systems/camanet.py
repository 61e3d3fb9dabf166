"""CAMANet: class activation map guided attention network for radiology report generation.

Wang, Bhalerao, Yin, See, He. IEEE Journal of Biomedical and Health Informatics 2024.
https://github.com/Markin-Wang/CAMANet
Equation numbers in this file are the paper's.

A classifier of the 14 observations gives class activation maps. The maps of the predicted observations are
combined into the visual discriminative map, VDM (Eq. 5-9). The sum of the visual tokens, weighted by the VDM,
is the discriminative token; the encoder reads it together with the visual tokens, VDMAE (Eq. 10-12). The
cross-attention of the words that are most similar to the encoded discriminative token gives the textual
discriminative map, TDM (Eq. 13-16). Training draws the TDM to the VDM, VTAC (Eq. 17). Encoder and decoder are
R2Gen's.

These switches have the paper's behaviour as first value and the released code's behaviour as second value:
`map_normalisation`, `word_anchor`, `word_selection`, `consistency_studies`. `classifier` is a sigmoid, as in
the released code and in the paper's results; its second value is the softmax that the paper prints. No
gradient passes through the class activation maps, as in the released code; the paper does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.decoding.search import Decoded
from radscribe.layers.contrastive import ImageTextMatching, mean_token
from radscribe.layers.transformer import UnbiasedLayerNorm
from radscribe.observations import OBSERVATIONS
from radscribe.ranges import WEIGHT, Range, check_fields
from radscribe.systems.encoder_decoder import EncoderDecoderSystem, cross_entropy, input_mask
from radscribe.systems.r2gen import MemoryDrivenTransformer, R2GenConfig
from radscribe.systems.system import Batch, Draft, Evidence, Losses
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import Backbone, VisualTokens

#: A map with a smaller range of values is divided by this number instead of its range.
_FLOOR = 1e-12
#: Training warns when a larger share of the studies of an epoch has an empty VDM.
_MOST_EMPTY_MAPS = 0.5


@dataclass(kw_only=True, slots=True)
class CAMANetConfig(R2GenConfig):
    """Sizes and switches of CAMANet; the defaults are the paper's for IU X-Ray (section IV-C).

    Attributes:
        vdm_assisted_encoder: Use the VDM-assisted encoder (VDMAE); without it and without
            `attention_consistency` this is the paper's Base.
        attention_consistency: Train the consistency of visual and textual maps (VTAC).
        classification_weight: Weight of the classification loss, λ of Eq. 19.
        consistency_weight: Weight of the consistency loss, δ of Eq. 19.
        word_share: Share of the words that make the TDM, k of Eq. 16.
        clip_weight: Weight of the image-text matching loss that the paper compares VTAC with; 0 leaves it
            out.
        classifier: Classifier of the observations: `sigmoid` with bias, from 0.5 on (released code), or
            `softmax` without bias, above 0.5, as printed in Eq. 6-7. One softmax exceeds 0.5 for one
            observation at most; the paper's own results (Figure 8, Table V) need several.
        map_normalisation: How the maps that make a discriminative map are normalised: `each` map by itself
            (Eq. 8-9, 14-16), or `joint`: once, after their maximum was taken (released code).
        word_anchor: What a word must resemble to be selected: the encoded `discriminative_token` (Eq. 13), or
            the encoded `first_patch` (released code, by mistake).
        word_selection: How many words are selected: `ceil` takes k times the number of the report's words,
            rounded up (Eq. 15); `floor` takes at most k times the length of the batch's longest report,
            rounded down (released code).
        consistency_studies: Studies that Eq. 17 is averaged over: `all`, or `with_findings`: only those with
            a positive label (released code).
    """

    vdm_assisted_encoder: bool = True
    attention_consistency: bool = True
    classification_weight: float = 1.0
    consistency_weight: float = 0.15
    word_share: float = 0.25
    clip_weight: float = 0.0
    classifier: Literal["sigmoid", "softmax"] = "sigmoid"
    map_normalisation: Literal["each", "joint"] = "each"
    word_anchor: Literal["discriminative_token", "first_patch"] = "discriminative_token"
    word_selection: Literal["ceil", "floor"] = "ceil"
    consistency_studies: Literal["all", "with_findings"] = "all"

    def __post_init__(self) -> None:
        R2GenConfig.__post_init__(self)  # with slots, super() alone fails
        check_fields(
            self,
            "system.",
            classification_weight=WEIGHT,
            consistency_weight=WEIGHT,
            word_share=Range(0, 1, above=True),
            clip_weight=WEIGHT,
        )
        if self.attention_consistency and not self.vdm_assisted_encoder:
            raise ValueError("system.attention_consistency needs system.vdm_assisted_encoder")


class Encoded(NamedTuple):
    """The encoder's input and output.

    Attributes:
        mean_input: Mean of the tokens that the encoder read, including r', `[studies, width]`.
        tokens: Encoded visual tokens `[studies, tokens, width]`.
        discriminative: The encoded discriminative token r* `[studies, width]`.
    """

    mean_input: Tensor
    tokens: Tensor
    discriminative: Tensor


def normalise_maps(maps: Tensor, mask: Tensor) -> Tensor:
    """Set negative values to 0, and scale each map to 0..1 over the tokens that are there (Eq. 8, Eq. 14).

    Args:
        maps: The maps `[studies, ..., tokens]`.
        mask: bool, broadcastable to `maps`, True for tokens that are there; the others become 0.
    """
    maps = maps.relu()
    low = maps.masked_fill(~mask, torch.inf).amin(-1, keepdim=True)
    high = maps.masked_fill(~mask, 0.0).amax(-1, keepdim=True)
    return ((maps - low) / (high - low).clamp(min=_FLOOR)).masked_fill(~mask, 0.0)


class Classifier(nn.Module):
    """Recognises the 14 observations in the mean visual token, and maps where they are (Eq. 5-9)."""

    def __init__(self, config: CAMANetConfig, channels: int):
        super().__init__()
        self.config = config
        self.head = nn.Linear(channels, len(OBSERVATIONS), bias=config.classifier == "sigmoid")

    def forward(self, visual: VisualTokens) -> Tensor:
        """Logits `[studies, observations]` of the mean visual token (Eq. 5-6); absent tokens are 0."""
        mean = visual.tokens.sum(dim=1) / visual.mask.sum(dim=1, keepdim=True)
        return self.head(mean)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of each observation `[studies, observations]` (Eq. 6)."""
        logits = logits.float()
        return logits.softmax(dim=-1) if self.config.classifier == "softmax" else logits.sigmoid()

    def predicted(self, logits: Tensor) -> Tensor:
        """The observations that are recognised, bool `[studies, observations]` (Eq. 7)."""
        probabilities = self.probabilities(logits)
        return probabilities > 0.5 if self.config.classifier == "softmax" else probabilities >= 0.5

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy, averaged over all labels that are not ignored (NaN); 0 if all are ignored."""
        there = ~labels.isnan()
        truth = labels.nan_to_num().float()
        if self.config.classifier == "softmax":
            losses = F.binary_cross_entropy(self.probabilities(logits), truth, reduction="none")
        else:
            losses = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
        return (losses * there).sum() / there.sum().clamp(min=1)

    def activation_maps(self, visual: VisualTokens) -> Tensor:
        """What each visual token adds to each observation `[studies, observations, tokens]`, detached."""
        return self.head.weight.detach() @ visual.tokens.detach().transpose(1, 2)

    def discriminative_map(self, activation_maps: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        """The VDM `[studies, tokens]` (Eq. 8-9); 0 for studies without a predicted observation.

        Args:
            activation_maps: Class activation maps `[studies, observations, tokens]`.
            predicted: bool `[studies, observations]`, True for predicted observations.
            mask: bool `[studies, tokens]`, True for tokens that are there.
        """
        mask = mask.unsqueeze(1)
        maps = activation_maps.relu()
        if self.config.map_normalisation == "each":
            maps = normalise_maps(maps, mask)
        largest = (maps * predicted.unsqueeze(-1)).amax(dim=1)
        return largest if self.config.map_normalisation == "each" else normalise_maps(largest, mask[:, 0])


class CAMANetTransformer(MemoryDrivenTransformer):
    """R2Gen's encoder and decoder, with the classifier, the discriminative token, the VDM and the TDM."""

    def __init__(self, config: CAMANetConfig, channels: int, logits: int):
        super().__init__(config, channels, logits)
        self.config = config
        self.classifier = Classifier(config, channels) if config.vdm_assisted_encoder else None
        self.discriminative_norm = UnbiasedLayerNorm(channels) if config.vdm_assisted_encoder else None

    def visual_discriminative_map(self, visual: VisualTokens, logits: Tensor | None = None) -> Tensor:
        """The VDM `[studies, tokens]` of the predicted observations; without `logits` they are computed."""
        assert self.classifier is not None
        predicted = self.classifier.predicted(self.classifier(visual) if logits is None else logits)
        return self.classifier.discriminative_map(
            self.classifier.activation_maps(visual), predicted, visual.mask
        )

    def discriminative_token(self, visual: VisualTokens, vdm: Tensor) -> Tensor:
        """The discriminative token r' `[studies, channels]` (Eq. 10-11)."""
        assert self.discriminative_norm is not None
        return self.discriminative_norm((vdm.unsqueeze(1) @ visual.tokens).squeeze(1))

    def encode_beside(self, visual: VisualTokens, vdm: Tensor) -> Encoded:
        """Encode the visual tokens with the discriminative token before them (Eq. 12)."""
        tokens = torch.cat([self.discriminative_token(visual, vdm).unsqueeze(1), visual.tokens], dim=1)
        mask = F.pad(visual.mask, (1, 0), value=True)
        projected = self.visual_projection(tokens)
        encoded = self.encoder(projected, mask)
        return Encoded(mean_token(projected, mask), encoded[:, 1:], encoded[:, 0])

    def encode(self, visual: VisualTokens) -> Tensor:
        """See `TransformerNetwork.encode`; the encoded discriminative token is not returned."""
        if self.classifier is None:
            return super().encode(visual)
        return self.encode_beside(visual, self.visual_discriminative_map(visual)).tokens

    def select_words(self, encoded: Encoded, tokens: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Select the important words by the decoder's own input: embedding plus position.

        Args:
            encoded: Output of the encoder.
            tokens: The decoder's input, int `[studies, length]`: begin and words.
            token_mask: bool `[studies, length]`, True for the begin and the words.

        Returns:
            Similarity of each word to the anchor `[studies, length]` (Eq. 13), and bool `[studies, length]`,
            True for the share k of the words with the highest similarity.
        """
        words = self.embed(tokens) + self.positions.code[: tokens.size(1)]
        by_mistake = self.config.word_anchor == "first_patch"
        anchor = encoded.tokens[:, 0] if by_mistake else encoded.discriminative
        similarity = F.cosine_similarity(words, anchor.unsqueeze(1), dim=-1)
        order = similarity.masked_fill(~token_mask, -torch.inf).argsort(dim=1, descending=True)
        count = (self.config.word_share * token_mask.sum(dim=1, keepdim=True)).ceil()
        if self.config.word_selection == "floor":
            count = count.clamp(max=int(self.config.word_share * tokens.size(1)))
        return similarity, (order.argsort(dim=1) < count) & token_mask

    def textual_discriminative_map(
        self, attention: Tensor, similarity: Tensor, selected: Tensor, mask: Tensor
    ) -> Tensor:
        """The TDM `[studies, tokens]` (Eq. 14-16).

        Args:
            attention: Cross-attention of the last layer `[studies, heads, length, tokens]`.
            similarity: Similarity of each word to the anchor `[studies, length]`.
            selected: bool `[studies, length]`, True for the important words.
            mask: bool `[studies, tokens]`, True for visual tokens that are there.
        """
        mask = mask.unsqueeze(1)
        maps = attention.mean(dim=1)
        if self.config.map_normalisation == "each":
            maps = normalise_maps(maps, mask)
        weighted = maps * (similarity.relu() * selected).unsqueeze(-1)
        largest = weighted.amax(dim=1)
        return largest if self.config.map_normalisation == "each" else normalise_maps(largest, mask[:, 0])

    def consistency(self, tdm: Tensor, vdm: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        """Mean squared difference of TDM and VDM over tokens that are there, then over studies (Eq. 17)."""
        per_study = ((tdm - vdm).square() * mask).sum(dim=1) / mask.sum(dim=1)
        if self.config.consistency_studies == "all":
            return per_study.mean()
        chosen = (labels == 1).any(dim=1)
        return (per_study * chosen).sum() / chosen.sum().clamp(min=1)


class CAMANet(EncoderDecoderSystem):
    """The system `camanet`: visual extractor, classifier, and the memory-driven Transformer with its maps."""

    network: CAMANetTransformer

    def __init__(self, config: CAMANetConfig, vocabulary: Vocabulary, maximum_length: int):
        backbone = Backbone(config.backbone)
        network = CAMANetTransformer(config, backbone.channels, vocabulary.logits)
        super().__init__(backbone, network, vocabulary, maximum_length)
        self.config = config
        if config.clip_weight:
            self.matching = ImageTextMatching()
            self.matching_image = nn.Linear(config.width, config.width)
            self.matching_text = nn.Linear(config.width, config.width)

    def forward(self, batch: Batch) -> Losses:
        """The losses of Eq. 17-19, and image-text matching where `clip_weight` asks for it."""
        config, network = self.config, self.network
        visual = self.backbone(batch.views, batch.view_mask)
        tokens, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
        mask = input_mask(tokens)
        terms: dict[str, Tensor] = {}
        shares: dict[str, Tensor] = {}
        weights = {
            "cross_entropy": 1.0,
            "classification": config.classification_weight,
            "consistency": config.consistency_weight,
            "image_text_matching": config.clip_weight,
        }
        vdm, assisted = None, None
        if network.classifier:
            logits = network.classifier(visual)
            terms["classification"] = network.classifier.loss(logits, batch.labels)
            vdm = network.visual_discriminative_map(visual, logits)
            shares["empty_vdm"] = (vdm == 0).all(dim=1).float().mean()
            assisted = network.encode_beside(visual, vdm)
            encoded, mean_input = assisted.tokens, assisted.mean_input
        else:
            projected = network.visual_projection(visual.tokens)
            encoded = network.encoder(projected, visual.mask)
            mean_input = mean_token(projected, visual.mask)
        last = config.layers - 1 if config.attention_consistency else None
        decoded, attention = network.decode(encoded, visual.mask, tokens, mask, attention_from=last)
        terms["cross_entropy"] = cross_entropy(network.word_logprobs(decoded), targets, mask)
        if attention and assisted and vdm is not None:
            similarity, selected = network.select_words(assisted, tokens, mask)
            tdm = network.textual_discriminative_map(attention[-1], similarity, selected, visual.mask)
            terms["consistency"] = network.consistency(tdm, vdm, visual.mask, batch.labels)
        if config.clip_weight:
            terms["image_text_matching"] = self.matching(
                self.matching_image(mean_input), self.matching_text(mean_token(decoded, mask))
            )
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return Losses(total, terms, shares)

    def warning(self, shares: Mapping[str, float]) -> str | None:
        """See `System.warning`; if most VDMs are empty, VDMAE and VTAC have no effect."""
        empty = shares.get("empty_vdm", 0.0)
        if empty <= _MOST_EMPTY_MAPS:
            return None
        advice = (
            "Predict several with --system.classifier sigmoid"
            if self.config.classifier == "softmax"
            else "In the first epochs this is usual; if it stays so, choose other labels with "
            "--data.labels.source or --data.labels.uncertain as_present"
        )
        return (
            f"{empty:.0%} of the studies have an empty visual discriminative map (VDM): "
            f"the classifier predicts no observation for them. {advice}"
        )

    def observation_probabilities(self, views: Tensor, view_mask: Tensor) -> Tensor | None:
        """See `System.observation_probabilities`; the Base has no classifier."""
        return self._probabilities(self.backbone(views, view_mask))

    def _probabilities(self, visual: VisualTokens) -> Tensor | None:
        classifier = self.network.classifier
        return classifier.probabilities(classifier(visual)) if classifier else None

    def draft(self, visual: VisualTokens, decoded: Decoded) -> Draft:
        """See `EncoderDecoderSystem.draft`; drafts also have the classifier's probabilities."""
        draft = super().draft(visual, decoded)
        draft.probabilities = self._probabilities(visual)
        return draft

    def evidence(self, visual: VisualTokens, inputs: Tensor) -> Evidence:
        """See `EncoderDecoderSystem.evidence`; adds VDM, TDM, class activation maps and important words."""
        evidence = super().evidence(visual, inputs)
        network = self.network
        if network.classifier is None:
            return evidence
        logits = network.classifier(visual)
        vdm = network.visual_discriminative_map(visual, logits)
        mask = input_mask(inputs)
        similarity, selected = network.select_words(network.encode_beside(visual, vdm), inputs, mask)
        tdm = network.textual_discriminative_map(evidence.attention[:, -1], similarity, selected, visual.mask)
        evidence.maps = {"VDM": vdm, "TDM": tdm}
        evidence.activation_maps = network.classifier.activation_maps(visual)
        evidence.probabilities = network.classifier.probabilities(logits)
        # The decoder wrote the word that it reads at a position one position earlier.
        evidence.important = F.pad(selected[:, 1:], (0, 1))
        return evidence
