"""The Transformer of the R2Gen family: encoder, decoder, and the decoder's step-by-step form.

It differs from `torch.nn.Transformer` in three ways, which the published systems need: layer normalisation
uses the unbiased standard deviation, it comes before each sub-layer, and both stacks end with one more. Each
decoder layer has two forms of one computation: `forward` over a whole report (training), and `step` over one
new token of every beam (decoding), with keys and values kept in a `DecoderCache`. Tests check that the two
forms are equal.
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

#: Added to a variance, so that a variance of 0 has a reciprocal.
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
        """Normalise the last dimension of `x`, any shape `[..., width]`; `condition` is not used."""
        return self.normalise(x, self.scale, self.shift)

    def normalise(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Normalise the last dimension of `x` with this scale and shift.

        torch's kernel is several times faster than the formula, but divides by the biased deviation. The
        division by `unbiased` corrects this and brings in epsilon. The gradient through the term with epsilon
        is left out; it is about a millionth of the whole.
        """
        width = x.size(-1)
        normalised, _, reciprocal = torch.native_layer_norm(x, (width,), None, None, _TINY)
        unbiased = math.sqrt(width / (width - 1)) + self.epsilon * reciprocal.detach()
        return torch.addcmul(shift, scale, normalised / unbiased)


class SinusoidalPositions(nn.Module):
    """Adds the fixed sine and cosine position code, then applies dropout."""

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
    """Scaled dot-product attention in separate steps, so that keys and values can be kept.

    Args:
        width: Width of the model; `heads` must divide it.
        heads: Number of attention heads.
        dropout: Dropout probability of the attention weights.
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
            x: The sequence that gives the queries.
            keys: Projected keys `[batch, heads, key_length, width / heads]`.
            values: Projected values `[batch, heads, key_length, width / heads]`.
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
        """Attend as `attend` does, and return the weights after dropout `[batch, heads, length, key_length]`.

        This is slower, because the weights are kept: use it only where weights are shown or trained.
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
    """Two linear layers, with ReLU and dropout between them."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, width))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward; the input of each is normalised, and its output is added."""

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


#: Makes a layer normalisation; its arguments are the input, and what drives the normalisation or None.
Norm = Callable[[], nn.Module]


def beam_rows(parents: Tensor) -> Tensor:
    """Rows of the beams' parents in a tensor `[studies * beams, ...]`, as indices `[studies * beams]`."""
    studies, beams = parents.shape
    return (torch.arange(studies, device=parents.device).unsqueeze(1) * beams + parents).flatten()


class DecoderCache:
    """Keys and values of a decoder between steps: preallocated, one row per beam of every study.

    Self-attention keys and values are `[studies * beams, heads, maximum_length, width / heads]` and are
    reordered with their beams. Cross-attention keys and values are
    `[studies, heads, tokens, width / heads]`; they are computed once, and all beams of a study share them.
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
    """The output of a decoder for a whole report.

    Attributes:
        states: Hidden states `[batch, length, width]`.
        attention: Cross-attention weights `[batch, heads, length, tokens]` of each layer for which they were
            requested.
    """

    states: Tensor
    attention: tuple[Tensor, ...] = ()


class DecoderLayer(nn.Module):
    """Masked self-attention, cross-attention and feed-forward, each with normalised input and added output.

    `condition` `[batch, length, ...]` drives the layer normalisations if they are memory-driven.
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
        """Decode `x` `[batch, length, width]` with `memory` `[batch, tokens, width]`; see `Decoder`."""
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
        """Decode one new token of every beam, `x` `[studies * beams, 1, width]`, as `forward` would."""
        keys, values = cache.own[layer]
        normed = self.norms[0](x, condition)
        new_key, new_value = self.self_attention.project_memory(normed)
        keys[:, :, cache.length : cache.length + 1] = new_key
        values[:, :, cache.length : cache.length + 1] = new_value
        seen = slice(0, cache.length + 1)
        x = x + self.self_attention.attend(normed, keys[:, :, seen], values[:, :, seen], None)
        # The beams of a study share its visual keys, so they are the queries of one sequence.
        beams = self.norms[1](x, condition).view(-1, cache.beams, x.size(-1))
        visual_keys, visual_values = cache.cross[layer]
        attended = self.cross_attention.attend(beams, visual_keys, visual_values, cache.memory_mask)
        x = x + attended.reshape_as(x)
        return x + self.feed_forward(self.norms[2](x, condition))


class Decoder(nn.Module):
    """A stack of decoder layers with a last normalisation.

    Args:
        layers: Number of layers.
        width: Width of a token.
        hidden: Hidden width of the feed-forward layers.
        heads: Number of heads of each attention.
        dropout: Dropout probability in all layers.
        norm: Makes the normalisations of the layers; by default `UnbiasedLayerNorm`.
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
            x: Embedded tokens `[batch, length, width]`.
            memory: Encoded visual tokens `[batch, tokens, width]`.
            memory_mask: bool `[batch, tokens]`, True for real tokens.
            key_mask: bool `[batch, length]`, True for tokens that later positions may attend to.
            condition: What drives the layer normalisations, `[batch, length, ...]`; None if nothing does.
            attention_from: Number of the first layer whose cross-attention weights are returned; those of
                later layers are returned too. None returns no weights, which is faster.
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
