"""Activation maps of disease queries: where an observation's probability comes from, by `grad-cam`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.parts.disease_queries import DiseaseQueries
from radscribe.vision.backbones import Grid
from radscribe.vision.regions import MapName

#: Classes of `grad-cam` by the names of the maps.
_CLASSES: dict[MapName, str] = {
    "grad": "GradCAM",
    "grad++": "GradCAMPlusPlus",
    "hires": "HiResCAM",
    "xgrad": "XGradCAM",
    "eigen": "EigenCAM",
    "layer": "LayerCAM",
}


class ActivationMaps:
    """Makes activation maps of single views at the last map of the encoder.

    A map is that of the observation's probability (the softmax probability of the released code). Negative
    values become 0; the map is stretched to 0 to 1, enlarged to the view's size (bilinear), and stretched
    again.

    Args:
        part: Disease queries, whose weights no longer learn from here on.
        maps: Way of making the maps.

    Raises:
        RadScribeError: `grad-cam` is not installed, or the backbone's visual tokens have no grid.
    """

    def __init__(self, part: DiseaseQueries, maps: MapName = "grad"):
        try:
            import pytorch_grad_cam
        except ImportError as error:
            raise RadScribeError(
                "activation maps need grad-cam, which is not installed", "pip install 'radscribe[maps]'"
            ) from error
        self.part = part.eval().requires_grad_(False)
        self._network = _FromLastMap(part)
        library: Any = getattr(pytorch_grad_cam, _CLASSES[maps])
        self._maps = library(model=self._network, target_layers=[self._network.last_map])

    def of(self, views: Tensor, observations: Sequence[int]) -> np.ndarray:
        """The map of one observation on each view.

        Args:
            views: Views, uint8 grey `[views, crop, crop]`, each a study by itself.
            observations: Number of the observation of each view, in the order of `OBSERVATIONS`.

        Returns:
            Maps from 0 to 1, float32 `[views, crop, crop]`; a map without a positive value is 0 everywhere.
        """
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        targets = [ClassifierOutputTarget(number) for number in observations]
        with torch.inference_mode(False), torch.enable_grad():
            return self._maps(input_tensor=views.unsqueeze(1), targets=targets)


class _FromLastMap(nn.Module):
    """Disease queries as `grad-cam` wants them, with the last map as the output of a module of its own.

    The library learns the size of the views from the input, so the views are the input; what is before the
    last map needs no gradient.
    """

    def __init__(self, part: DiseaseQueries):
        super().__init__()
        self.part = part
        self.last_map = nn.Identity()

    def forward(self, views: Tensor) -> Tensor:
        """Probabilities `[views, observations]` of uint8 grey views `[views, 1, crop, crop]`."""
        with torch.no_grad():
            tokens = self.part.backbone.encode_views(views.squeeze(1))
        grid = Grid.of_square(tokens.size(1))
        if grid is None:
            raise RadScribeError(
                f"the {tokens.size(1)} visual tokens of {self.part.architecture} lie on no square grid",
                "Train disease queries with another --architecture",
            )
        features = tokens.transpose(1, 2).unflatten(2, tuple(grid)).requires_grad_()
        return self.part.logits(self.last_map(features).flatten(2).transpose(1, 2)).sigmoid()
