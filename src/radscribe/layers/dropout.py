"""Dropout whose masks are cheap on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, but on the CPU each random number decides about four elements.

    torch draws one random number for each element, on one core, which takes as long as a small product. The
    probability is rounded to a multiple of 1 / 65,536; elements that are kept are scaled accordingly.
    """

    def forward(self, input: Tensor) -> Tensor:
        """In training, zero elements of `input`, any shape, with probability `p`, and scale the others."""
        dropped = round(self.p * _LEVELS)
        if not self.training or input.device.type != "cpu" or dropped in (0, _LEVELS):
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        levels = draws.view(torch.int16)[: input.numel()].view(input.shape)
        return (input * (levels >= dropped - _LEVELS // 2)).mul_(_LEVELS / (_LEVELS - dropped))
