"""Image-text matching within a batch, as CLIP (Radford et al., ICML 2021) trains it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TEMPERATURE = 0.07


class ImageTextMatching(nn.Module):
    """Symmetric cross-entropy between the studies of a batch, with a temperature that trains.

    Args:
        lowest_temperature: Lower limit of the temperature; None for no limit.
    """

    def __init__(self, lowest_temperature: float | None = None) -> None:
        super().__init__()
        self._highest = None if lowest_temperature is None else -math.log(lowest_temperature)
        # The logarithm trains, so that the temperature stays positive.
        self.log_scale = nn.Parameter(torch.tensor(-math.log(_TEMPERATURE)))

    def forward(self, images: Tensor, texts: Tensor, same: Tensor | None = None) -> Tensor:
        """The loss of `images` and `texts`, both `[studies, width]`; equal rows belong to one study.

        Args:
            images: Features of the images.
            texts: Features of the texts.
            same: bool `[studies, studies]`, True where two studies have the same text. All such texts then
                count as correct for each of these studies, in equal shares.
        """
        if self._highest is not None:
            with torch.no_grad():  # the parameter itself, as in CLIP: a clamped copy would have no gradient
                self.log_scale.clamp_(max=self._highest)
        images, texts = (F.normalize(features.float(), dim=-1) for features in (images, texts))
        similarity = self.log_scale.exp() * images @ texts.T
        if same is None:
            own = torch.arange(len(images), device=images.device)
        else:
            own = same / same.sum(dim=1, keepdim=True)
        return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def mean_token(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean `[studies, width]` of `tokens` `[studies, length, width]` where `mask` is True, else 0."""
    return (tokens * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
