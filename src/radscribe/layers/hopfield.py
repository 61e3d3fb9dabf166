"""Hopfield layers: queries retrieve from a memory bank of stored patterns, as AM-MRG uses them.

Wang et al., AM-MRG (section III-C), with the layer of Ramsauer et al., "Hopfield Networks is All You Need"
(ICLR 2021). Equation numbers in this file are those of AM-MRG.

The paper prints the descent of an energy without parameters (Eq. 2-5). Its code has a multi-head association
with three layer normalisations and four projections, which are what its second stage trains; its table VII
varies the inverse temperature of that layer. Both are here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from radscribe.layers.dropout import Dropout
from radscribe.ranges import COUNT, DROPOUT, WIDTH, Range, check_choice, check_fields

#: What the association's product of a state and a key is multiplied by.
Scale = Literal["beta", "beta/sqrt(d)"]
#: The layer: that of the released code, the printed descent, or the descent of the printed energy.
Form = Literal["released", "printed", "exact"]

#: Largest number of steps of a descent.
MOST_STEPS = 1000
_FIRST_DEVIATION = 0.02


@dataclass(kw_only=True, slots=True)
class HopfieldConfig:
    """A Hopfield layer.

    Attributes:
        form: `released` is the multi-head layer of the released code. `printed` is the descent of Eq. 3-5,
            which has no parameters. `exact` is the descent with the gradient of Eq. 2, which Eq. 4 is not.
        beta: Inverse temperature of `released`; pull of the bank in the other forms.
        scale: What `released` multiplies the products of states and keys by: `beta`, or `beta/sqrt(d)`, where
            d is `hidden`.
        steps: Number of association steps of `released`.
        heads: Number of heads of `released`.
        hidden: Width of the states and keys of each head of `released`.
        dropout: Dropout of the association of `released`.
        step_size: Step size of the descent (eta).
        tolerance: A query's descent ends when a step moves its state by no more than this Euclidean distance.
    """

    form: Form = "released"
    beta: float = 4.0
    scale: Scale = "beta"
    steps: int = 1
    heads: int = 6
    hidden: int = 1024
    dropout: float = 0.1
    step_size: float = 0.5
    tolerance: float = 1e-4

    def check(self, prefix: str) -> None:
        """Check the values.

        Args:
            prefix: Text before each field's name in errors, such as `system.visual_hopfield.`.

        Raises:
            ValueError: a value is out of its range.
        """
        check_choice(f"{prefix}form", self.form, ("released", "printed", "exact"))
        check_choice(f"{prefix}scale", self.scale, ("beta", "beta/sqrt(d)"))
        check_fields(
            self,
            prefix,
            beta=Range(0, above=True),
            steps=COUNT,
            heads=WIDTH,
            hidden=WIDTH,
            dropout=DROPOUT,
            # From 1 on a step can lead past the minimum to a higher energy.
            step_size=Range(0, 0.999, above=True),
            tolerance=Range(0, above=True),
        )

    def build(self, width: int) -> HopfieldAssociation | EnergyDescent:
        """The layer, for queries, stored patterns and results of the same width."""
        if self.form == "released":
            return HopfieldAssociation(
                width,
                heads=self.heads,
                hidden=self.hidden,
                beta=self.beta,
                scale=self.scale,
                steps=self.steps,
                dropout=self.dropout,
            )
        return EnergyDescent(
            beta=self.beta,
            exact=self.form == "exact",
            step_size=self.step_size,
            tolerance=self.tolerance,
        )


class StoredPatterns(NamedTuple):
    """A memory bank as a layer compares queries with it.

    It does not depend on the queries: it is made once in a training step, and once when a trained system is
    loaded.

    Attributes:
        keys: What states are compared with; `[heads, rows, hidden]`, or `[rows, width]` for a descent.
        values: What is retrieved; `[heads, rows, pattern]`, or `[rows, width]` for a descent.
    """

    keys: Tensor
    values: Tensor


class HopfieldAssociation(nn.Module):
    """The multi-head Hopfield layer of the released code.

    Queries, keys and values are normalised, each by a layer normalisation of its own, and projected; keys and
    values come from the rows of the bank. The association of a head is the softmax over all rows of the
    scaled products of its states with its keys. Each further step replaces the states by the associated mean
    of the keys; the result is the associated mean of the values, projected.

    Args:
        width: Width of the queries and of the rows of the bank.
        pattern: Width of the values of each head; without it `width`.
        outputs: Width of the results; without it `width`.
        heads: Number of heads.
        hidden: Width of the states and keys of each head.
        beta: Inverse temperature.
        scale: What the products are multiplied by.
        steps: Number of association steps, at least 1.
        dropout: Dropout of the association.
    """

    def __init__(
        self,
        width: int,
        *,
        pattern: int | None = None,
        outputs: int | None = None,
        heads: int = 6,
        hidden: int = 1024,
        beta: float = 4.0,
        scale: Scale = "beta",
        steps: int = 1,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.heads = heads
        self.scaling = beta if scale == "beta" else beta / math.sqrt(hidden)
        self.steps = steps
        self.state_norm, self.stored_norm, self.value_norm = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key = (nn.Linear(width, heads * hidden) for _ in range(2))
        self.value = nn.Linear(width, heads * (pattern or width))
        self.output = nn.Linear(heads * (pattern or width), outputs or width)
        self.dropout = Dropout(dropout)
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.normal_(layer.weight, std=_FIRST_DEVIATION)
            nn.init.zeros_(layer.bias)

    def store(self, bank: Tensor) -> StoredPatterns:
        """Project the rows of a bank `[rows, width]` to keys and values."""
        return StoredPatterns(
            self._of_heads(self.key(self.stored_norm(bank))),
            self._of_heads(self.value(self.value_norm(bank))),
        )

    def forward(self, queries: Tensor, stored: StoredPatterns) -> Tensor:
        """What each query retrieves, `[..., outputs]`, for queries `[..., width]`."""
        weights = self.dropout(self._associations(queries.reshape(-1, queries.size(-1)), stored))
        retrieved = weights @ stored.values  # [heads, queries, pattern]
        return self.output(retrieved.transpose(0, 1).flatten(1)).view(*queries.shape[:-1], -1)

    def associations(self, queries: Tensor, stored: StoredPatterns) -> Tensor:
        """How much each row is associated with each query: `[heads, ..., rows]`, with the sum 1 over rows."""
        weights = self._associations(queries.reshape(-1, queries.size(-1)), stored)
        return weights.view(self.heads, *queries.shape[:-1], -1)

    def _associations(self, queries: Tensor, stored: StoredPatterns) -> Tensor:
        """Associations `[heads, queries, rows]` of queries `[queries, width]`."""
        states = self._of_heads(self.query(self.state_norm(queries)))
        transposed = stored.keys.transpose(1, 2)
        weights = (self.scaling * states @ transposed).softmax(dim=-1)
        for _ in range(self.steps - 1):
            weights = (self.scaling * (weights @ stored.keys) @ transposed).softmax(dim=-1)
        return weights

    def _of_heads(self, patterns: Tensor) -> Tensor:
        """Patterns `[rows, heads * size]` as `[heads, rows, size]`."""
        return patterns.unflatten(-1, (self.heads, -1)).transpose(0, 1)


class EnergyDescent(nn.Module):
    """The descent that the paper prints (Eq. 2-5); it has no parameters.

    Eq. 4 leaves out the factor 1/sqrt(d) of the gradient of Eq. 2. It is the gradient of the same energy with
    a weight of beta sqrt(d) in place of beta, and that energy never rises. With Eq. 4 that of Eq. 2 itself
    rises: the descent moves sqrt(d) times as far towards the bank as its minimum is.

    Args:
        beta: Pull of the bank.
        exact: Take the gradient of Eq. 2; otherwise Eq. 4 as it is printed.
        step_size: Step size (eta), below 1. With 0.5 a step leads to the minimum of a bound of the energy.
        tolerance: A query's descent ends when a step moves its state by no more than this Euclidean distance,
            or after `MOST_STEPS` steps.
    """

    def __init__(
        self, *, beta: float = 4.0, exact: bool = False, step_size: float = 0.5, tolerance: float = 1e-4
    ):
        super().__init__()
        self.beta = beta
        self.exact = exact
        self.step_size = step_size
        self.tolerance = tolerance

    def store(self, bank: Tensor) -> StoredPatterns:
        """The rows of a bank `[rows, width]`, which are keys and values as they are."""
        return StoredPatterns(bank, bank)

    def weight(self, width: int) -> float:
        """The weight of the logarithm in the energy that is descended, for states of this width."""
        return self.beta if self.exact else self.beta * math.sqrt(width)

    def forward(self, queries: Tensor, stored: StoredPatterns) -> Tensor:
        """The state where the descent of each query `[..., width]` ends, of the same shape."""
        bank, weight = stored.keys, self.weight(queries.size(-1))
        states = queries
        moving = torch.ones_like(queries[..., :1], dtype=torch.bool)
        for _ in range(MOST_STEPS):
            moved = self.step_size * energy_gradient(states, queries, bank, weight)
            # A query whose descent has ended rests, so that its result does not depend on those beside it.
            states = torch.where(moving, states - moved, states)  # Eq. 3
            moving = moving & (moved.detach().norm(dim=-1, keepdim=True) > self.tolerance)
            if not moving.any():
                break
        return states

    def associations(self, queries: Tensor, stored: StoredPatterns) -> Tensor:
        """How much each row is associated with the state where a descent ends: `[1, ..., rows]` (Eq. 5)."""
        return association(self(queries, stored), stored.keys).unsqueeze(0)


def energy(states: Tensor, queries: Tensor, bank: Tensor, weight: float) -> Tensor:
    """The energy of each state (Eq. 2), `[...]`.

    Args:
        states: States f* `[..., width]`.
        queries: Queries f `[..., width]`, where the descent begins.
        bank: Rows m of the bank `[rows, width]`.
        weight: Weight of the logarithm; beta in Eq. 2.
    """
    scores = states @ bank.T / math.sqrt(bank.size(-1))
    return (states - queries).square().sum(dim=-1) - weight * scores.logsumexp(dim=-1)


def energy_gradient(states: Tensor, queries: Tensor, bank: Tensor, weight: float) -> Tensor:
    """The gradient of `energy` in the states; Eq. 4 prints it for a weight of beta sqrt(d)."""
    pull = weight / math.sqrt(bank.size(-1))
    return 2 * (states - queries) - pull * association(states, bank) @ bank


def association(states: Tensor, bank: Tensor) -> Tensor:
    """How much each row of the bank is associated with each state (Eq. 5), `[..., rows]`."""
    return (states @ bank.T / math.sqrt(bank.size(-1))).softmax(dim=-1)
