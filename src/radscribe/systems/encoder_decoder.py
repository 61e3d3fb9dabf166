"""The common parts of the R2Gen family of systems: backbone, network that decodes words, cross-entropy."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.decoding.search import (
    Decoded,
    DecoderState,
    DecodingConfig,
    Leading,
    beams_of,
    decode,
    decode_steps,
)
from radscribe.layers.dropout import Dropout
from radscribe.layers.transformer import Decoder, DecoderOutput, Encoder, Norm, SinusoidalPositions
from radscribe.ranges import DROPOUT, LAYERS, WIDTH, check_divisible, check_fields
from radscribe.systems.config import SystemConfig
from radscribe.systems.system import Batch, Draft, Evidence, Losses, System
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import Backbone, VisualTokens


@dataclass(kw_only=True, slots=True)
class TransformerConfig(SystemConfig):
    """Sizes that all systems of the R2Gen family have; the defaults are the papers'.

    Attributes:
        width: Width d of the hidden states.
        feed_forward: Hidden width of the feed-forward layers.
        heads: Number of attention heads of each layer.
        layers: Number of layers of the encoder, and of the decoder.
        dropout: Dropout probability in the Transformer.
        visual_dropout: Dropout probability after visual tokens are projected to `width`.
    """

    width: int = 512
    feed_forward: int = 512
    heads: int = 8
    layers: int = 3
    dropout: float = 0.1
    visual_dropout: float = 0.5

    def __post_init__(self) -> None:
        check_fields(
            self,
            "system.",
            width=WIDTH,
            feed_forward=WIDTH,
            heads=WIDTH,
            layers=LAYERS,
            dropout=DROPOUT,
            visual_dropout=DROPOUT,
        )
        check_divisible("system.width", self.width, "system.heads", self.heads)


class TransformerNetwork(nn.Module):
    """The network after the backbone: projection of visual tokens, encoder, embedding, decoder, output layer.

    Args:
        config: Sizes of the network.
        channels: Number of channels of a visual token.
        logits: Number of outputs: one for each word and one for the end.
        norm: Makes the decoder's layer normalisations; by default plain ones.
    """

    def __init__(self, config: TransformerConfig, channels: int, logits: int, norm: Norm | None = None):
        super().__init__()
        width = config.width
        self.visual_projection = nn.Sequential(
            nn.Linear(channels, width), nn.ReLU(), Dropout(config.visual_dropout)
        )
        self.embedding = nn.Embedding(logits, width)
        self.positions = SinusoidalPositions(width, config.dropout)
        sizes = (config.layers, width, config.feed_forward, config.heads, config.dropout)
        self.encoder, self.decoder = Encoder(*sizes), Decoder(*sizes, norm)
        self.logits = nn.Linear(width, logits)
        # Only the Transformer starts from Xavier; the projections outside keep PyTorch's own initial values.
        initialise_matrices(self.embedding, self.encoder, self.decoder)

    @abstractmethod
    def encode(self, visual: VisualTokens) -> Tensor:
        """Encoded visual tokens `[studies, tokens, width]`."""

    @abstractmethod
    def decode(
        self,
        encoded: Tensor,
        visual_mask: Tensor,
        tokens: Tensor,
        token_mask: Tensor,
        attention_from: int | None = None,
    ) -> DecoderOutput:
        """The decoder's output for whole reports, teacher-forced.

        Args:
            encoded: Encoded visual tokens `[studies, tokens, width]`.
            visual_mask: bool `[studies, tokens]`, True for visual tokens that are there.
            tokens: int `[studies, length]`; the first token is 0 (begin).
            token_mask: bool `[studies, length]`, True for the begin and the words.
            attention_from: The first layer whose attention weights are returned; see `Decoder.forward`.
        """

    @abstractmethod
    def start(self, visual: VisualTokens, beams: int, maximum_length: int) -> DecoderState:
        """The state before the first word of `beams` hypotheses per study."""

    @abstractmethod
    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """Log-probabilities `[studies, beams, logits]` after one more token `[studies, beams]`."""

    def logprobs(self, visual: VisualTokens, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Log-probabilities `[studies, length, logits]` of the next word at each position; see `decode`."""
        return self.word_logprobs(self.decode(self.encode(visual), visual.mask, tokens, token_mask).states)

    def generate(self, visual: VisualTokens, decoding: DecodingConfig) -> Decoded:
        """Decode a draft per study, as tokens with log-probabilities."""
        state = self.start(visual, beams_of(decoding), decoding.maximum_length)
        return decode(self.step, state, visual.tokens.size(0), decoding, visual.tokens.device)

    def stream(self, visual: VisualTokens, decoding: DecodingConfig) -> Iterator[Leading]:
        """Decode as `generate` does, token by token; see `decode_steps`."""
        state = self.start(visual, beams_of(decoding), decoding.maximum_length)
        return decode_steps(self.step, state, visual.tokens.size(0), decoding, visual.tokens.device)

    def embed(self, tokens: Tensor) -> Tensor:
        """Scaled embeddings of tokens `[..., width]`, without positions."""
        return self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)

    def word_logprobs(self, decoded: Tensor) -> Tensor:
        """Log-probabilities `[..., logits]` of the next word from the decoder's output `[..., width]`."""
        return self.logits(decoded).float().log_softmax(dim=-1)


