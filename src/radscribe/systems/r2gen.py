"""R2Gen: generating radiology reports via memory-driven Transformer.

Chen, Song, Chang, Wan. EMNLP 2020. https://github.com/zhjohnchan/R2Gen

A relational memory records, word by word, what a report has said so far. Its state changes scale and bias of
the decoder's layer normalisations (memory-driven conditional layer normalisation, MCLN). The encoder is a
plain Transformer without positions.

This file differs from the released code in two ways. In decoding, the memory is a state that advances by one
word per step; the released code computes the report so far again at every step, for every beam. In training,
everything that depends on the words alone is computed before the sequential loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from radscribe.layers.relational_memory import MemoryDrivenLayerNorm, RelationalMemory
from radscribe.layers.transformer import DecoderCache, DecoderOutput, beam_rows
from radscribe.ranges import WIDTH, Range, check_divisible, check_fields
from radscribe.systems.encoder_decoder import (
    EncoderDecoderSystem,
    TransformerConfig,
    TransformerNetwork,
    initialise_matrices,
)
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import Backbone, VisualTokens


@dataclass(kw_only=True, slots=True)
class R2GenConfig(TransformerConfig):
    """Sizes and switches of R2Gen; the defaults are the paper's.

    Attributes:
        memory: Use the relational memory and MCLN; without them this is the paper's BASE.
        memory_slots: Number of slots of the relational memory.
        memory_heads: Number of attention heads of the relational memory.
    """

    memory: bool = True
    memory_slots: int = 3
    memory_heads: int = 8

    def __post_init__(self) -> None:
        TransformerConfig.__post_init__(self)  # with slots, super() alone fails
        check_fields(self, "system.", memory_slots=Range(1, 1024), memory_heads=WIDTH)
        check_divisible("system.width", self.width, "system.memory_heads", self.memory_heads)


class MemoryDrivenTransformer(TransformerNetwork):
    """The network after the visual extractor: encoder, relational memory, memory-driven decoder."""

    def __init__(self, config: R2GenConfig, channels: int, logits: int):
        slots, width = config.memory_slots, config.width
        norm = partial(MemoryDrivenLayerNorm, width, slots * width) if config.memory else None
        super().__init__(config, channels, logits, norm)
        self.memory = (
            RelationalMemory(slots, width, config.memory_heads, config.dropout) if config.memory else None
        )
        if self.memory:
            initialise_matrices(self.memory)

    def encode(self, visual: VisualTokens) -> Tensor:
        """See `TransformerNetwork.encode`."""
        return self.encoder(self.visual_projection(visual.tokens), visual.mask)

    def decode(
        self,
        encoded: Tensor,
        visual_mask: Tensor,
        tokens: Tensor,
        token_mask: Tensor,
        attention_from: int | None = None,
    ) -> DecoderOutput:
        """See `TransformerNetwork.decode`."""
        words = self.positions(self.embed(tokens))
        condition = self.memory(words) if self.memory else None
        return self.decoder(words, encoded, visual_mask, token_mask, condition, attention_from)

    def start(self, visual: VisualTokens, beams: int, maximum_length: int) -> R2GenState:
        """See `TransformerNetwork.start`."""
        cache = DecoderCache(self.decoder, self.encode(visual), visual.mask, beams, maximum_length)
        memory = self.memory.initial(visual.tokens.size(0) * beams) if self.memory else None
        return R2GenState(cache, memory)

    def step(self, tokens: Tensor, state: R2GenState) -> Tensor:
        """See `TransformerNetwork.step`."""
        word = self.positions(self.embed(tokens.view(-1, 1)), state.cache.length)
        condition = None
        if self.memory and state.memory is not None:
            state.memory = self.memory.step(word, state.memory)
            condition = state.memory.flatten(1).unsqueeze(1)
        decoded = self.decoder.step(word, state.cache, condition)
        return self.word_logprobs(decoded).view(*tokens.shape, -1)


@dataclass(slots=True)
class R2GenState:
    """State between two decoding steps: decoder cache, and memory of every beam `[rows, slots, width]`."""

    cache: DecoderCache
    memory: Tensor | None

    def reorder(self, parents: Tensor) -> None:
        """Let beam `b` of study `s` continue beam `parents[s, b]`."""
        self.cache.reorder(parents)
        if self.memory is not None:
            self.memory = self.memory.index_select(0, beam_rows(parents))


class R2Gen(EncoderDecoderSystem):
    """The system `r2gen`: visual extractor and memory-driven Transformer."""

    def __init__(self, config: R2GenConfig, vocabulary: Vocabulary, maximum_length: int):
        backbone = Backbone(config.backbone)
        network = MemoryDrivenTransformer(config, backbone.channels, vocabulary.logits)
        super().__init__(backbone, network, vocabulary, maximum_length)
