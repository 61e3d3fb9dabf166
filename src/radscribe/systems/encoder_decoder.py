"""What the systems of the R2Gen family share: a backbone, a network that decodes words, cross-entropy."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from radscribe.decoding.search import Decoded, DecoderState, DecodingConfig, beams_of, decode
from radscribe.systems.system import Batch, Draft, Losses, System
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import Backbone, VisualTokens


class ReportNetwork(nn.Module):
    """Everything behind the backbone of an encoder-decoder system."""

    @abstractmethod
    def logprobs(self, visual: VisualTokens, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Log-probabilities of the next word at each position, teacher-forced.

        Args:
            visual: visual tokens of each study.
            tokens: int `[studies, length]`, the first one 0 (begin).
            token_mask: bool `[studies, length]`, True for the begin and the words.

        Returns:
            float `[studies, length, logits]`.
        """

    @abstractmethod
    def start(self, visual: VisualTokens, beams: int, maximum_length: int) -> DecoderState:
        """The state before the first word of `beams` hypotheses per study."""

    @abstractmethod
    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """Log-probabilities `[studies, beams, logits]` after one more token `[studies, beams]`."""

    def generate(self, visual: VisualTokens, decoding: DecodingConfig) -> Decoded:
        """Decode a draft per study, as tokens with log-probabilities."""
        state = self.start(visual, beams_of(decoding), decoding.maximum_length)
        return decode(self.step, state, visual.tokens.size(0), decoding, visual.tokens.device)


def input_mask(tokens: Tensor) -> Tensor:
    """True for the begin and the words of `tokens` `[studies, length]`, False for end and padding."""
    mask = tokens != 0
    mask[:, 0] = True
    return mask


class EncoderDecoderSystem(System):
    """Backbone, network and vocabulary of one system of the family.

    Args:
        backbone: views to visual tokens.
        network: visual tokens to words.
        vocabulary: the words.
        maximum_length: training reports are cut to this many tokens, begin and end counted.
    """

    def __init__(
        self, backbone: Backbone, network: ReportNetwork, vocabulary: Vocabulary, maximum_length: int
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
        # A word that is there has a target: the next word, or the end.
        mask = input_mask(tokens)
        logprobs = self.network.logprobs(self.backbone(batch.views, batch.view_mask), tokens, mask)
        chosen = logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        cross_entropy = -(chosen * mask).sum() / mask.sum()
        return Losses(total=cross_entropy, terms={"cross_entropy": cross_entropy})

    @torch.inference_mode()
    def generate(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Draft:
        """See `System.generate`."""
        decoded = self.network.generate(self.backbone(views, view_mask), decoding)
        texts = [self.vocabulary.decode(row) for row in decoded.tokens.tolist()]
        return Draft(texts, decoded.tokens, decoded.token_logprobs, decoded.logprob)