def initialise_matrices(*modules: nn.Module) -> None:
    """Give every matrix in `modules` Xavier-uniform initial values, as the released codes do."""
    for module in modules:
        for parameter in module.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)


def input_mask(tokens: Tensor) -> Tensor:
    """True for the begin and the words of `tokens` `[studies, length]`, False for end and padding."""
    mask = tokens != 0
    mask[:, 0] = True
    return mask


def cross_entropy(logprobs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Negative log-probability of the targets, averaged over words.

    Args:
        logprobs: Log-probabilities `[studies, length, logits]`.
        targets: The correct next tokens, int `[studies, length]`.
        mask: bool `[studies, length]`, True where there is a target.
    """
    chosen = logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return -(chosen * mask).sum() / mask.sum()


class EncoderDecoderSystem(System):
    """Backbone, network and vocabulary of one system of the R2Gen family.

    Args:
        backbone: Turns views into visual tokens.
        network: Turns visual tokens into words.
        vocabulary: The words that the system can write.
        maximum_length: Training reports are cut to this many tokens; begin and end are counted.
    """

    def __init__(
        self, backbone: Backbone, network: TransformerNetwork, vocabulary: Vocabulary, maximum_length: int
    ):
        super().__init__()
        self.backbone = backbone
        self.network = network
        self.vocabulary = vocabulary
        self.maximum_length = maximum_length

    def encode_report(self, report: str) -> list[int]:
        """See `System.encode_report`."""
        return self.vocabulary.encode(report, self.maximum_length)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """See `System.backbone_parameters`."""
        return list(self.backbone.parameters())

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy of the reports, averaged over words (R2GenCMN Eq. 2)."""
        tokens, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
        # The begin and each word have a target: the next word, or the end.
        mask = input_mask(tokens)
        logprobs = self.network.logprobs(self.backbone(batch.views, batch.view_mask), tokens, mask)
        loss = cross_entropy(logprobs, targets, mask)
        return Losses(total=loss, terms={"cross_entropy": loss})

    @torch.inference_mode()
    def generate(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Draft:
        """See `System.generate`."""
        visual = self.backbone(views, view_mask)
        return self.draft(visual, self.network.generate(visual, decoding))

    @torch.inference_mode()
    def stream(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Iterator[Draft]:
        """See `System.stream`."""
        visual = self.backbone(views, view_mask)
        for leading in self.network.stream(visual, decoding):
            yield self.draft(visual, leading())

    def draft(self, visual: VisualTokens, decoded: Decoded) -> Draft:
        """Make drafts of what was decoded from the visual tokens of each study."""
        return Draft.of(decoded, self.vocabulary.decode)

    @torch.inference_mode()
    def explain(self, views: Tensor, view_mask: Tensor, tokens: Tensor) -> Evidence:
        """See `System.explain`."""
        return self.evidence(self.backbone(views, view_mask), inputs_of(tokens))

    def evidence(self, visual: VisualTokens, inputs: Tensor) -> Evidence:
        """Evidence for the decoder's inputs `[studies, length]`, which begin with 0."""
        encoded, mask = self.network.encode(visual), input_mask(inputs)
        decoded = self.network.decode(encoded, visual.mask, inputs, mask, attention_from=0)
        return Evidence(visual.mask, visual.grid, torch.stack(decoded.attention, dim=1), maps={})

    def pieces(self, tokens: list[int]) -> list[str]:
        """See `System.pieces`."""
        words = self.vocabulary.decode(tokens).split()
        return words[:1] + [f" {word}" for word in words[1:]]


def inputs_of(tokens: Tensor) -> Tensor:
    """The decoder's input as it writes `tokens` `[studies, length]`: the begin and all but the last token."""
    return F.pad(tokens[:, :-1], (1, 0))
