"""A memory: a bank of stored patterns, and the Hopfield layer by which queries retrieve from it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.layers.hopfield import HopfieldConfig, StoredPatterns

#: Number of rows of a bank that are named for each query.
KEPT = 5


class Recalled(NamedTuple):
    """The rows of a bank that queries recall most.

    Attributes:
        rows: Numbers of the rows, the first the most associated, int64 `[studies, queries, kept]`.
        weights: Their associations, averaged over heads, `[studies, queries, kept]`. Over all rows the sum
            is 1.
        perplexity: The number of rows among which the recall is spread, from 1 to all rows: the exponential
            of the entropy of the association, a geometric mean over heads, `[studies, queries]`.
    """

    rows: Tensor
    weights: Tensor
    perplexity: Tensor


class Memory(nn.Module):
    """A bank and its Hopfield layer. The bank does not train, and is not among the weights.

    Args:
        config: The Hopfield layer.
        width: Width of queries, rows and results.

    Attributes:
        bank: Rows `[rows, width]`; none before `fill`.
    """

    def __init__(self, config: HopfieldConfig, width: int):
        super().__init__()
        self.hopfield = config.build(width)
        self.bank: Tensor
        self.keys: Tensor | None
        self.values: Tensor | None
        self.register_buffer("bank", torch.empty(0, width), persistent=False)
        self.register_buffer("keys", None, persistent=False)
        self.register_buffer("values", None, persistent=False)

    def fill(self, bank: Tensor) -> None:
        """Take the rows of a bank `[rows, width]`."""
        self.bank = bank

    def forward(self, queries: Tensor) -> Tensor:
        """What each query `[..., width]` retrieves from the bank (Eq. 6 of AM-MRG), `[..., width]`."""
        return self.hopfield(queries, self.stored())

    def stored(self) -> StoredPatterns:
        """The bank as the layer compares queries with it: made once for all queries, or kept by `fold`.

        Raises:
            RadScribeError: the memory is empty.
        """
        if self.keys is not None and self.values is not None:
            return StoredPatterns(self.keys, self.values)
        if not len(self.bank):
            raise RadScribeError(
                "a memory bank is used, and no part fills it",
                "Train the system with radscribe train, which makes its banks",
            )
        return self.hopfield.store(self.bank)

    @torch.no_grad()
    def fold(self) -> None:
        """Keep the projected keys and values from now on; for drafting, not for training."""
        if len(self.bank):
            self.keys, self.values = self.stored()

    @torch.no_grad()
    def recalled(self, queries: Tensor, most: int = KEPT) -> Recalled:
        """The rows that each query `[studies, queries, width]` recalls most.

        Args:
            queries: Queries.
            most: Largest number of rows that are named for each query.
        """
        by_head = self.hopfield.associations(queries, self.stored()).float()
        entropy = torch.special.entr(by_head).sum(dim=-1).mean(dim=0)
        weights, rows = by_head.mean(dim=0).topk(min(most, len(self.bank)), dim=-1)
        return Recalled(rows, weights, entropy.exp())
