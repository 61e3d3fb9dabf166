"""Dropout whose masks are cheap on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, with four elements' fate in each random number that the CPU draws.

    torch draws one for each element, on one core, which takes as long as a small product. The probability is
    rounded to a 65,536th, and what is kept is scaled by the rounded one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Zero elements of `input`, any shape, with probability `p`, and scale the others; in training."""
        dropped = round(self.p * _LEVELS)
        if not self.training or input.device.type != "cpu" or dropped in (0, _LEVELS):
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        levels = draws.view(torch.int16)[: input.numel()].view(input.shape)
        return (input * (levels >= dropped - _LEVELS // 2)).mul_(_LEVELS / (_LEVELS - dropped))
