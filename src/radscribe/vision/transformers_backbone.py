"""Image models of `transformers` as backbones, which turn views into visual tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.vision.backbones import Backbone, BackboneConfig, ViewEncoder, check_crop
from radscribe.vision.published_pixels import (
    DEFAULT_PIXELS,
    NormalisationConfig,
    PublishedPixels,
    pixels_of_transformers,
)
from radscribe.weights import load_whole_model

#: Name of the architecture that stands for any image model of `transformers`.
ARCHITECTURE = "transformers"


class TransformersBackbone(ViewEncoder):
    """An image model of `transformers`; its visual tokens are the last hidden state, without class tokens.

    Args:
        model: Image model.
        side: Side in pixels of the views that it will see.
        pixels: Mean, standard deviation and interpolation that its weights need.
        normalisation: Mean and standard deviation that go before those of `pixels`.

    Raises:
        RadScribeError: the model does not encode views of this size.
    """

    def __init__(self, model: Any, side: int, pixels: PublishedPixels, normalisation: NormalisationConfig):
        try:
            with torch.no_grad():
                state = model.eval()(pixel_values=torch.zeros(1, 3, side, side)).last_hidden_state
        except Exception as error:  # every model fails in its own way
            takes = getattr(model.config, "image_size", None)
            raise RadScribeError(
                f"the {model.config.model_type} model does not encode views of {side} pixels "
                f"({' '.join(str(error).split())[:150]})",
                f"Give --crop {takes}" if isinstance(takes, int) else "Choose an image model with --weights",
            ) from error
        super().__init__(state.size(1 if state.dim() == 4 else 2), pixels, normalisation)
        self.model = model

    @classmethod
    def pretrained(cls, weights: str, side: int, normalisation: NormalisationConfig) -> Self:
        """The model of a folder, or of a name on the Hugging Face hub, with its weights.

        Raises:
            RadScribeError: it cannot be loaded, lacks weights, or does not encode views of this size.
        """
        hint = "Give --weights the folder of an image model in transformers format, or its name on the hub"
        model = load_whole_model(weights, "image model", hint)
        return cls(model, side, pixels_of_transformers(weights, "weights"), normalisation)

    @classmethod
    def described(
        cls, configuration: Mapping[str, Any], side: int, normalisation: NormalisationConfig
    ) -> Self:
        """The model of a configuration as `configuration` gives it, with random weights.

        Raises:
            ValueError, KeyError, TypeError: the configuration is damaged.
            RadScribeError: the model does not encode views of this size.
        """
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.for_model(**configuration)
        return cls(AutoModel.from_config(config), side, DEFAULT_PIXELS, normalisation)

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration of the model, ready for JSON."""
        return json.loads(self.model.config.to_json_string(use_diff=False))

    def encode_views(self, views: Tensor) -> Tensor:
        """See `ViewEncoder.encode_views`."""
        state = self.model(pixel_values=self.normalise(views)).last_hidden_state
        if state.dim() == 4:
            return state.flatten(2).transpose(1, 2)
        # Class and register tokens stand before the patches, which fill a square.
        return state[:, state.size(1) - math.isqrt(state.size(1)) ** 2 :]


def create_view_encoder(
    config: BackboneConfig, crop: int, configuration: Mapping[str, Any] | None = None
) -> ViewEncoder:
    """A backbone of timm, a vision Mamba, or an image model of `transformers`, with its weights.

    Args:
        config: Architecture, weights and normalisation.
        crop: Side in pixels of the views that it will see.
        configuration: Configuration of a model of `transformers` that gets random weights; without it such a
            model is that of `config.weights`.

    Raises:
        RadScribeError: it cannot be built, or takes views of another size only.
        ValueError, KeyError, TypeError: the configuration is damaged.
    """
    if config.architecture == ARCHITECTURE:
        if configuration is None:
            return TransformersBackbone.pretrained(config.weights, crop, config.normalisation)
        return TransformersBackbone.described(configuration, crop, config.normalisation)
    encoder = Backbone(config)
    check_crop(encoder, config.architecture, crop)
    return encoder
