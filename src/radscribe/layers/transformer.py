"""The Transformer of the R2Gen family: encoder, decoder, and the decoder's step-by-step form.

Differences from `torch.nn.Transformer` that the published systems rely on: layer normalisation with the
unbiased standard deviation, normalisation before each sub-layer, and a last normalisation at the end of both
stacks. Each decoder layer has two forms of one computation: `forward` over a whole report (training) and
`step` over one new token of every beam (decoding), with keys and values kept in a `DecoderCache`. The tests
hold the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.layers.dropout import Dropout

#: Added to a variance so that one of 0 has a reciprocal.
_TINY = 1e-24


class UnbiasedLayerNorm(nn.Module):
    """Layer normalisation by the unbiased standard deviation, epsilon added outside the root.

    `scale * (x - mean) / (std + epsilon) + shift`, as in the Annotated Transformer. It differs visibly
    from `torch.nn.LayerNorm` at small widths, so released weights need this form.
    """

    def __init__(self, width: int, epsilon: float = 1e-6):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Normalise the last dimension of `x`, any shape `[..., width]`; nothing conditions it."""
        return self.normalise(x, self.scale, self.shift)

    def normalise(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Normalise the last dimension of `x` with this scale and shift.

        torch's kernel, several times faster than the formula, divides by the biased deviation; the quotient
        puts the unbiased one and epsilon in its place. Gradients pass epsilon by, a millionth of them.
        """
        width = x.size(-1)
        normalised, _, reciprocal = torch.native_layer_norm(x, (width,), None, None, _TINY)
        unbiased = math.sqrt(width / (width - 1)) + self.epsilon * reciprocal.detach()
        return torch.addcmul(shift, scale, normalised / unbiased)


class SinusoidalPositions(nn.Module):
    """Adds the fixed sine and cosine position code, then drops out."""

    def __init__(self, width: int, dropout: float, maximum_length: int = 5000):
        super().__init__()
        position = torch.arange(maximum_length).unsqueeze(1)
        frequency = torch.exp(torch.arange(0, width, 2) * -(math.log(10000.0) / width))
        code = torch.zeros(maximum_length, width)
        code[:, 0::2] = torch.sin(position * frequency)
        code[:, 1::2] = torch.cos(position * frequency)
        self.code: Tensor
        self.register_buffer("code", code, persistent=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Add positions `start, start + 1, ...` to `x` `[..., length, width]`."""
        return self.dropout(x + self.code[start : start + x.size(-2)])


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with separate projections, split so that keys can be kept.

    Args:
        width: model width; `heads` must divide it.
        heads: number of heads.
        dropout: applied to the attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = Dropout(dropout)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `[..., heads, length, width / heads]` of `memory` `[..., length, width]`."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from `x` `[batch, length, width]` to projected keys and values.

        Args:
            x: the querying sequence.
            keys: `[batch, heads, key_length, width / heads]`.
            values: like `keys`.
            mask: bool, broadcastable to `[batch, heads, length, key_length]`, True where attention may go.
        """
        attended = F.scaled_dot_product_attention(
            self._split(self.query(x)),
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return self.output(attended.transpose(-3, -2).flatten(-2))

    def attend_with_weights(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `attend`, and the weights `[batch, heads, length, key_length]` as they were used, after dropout.

        Slower, for the weights have to be kept: use it where they are looked at or trained.
        """
        queries = self._split(self.query(x))
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.size(-1))
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = self.dropout(scores.softmax(dim=-1))
        return self.output((weights @ values).transpose(-3, -2).flatten(-2)), weights

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from `x` to `memory`, both `[batch, length, width]`."""
        return self.attend(x, *self.project_memory(memory), mask)


class FeedForward(nn.Sequential):
    """Two linear layers with ReLU and dropout between."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, width))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each normalised before and added after."""

    def __init__(self, width: int, hidden: int, heads: int, dropout: float):
        super().__init__()
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.norms = nn.ModuleList(UnbiasedLayerNorm(width) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode `x` `[batch, tokens, width]`; `mask` is `[batch, 1, 1, tokens]`."""
        normed = self.norms[0](x)
        x = x + self.dropout(self.attention(normed, normed, mask))
        return x + self.dropout(self.feed_forward(self.norms[1](x)))


class Encoder(nn.Module):
    """A stack of encoder layers with a last normalisation."""

    def __init__(self, layers: int, width: int, hidden: int, heads: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, hidden, heads, dropout) for _ in range(layers))
        self.norm = UnbiasedLayerNorm(width)

    def forward(self, x: Tensor, token_mask: Tensor) -> Tensor:
        """Encode `x` `[batch, tokens, width]`; `token_mask` `[batch, tokens]` is True for real tokens."""
        mask = token_mask[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


#: Makes a layer normalisation that takes what is normalised and what drives it, or None.
Norm = Callable[[], nn.Module]


def beam_rows(parents: Tensor) -> Tensor:
    """Rows of a `[studies * beams, ...]` tensor that the beams' parents stand in, `[studies * beams]`."""
    studies, beams = parents.shape
    return (torch.arange(studies, device=parents.device).unsqueeze(1) * beams + parents).flatten()


class DecoderCache:
    """Keys and values of a decoder between steps: preallocated, one row per beam of every study.

    Self-attention keys and values are `[studies * beams, heads, maximum_length, width / heads]` and follow
    their beams; cross-attention keys and values are `[studies, heads, tokens, width / heads]`, computed once
    and shared by all beams of a study.
    """

    def __init__(
        self, decoder: Decoder, memory: Tensor, memory_mask: Tensor, beams: int, maximum_length: int
    ):
        studies = memory.size(0)
        self.beams = beams
        self.length = 0
        self.memory_mask = memory_mask[:, None, None, :]
        self.cross = [layer.cross_attention.project_memory(memory) for layer in decoder.layers]
        _, heads, _, head_width = self.cross[0][0].shape
        shape = (studies * beams, heads, maximum_length, head_width)
        self.own = [(memory.new_empty(shape), memory.new_empty(shape)) for _ in decoder.layers]

    def reorder(self, parents: Tensor) -> None:
        """Let beam `b` of study `s` continue beam `parents[s, b]`; `parents` is `[studies, beams]`."""
        rows = beam_rows(parents)
        for pair in self.own:
            for kept in pair:
                kept[:, :, : self.length] = kept[:, :, : self.length].index_select(0, rows)


class DecoderOutput(NamedTuple):
    """What a decoder makes of a whole report.

    Attributes:
        states: `[batch, length, width]`.
        attention: cross-attention weights `[batch, heads, length, tokens]` of every layer that was asked for
            them.
    """

    states: Tensor
    attention: tuple[Tensor, ...] = ()


class DecoderLayer(nn.Module):
    """Masked self-attention, cross-attention and feed-forward, each normalised before and added after.

    `condition` `[batch, length, ...]` is what the layer normalisations are driven by, where they are driven.
    """

    def __init__(self, width: int, hidden: int, heads: int, dropout: float, norm: Norm):
        super().__init__()
        self.self_attention = MultiHeadAttention(width, heads, dropout)
        self.cross_attention = MultiHeadAttention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.norms = nn.ModuleList(norm() for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        causal_mask: Tensor,
        condition: Tensor | None,
        with_attention: bool,
    ) -> DecoderOutput:
        """Decode `x` `[batch, length, width]` beside `memory` `[batch, tokens, width]`; see `Decoder`."""
        normed = self.norms[0](x, condition)
        x = x + self.dropout(self.self_attention(normed, normed, causal_mask))
        normed = self.norms[1](x, condition)
        attention: tuple[Tensor, ...] = ()
        if with_attention:
            keys, values = self.cross_attention.project_memory(memory)
            attended, weights = self.cross_attention.attend_with_weights(normed, keys, values, memory_mask)
            attention = (weights,)
        else:
            attended = self.cross_attention(normed, memory, memory_mask)
        x = x + self.dropout(attended)
        return DecoderOutput(x + self.dropout(self.feed_forward(self.norms[2](x, condition))), attention)

    def step(self, x: Tensor, cache: DecoderCache, layer: int, condition: Tensor | None) -> Tensor:
        """The same for one new token of every beam, `x` `[studies * beams, 1, width]`."""
        keys, values = cache.own[layer]
        normed = self.norms[0](x, condition)
        new_key, new_value = self.self_attention.project_memory(normed)
        keys[:, :, cache.length : cache.length + 1] = new_key
        values[:, :, cache.length : cache.length + 1] = new_value
        seen = slice(0, cache.length + 1)
        x = x + self.self_attention.attend(normed, keys[:, :, seen], values[:, :, seen], None)
        # Beams of a study share its visual keys, so they stand as queries side by side.
        beside = self.norms[1](x, condition).view(-1, cache.beams, x.size(-1))
        visual_keys, visual_values = cache.cross[layer]
        attended = self.cross_attention.attend(beside, visual_keys, visual_values, cache.memory_mask)
        x = x + attended.reshape_as(x)
        return x + self.feed_forward(self.norms[2](x, condition))


class Decoder(nn.Module):
    """A stack of decoder layers with a last normalisation.

    Args:
        layers: how many.
        width: of a token.
        hidden: of the feed-forward layers.
        heads: of the attentions.
        dropout: everywhere.
        norm: makes the layers' normalisations; `UnbiasedLayerNorm` unless given.
    """

    def __init__(
        self, layers: int, width: int, hidden: int, heads: int, dropout: float, norm: Norm | None = None
    ):
        super().__init__()
        norm = norm or partial(UnbiasedLayerNorm, width)
        self.layers: list[DecoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            DecoderLayer(width, hidden, heads, dropout, norm) for _ in range(layers)
        )
        self.norm = UnbiasedLayerNorm(width)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        key_mask: Tensor,
        condition: Tensor | None = None,
        attention_from: int | None = None,
    ) -> DecoderOutput:
        """Decode a whole report.

        Args:
            x: embedded tokens `[batch, length, width]`.
            memory: encoded visual tokens `[batch, tokens, width]`.
            memory_mask: bool `[batch, tokens]`, True for real tokens.
            key_mask: bool `[batch, length]`, True for tokens that later positions may attend to.
            condition: what drives the layer normalisations, `[batch, length, ...]`.
            attention_from: the first layer whose cross-attention weights are wanted; None wants none, which
                is faster.
        """
        length = x.size(1)
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        mask = causal & key_mask[:, None, None, :]
        attention: tuple[Tensor, ...] = ()
        for index, layer in enumerate(self.layers):
            wanted = attention_from is not None and index >= attention_from
            x, weights = layer(x, memory, memory_mask[:, None, None, :], mask, condition, wanted)
            attention += weights
        return DecoderOutput(self.norm(x), attention)

    def step(self, x: Tensor, cache: DecoderCache, condition: Tensor | None = None) -> Tensor:
        """Decode one new token of every beam, `x` `[studies * beams, 1, width]`, and keep its keys."""
        for index, layer in enumerate(self.layers):
            x = layer.step(x, cache, index, condition)
        cache.length += 1
        return self.norm(x)
