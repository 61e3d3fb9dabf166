"""R2GenCMN: cross-modal memory networks for radiology report generation.

Chen, Shen, Song, Wan. ACL-IJCNLP 2021. https://github.com/zhjohnchan/R2GenCMN
Equation numbers in this file are the paper's.

Image and text share a memory matrix. Each visual token and each word queries it, in several threads, for the
K memory vectors that are most related to it (querying, Eq. 4-10). Their weighted sum is the response
(responding, Eq. 11-13). The responses enter a plain Transformer (Eq. 14-15).

This file differs from the released code in three ways:

- memory keys and values are projected once per call, not once per study, beam and step;
- the top-K values are summed in place (`embedding_bag`); the released code gathers them, which expands the
  value matrix for every token and costs 6.6 GB in the backward pass at the paper's size;
- decoding keeps its keys and values, and runs all beams of all studies together.

Two switches depart from the paper: `memory_input="features_and_responses"` adds the responses to the
features, as the released code does; `encoder_positions=False` leaves sinusoidal positions out of the encoder
(the paper does not mention them, the released code has them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.layers.dropout import Dropout
from radscribe.layers.transformer import DecoderCache, DecoderOutput
from radscribe.ranges import COUNT, WIDTH, check_divisible, check_fields
from radscribe.systems.encoder_decoder import (
    EncoderDecoderSystem,
    TransformerConfig,
    TransformerNetwork,
    initialise_matrices,
)
from radscribe.systems.system import Evidence, MemoryEvidence
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import Backbone, VisualTokens


@dataclass(kw_only=True, slots=True)
class R2GenCMNConfig(TransformerConfig):
    """Sizes and switches of R2GenCMN; the defaults are the paper's (section 3.3).

    Attributes:
        memory: Memory matrix: `shared` by image and text (CMN), `separate` for image and text (BASE+MEM), or
            `none` (BASE).
        memory_size: Number of memory vectors, N.
        threads: Number of threads of querying and responding.
        top_k: Number of memory vectors that answer a query in each thread, K.
        memory_input: What enters encoder and decoder: `responses` (paper, Eq. 14-15) or
            `features_and_responses` (released code).
        encoder_positions: Add sinusoidal positions to the encoder's input.
    """

    memory: Literal["shared", "separate", "none"] = "shared"
    memory_size: int = 2048
    threads: int = 8
    top_k: int = 32
    memory_input: Literal["responses", "features_and_responses"] = "responses"
    encoder_positions: bool = True

    def __post_init__(self) -> None:
        TransformerConfig.__post_init__(self)  # with slots, super() alone fails
        check_fields(self, "system.", memory_size=COUNT, threads=WIDTH)
        check_divisible("system.width", self.width, "system.threads", self.threads)
        if self.memory != "none" and not 1 <= self.top_k <= self.memory_size:
            raise ValueError(
                f"system.top_k {self.top_k} must be between 1 and system.memory_size {self.memory_size}"
            )


class CrossModalMemory(nn.Module):
    """The memory matrix with its multi-thread querying and responding (Eq. 4-13)."""

    def __init__(self, config: R2GenCMNConfig):
        super().__init__()
        width = config.width
        self.threads, self.top_k = config.threads, config.top_k
        self.matrix = nn.Parameter(torch.empty(config.memory_size, width))
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.dropout = Dropout(config.dropout)
        initialise_matrices(self.query, self.key, self.value, self.output)
        nn.init.normal_(self.matrix, std=1 / width)

    def slots(self) -> tuple[Tensor, Tensor]:
        """Keys (Eq. 4) and values (Eq. 11) of all memory vectors, `[threads, N, width / threads]` each."""
        keys, values = (
            projection(self.matrix).unflatten(-1, (self.threads, -1)).transpose(0, 1)
            for projection in (self.key, self.value)
        )
        return keys, values.contiguous()

    def query_vectors(self, x: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The top-K memory vectors of each feature or word, and their weights (Eq. 5-10).

        Args:
            x: Features or words `[..., width]`; `rows` is their number over all dimensions.
            keys: The keys that `slots` gives.

        Returns:
            Weights, and int indices of the vectors, `[threads, rows, K]` each.
        """
        threads, _, thread_width = keys.shape
        # The queries are scaled, because they are far smaller than the distances.
        queries = self.query(x).view(-1, threads, thread_width).transpose(0, 1) / math.sqrt(thread_width)
        distances = queries @ keys.transpose(1, 2)
        distances, selected = distances.topk(self.top_k, dim=-1)
        return distances.softmax(dim=-1), selected

    def forward(self, x: Tensor, slots: tuple[Tensor, Tensor]) -> Tensor:
        """Responses of the memory to features or words `x`, both `[..., width]`."""
        keys, values = slots
        threads, size, thread_width = keys.shape
        weights, selected = self.query_vectors(x, keys)
        # Eq. 12-13. One bag per token and thread; the values of thread t begin in row t * N.
        first_row = torch.arange(threads, device=x.device).view(-1, 1, 1) * size
        responses = F.embedding_bag(
            (selected + first_row).flatten(0, 1),
            values.flatten(0, 1),
            per_sample_weights=self.dropout(weights).flatten(0, 1).to(values.dtype),
            mode="sum",
        )
        responses = responses.view(threads, -1, thread_width).transpose(0, 1)
        return self.output(responses.reshape_as(x))

    def addressed(self, x: Tensor) -> Tensor:
        """Weight of each memory vector in the response to `x` `[..., width]`: mean of threads `[..., N]`."""
        keys, _ = self.slots()
        weights, selected = self.query_vectors(x, keys)
        spread = weights.new_zeros(*weights.shape[:2], keys.size(1)).scatter_(-1, selected, weights)
        return spread.mean(dim=0).view(*x.shape[:-1], -1)


