"""RepAdapters (Luo et al., 2023) that share their down-projection, and their linear maps in drafting.

A RepAdapter is x + s Up(Dropout(Down(x))) of each token, without a nonlinearity: Down is a linear layer to a
small width, Up leads back in two groups, both have biases, and s is a factor. As released, Up and the biases
start at 0, so that a RepAdapter starts as the identity. Here it may also end at another width than it begins
at: then a linear layer takes the place of x, or nothing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from radscribe.layers.dropout import Dropout


class Raised(NamedTuple):
    """Where a RepAdapter ends.

    Attributes:
        width: of what it gives.
        skip: what takes the place of x in the sum: x itself, a linear map of it, or nothing.
    """

    width: int
    skip: Literal["identity", "linear", "none"]


class _Up(nn.Module):
    """What follows the shared down-projection in one RepAdapter."""

    def __init__(self, inputs: int, hidden: int, raised: Raised, scale: float):
        super().__init__()
        self.scale = scale
        self.skip: nn.Module | None = None
        if raised.skip == "identity":
            self.skip = nn.Identity()
        elif raised.skip == "linear":
            self.skip = nn.Linear(inputs, raised.width)
        self.up = nn.Conv1d(hidden, raised.width, kernel_size=1, groups=2)
        if self.skip is None:
            # From 0 every image would look the same.
            nn.init.xavier_uniform_(self.up.weight)
        else:
            nn.init.zeros_(self.up.weight)
        assert self.up.bias is not None
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, lowered: Tensor) -> Tensor:
        raised = self.scale * self.up(lowered.transpose(1, 2)).transpose(1, 2)
        return raised if self.skip is None else self.skip(x) + raised

    @torch.no_grad()
    def folded(self, down: nn.Linear) -> nn.Linear:
        """W = W_skip + s Up Down and b = b_skip + s (Up b_down + b_up), Up as a block-diagonal matrix."""
        up = torch.block_diag(*self.up.weight.squeeze(-1).chunk(2))
        plain = nn.Linear(down.in_features, len(up), device=up.device, dtype=up.dtype)
        plain.weight.copy_(self.scale * up @ down.weight)
        plain.bias.copy_(self.scale * (up @ down.bias + self.up.bias))
        if isinstance(self.skip, nn.Linear):
            plain.weight.add_(self.skip.weight)
            plain.bias.add_(self.skip.bias)
        elif self.skip is not None:
            plain.weight.diagonal().add_(1)
        return plain


class PlainMaps(nn.ModuleList):
    """Folded RepAdapters: a linear map in the place of each."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each gives of tokens `[studies, tokens, inputs]`."""
        return tuple(plain(x) for plain in self)


class RepAdapters(nn.Module):
    """RepAdapters of the same tokens, which share their down-projection and its dropout.

    Args:
        inputs: width of a token.
        hidden: width that the down-projection leads to, an even number.
        raised: where each RepAdapter ends.
        dropout: probability, behind the down-projection.
        scale: the factor s.
    """

    def __init__(self, inputs: int, hidden: int, raised: Sequence[Raised], dropout: float, scale: float):
        super().__init__()
        self.down = nn.Linear(inputs, hidden)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        self.dropout = Dropout(dropout)
        self.ups = nn.ModuleList(_Up(inputs, hidden, each, scale) for each in raised)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each RepAdapter gives of tokens `[studies, tokens, inputs]`."""
        lowered = self.dropout(self.down(x))
        return tuple(up(x, lowered) for up in self.ups)

    def folded(self) -> PlainMaps:
        """The same without dropout, as plain linear maps; the shared down-projection folds into each.

        It saves arithmetic where a linear map takes the place of x. A RepAdapter that skips by identity takes
        more than before, unless a linear layer follows that it can be multiplied into.
        """
        return PlainMaps(up.folded(self.down) for up in self.ups if isinstance(up, _Up))
