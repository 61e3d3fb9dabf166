"""Relational memory and the layer normalisation that it drives, of R2Gen (Chen et al., EMNLP 2020).

The memory has a few slots, which each word updates by attention and gates. Its state changes scale and bias
of the decoder's layer normalisations. In training, a loop runs over the words of a report. Everything that
depends on the words alone is computed for all words before the loop; the released code computes it anew for
each word.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.layers.transformer import MultiHeadAttention, UnbiasedLayerNorm


class RelationalMemory(nn.Module):
    """Memory slots that attend to themselves and the newest word, updated through gates.

    Args:
        slots: Number of slots.
        width: Width of a slot and of a word's embedding.
        heads: Number of attention heads.
        dropout: Dropout probability of the attention weights.
    """

    def __init__(self, slots: int, width: int, heads: int, dropout: float):
        super().__init__()
        self.slots, self.width = slots, width
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.word_gates = nn.Linear(width, 2 * width)
        self.memory_gates = nn.Linear(width, 2 * width)

    def initial(self, batch: int) -> Tensor:
        """The memory before the first word: a different unit vector in each slot, `[batch, slots, width]`."""
        weight = self.word_gates.weight
        return torch.eye(self.slots, self.width, device=weight.device, dtype=weight.dtype).expand(
            batch, -1, -1
        )

    def _advance(self, memory: Tensor, keys: Tensor, values: Tensor, gates: Tensor) -> Tensor:
        """Update the memory by a word: key and value `[batch, heads, 1, ...]`, gates `[batch, 1, ...]`."""
        own_keys, own_values = self.attention.project_memory(memory)
        attended = self.attention.attend(
            memory, torch.cat([own_keys, keys], dim=2), torch.cat([own_values, values], dim=2), None
        )
        candidate = memory + attended
        candidate = candidate + self.mlp(candidate)
        input_gate, forget_gate = (gates + self.memory_gates(memory.tanh())).sigmoid().chunk(2, dim=-1)
        return input_gate * candidate.tanh() + forget_gate * memory

    def step(self, word: Tensor, memory: Tensor) -> Tensor:
        """The memory `[batch, slots, width]` after one more word `[batch, 1, width]`."""
        return self._advance(memory, *self.attention.project_memory(word), self.word_gates(word))

    def forward(self, words: Tensor) -> Tensor:
        """The memory after each of `words` `[batch, length, width]`: `[batch, length, slots * width]`."""
        keys, values = self.attention.project_memory(words)
        memory, states = self.initial(words.size(0)), []
        # If the loop indexed these tensors, the gradient of each step would be as long as all words.
        inputs = keys.split(1, dim=2), values.split(1, dim=2), self.word_gates(words).split(1, dim=1)
        for word in zip(*inputs, strict=True):
            memory = self._advance(memory, *word)
            states.append(memory.flatten(1))
        return torch.stack(states, dim=1)


class MemoryDrivenLayerNorm(UnbiasedLayerNorm):
    """Layer normalisation whose scale and shift move with the memory's state (R2Gen's MCLN).

    Args:
        width: Width of the vectors that are normalised.
        memory_width: Width of the flattened memory, slots * width.
    """

    def __init__(self, width: int, memory_width: int):
        super().__init__(width)
        self.scale_mlp, self.shift_mlp = (
            nn.Sequential(nn.Linear(memory_width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(2)
        )

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """Normalise `x` `[batch, length, width]`, driven by `memory` `[batch, length, memory_width]`."""
        if memory is None:
            raise ValueError("a memory-driven layer normalisation needs the memory")
        scale = _beside(self.scale_mlp, memory, self.scale)
        return self.normalise(x, scale, _beside(self.shift_mlp, memory, self.shift))


def _beside(mlp: nn.Sequential, memory: Tensor, constant: Tensor) -> Tensor:
    """The MLP's output plus a constant vector, which is added to the bias of the last layer."""
    first, relu, last = mlp
    assert isinstance(last, nn.Linear)
    return F.linear(relu(first(memory)), last.weight, last.bias + constant)