class CrossModalMemoryNetwork(TransformerNetwork):
    """The network after the visual extractor: memory, encoder, decoder."""

    def __init__(self, config: R2GenCMNConfig, channels: int, logits: int):
        super().__init__(config, channels, logits)
        self.memory_input = config.memory_input
        self.encoder_positions = config.encoder_positions
        memories = {"shared": 1, "separate": 2, "none": 0}[config.memory]
        self.memories = nn.ModuleList(CrossModalMemory(config) for _ in range(memories))

    @property
    def visual_memory(self) -> CrossModalMemory | None:
        """The memory that visual tokens query."""
        return cast(CrossModalMemory, self.memories[0]) if self.memories else None

    @property
    def textual_memory(self) -> CrossModalMemory | None:
        """The memory that words query: that of the visual tokens, unless memories are separate."""
        return cast(CrossModalMemory, self.memories[-1]) if self.memories else None

    def _remember(
        self, x: Tensor, memory: CrossModalMemory | None, slots: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """The input of encoder or decoder that replaces `x`."""
        if memory is None or slots is None:
            return x
        responses = memory(x, slots)
        return responses if self.memory_input == "responses" else x + responses

    def _words(self, tokens: Tensor, start: int = 0) -> Tensor:
        """What queries the memory for `tokens` `[..., length]` that begin at position `start`."""
        embedded = self.embed(tokens)
        # A response would lose the positions, so they are added to it afterwards.
        return embedded if self.memory_input == "responses" else self.positions(embedded, start)

    def _embed(self, tokens: Tensor, slots: tuple[Tensor, Tensor] | None, start: int = 0) -> Tensor:
        """Decoder input of `tokens` `[..., length]` that begin at position `start`."""
        remembered = self._remember(self._words(tokens, start), self.textual_memory, slots)
        return self.positions(remembered, start) if self.memory_input == "responses" else remembered

    def encode(self, visual: VisualTokens) -> Tensor:
        """Encoded visual tokens `[studies, tokens, width]` (Eq. 14)."""
        features = self.visual_projection(visual.tokens)
        slots = self.visual_memory.slots() if self.visual_memory else None
        encoder_input = self._remember(features, self.visual_memory, slots)
        if self.encoder_positions:
            encoder_input = self.positions(encoder_input)
        return self.encoder(encoder_input, visual.mask)

    def decode(
        self,
        encoded: Tensor,
        visual_mask: Tensor,
        tokens: Tensor,
        token_mask: Tensor,
        attention_from: int | None = None,
    ) -> DecoderOutput:
        """See `TransformerNetwork.decode` (Eq. 15)."""
        slots = self.textual_memory.slots() if self.textual_memory else None
        return self.decoder(
            self._embed(tokens, slots),
            encoded,
            visual_mask,
            token_mask,
            attention_from=attention_from,
        )

    def memory_evidence(self, visual: VisualTokens, tokens: Tensor) -> MemoryEvidence | None:
        """Which memory vectors the words `tokens` `[studies, length]` and the visual tokens address.

        The vectors of separate memories are joined, the textual vectors first. Words then have weight 0 on
        the visual vectors, and regions on the textual vectors.
        """
        textual, visual_memory = self.textual_memory, self.visual_memory
        if textual is None or visual_memory is None:
            return None
        # The decoder reads a word one position after the one at which it wrote it.
        of_tokens = textual.addressed(self._words(tokens, start=1))
        of_regions = visual_memory.addressed(self.visual_projection(visual.tokens))
        if visual_memory is textual:
            return MemoryEvidence(textual.matrix, of_tokens, of_regions)
        size = len(textual.matrix)
        return MemoryEvidence(
            torch.cat([textual.matrix, visual_memory.matrix]),
            F.pad(of_tokens, (0, size)),
            F.pad(of_regions, (size, 0)),
        )

    def start(self, visual: VisualTokens, beams: int, maximum_length: int) -> R2GenCMNState:
        """See `TransformerNetwork.start`."""
        slots = self.textual_memory.slots() if self.textual_memory else None
        cache = DecoderCache(self.decoder, self.encode(visual), visual.mask, beams, maximum_length)
        return R2GenCMNState(cache, slots)

    def step(self, tokens: Tensor, state: R2GenCMNState) -> Tensor:
        """See `TransformerNetwork.step`."""
        embedded = self._embed(tokens.view(-1, 1), state.slots, state.cache.length)
        decoded = self.decoder.step(embedded, state.cache)
        return self.word_logprobs(decoded).view(*tokens.shape, -1)


@dataclass(slots=True)
class R2GenCMNState:
    """State between two decoding steps: decoder cache, and projected memory, which all beams share."""

    cache: DecoderCache
    slots: tuple[Tensor, Tensor] | None

    def reorder(self, parents: Tensor) -> None:
        """Let beam `b` of study `s` continue beam `parents[s, b]`."""
        self.cache.reorder(parents)


class R2GenCMN(EncoderDecoderSystem):
    """The system `r2gen-cmn`: visual extractor and cross-modal memory network."""

    network: CrossModalMemoryNetwork

    def __init__(self, config: R2GenCMNConfig, vocabulary: Vocabulary, maximum_length: int):
        backbone = Backbone(config.backbone)
        network = CrossModalMemoryNetwork(config, backbone.channels, vocabulary.logits)
        super().__init__(backbone, network, vocabulary, maximum_length)

    def evidence(self, visual: VisualTokens, inputs: Tensor) -> Evidence:
        """See `EncoderDecoderSystem.evidence`; adds the memory vectors that words and regions address.

        The token after `inputs` is taken to be the end.
        """
        evidence = super().evidence(visual, inputs)
        evidence.memory = self.network.memory_evidence(visual, F.pad(inputs[:, 1:], (0, 1)))
        return evidence
