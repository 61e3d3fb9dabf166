"""The masked autoencoder MAE (He et al., CVPR 2022) as a backbone that can also draw pixels from features.

The encoder sees every patch: nothing is masked. The decoder makes pixels from patch features, whatever the
features come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.ranges import LAYERS, PIXELS, WIDTH, check_divisible, check_fields
from radscribe.vision.backbones import ViewEncoder
from radscribe.vision.published_pixels import NormalisationConfig, pixels_of_transformers
from radscribe.weights import load_pretrained

#: The option of a recipe that names the weights.
WEIGHTS_FIELD = "system.vision.weights"
#: Our names of the sizes, and their names in `transformers`.
_SIZES = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "decoder_width": "decoder_hidden_size",
    "decoder_layers": "decoder_num_hidden_layers",
    "decoder_heads": "decoder_num_attention_heads",
    "decoder_feed_forward": "decoder_intermediate_size",
}


@dataclass(kw_only=True, slots=True)
class MaskedAutoencoderConfig:
    """Sizes of the autoencoder, those of MAE-Large by default, and the weights that it starts from.

    Attributes:
        weights: Weights to start from: a name on the Hugging Face hub, a folder in `transformers` format
            (`ViTMAEForPreTraining`) of these sizes, or `none` (random weights).
        image_size: Side of a view in pixels.
        patch_size: Side of a patch in pixels.
        width: Width of the encoder's hidden states.
        layers: Number of layers of the encoder.
        heads: Number of attention heads of the encoder.
        feed_forward: Hidden width of the encoder's feed-forward layers.
        decoder_width: Width of the decoder's hidden states.
        decoder_layers: Number of layers of the decoder.
        decoder_heads: Number of attention heads of the decoder.
        decoder_feed_forward: Hidden width of the decoder's feed-forward layers.
        normalisation: Mean and standard deviation of the pixels.
    """

    weights: str = "facebook/vit-mae-large"
    image_size: int = 224
    patch_size: int = 16
    width: int = 1024
    layers: int = 24
    heads: int = 16
    feed_forward: int = 4096
    decoder_width: int = 512
    decoder_layers: int = 8
    decoder_heads: int = 16
    decoder_feed_forward: int = 2048
    normalisation: NormalisationConfig = field(default_factory=NormalisationConfig)

    def __post_init__(self) -> None:
        prefix = "system.vision."
        widths = ("patch_size", "width", "heads", "feed_forward")
        decoder_widths = ("decoder_width", "decoder_heads", "decoder_feed_forward")
        check_fields(
            self,
            prefix,
            image_size=PIXELS,
            layers=LAYERS,
            decoder_layers=LAYERS,
            **dict.fromkeys((*widths, *decoder_widths), WIDTH),
        )
        for name, divisor in [
            ("width", "heads"),
            ("decoder_width", "decoder_heads"),
            ("image_size", "patch_size"),
        ]:
            check_divisible(prefix + name, getattr(self, name), prefix + divisor, getattr(self, divisor))

    @property
    def patches(self) -> int:
        """Number of patches of a view."""
        return (self.image_size // self.patch_size) ** 2

    def build(self) -> Any:
        """Build the autoencoder, encoder and decoder; see `create_autoencoder`."""
        return create_autoencoder(self, mask_ratio=0.0)


def create_autoencoder(
    config: MaskedAutoencoderConfig, *, mask_ratio: float, option: str = WEIGHTS_FIELD
) -> Any:
    """Build the autoencoder of `transformers`, `ViTMAEForPreTraining`.

    Args:
        config: Sizes and weights.
        mask_ratio: Share of the patches that the encoder does not see.
        option: Option of the command for `config.weights`, to name in errors.

    Raises:
        RadScribeError: the weights are not there, could not be downloaded, or have other sizes.
    """
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    _check_sizes(config, option)
    sizes = ViTMAEConfig(
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()}, mask_ratio=mask_ratio
    )
    model = load_pretrained(ViTMAEForPreTraining, sizes, config.weights, option)
    if config.weights == "none":
        # transformers leaves all position embeddings at zero: it regards the embeddings as initialised once
        # their projection is, and sets those of the decoder to zero.
        model.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
        model.vit.embeddings.initialize_weights()
        model.decoder.initialize_weights(config.patches)
    return model


def _check_sizes(config: MaskedAutoencoderConfig, option: str) -> None:
    """Compare the sizes with those of the weights, if the weights can be found.

    Raises:
        RadScribeError: the sizes differ; the error says what to type.
    """
    from transformers import ViTMAEConfig

    if config.weights == "none":
        return
    try:
        theirs = ViTMAEConfig.from_pretrained(config.weights)
    except Exception:  # loading the weights says later what is wrong with them
        return
    other = {
        ours: getattr(theirs, name)
        for ours, name in _SIZES.items()
        if getattr(theirs, name) != getattr(config, ours)
    }
    if not other:
        return
    if option == WEIGHTS_FIELD:
        hint = "Give the sizes of the weights: " + " ".join(
            f"--system.vision.{name} {size}" for name, size in other.items()
        )
    else:
        hint = f"Choose a recipe with their sizes by --recipe, or start from random weights: --{option} none"
    sizes = ", ".join(f"{name} {size} and not {getattr(config, name)}" for name, size in other.items())
    raise RadScribeError(
        f"the weights '{config.weights}' have other sizes than the recipe's system.vision: {sizes}", hint
    )


class MaskedAutoencoder(ViewEncoder):
    """Turns views into visual tokens, one for each patch, and features of patches back into pixels.

    Args:
        config: Sizes and weights.
        decoder: Whether to build the decoder, which `reconstruct` needs.
    """

    def __init__(self, config: MaskedAutoencoderConfig, *, decoder: bool):
        model = config.build()
        pixels = pixels_of_transformers(config.weights, WEIGHTS_FIELD)
        super().__init__(config.width, pixels, config.normalisation)
        self.image_size = config.image_size
        self.patches = config.patches
        self._unpatchify = model.unpatchify
        self.encoder = model.vit
        self.decoder = model.decoder if decoder else None
        if self.decoder is not None:
            self.decoder.mask_token.requires_grad_(False)  # nothing is masked

    def encode_views(self, views: Tensor) -> Tensor:
        """See `ViewEncoder.encode_views`.

        Raises:
            RadScribeError: the views have another size than the autoencoder's.
        """
        if views.size(-1) != self.image_size:
            raise RadScribeError(
                f"the masked autoencoder takes views of {self.image_size} pixels, not {views.size(-1)}",
                "Set data.transform.crop and system.vision.image_size to the same number",
            )
        # transformers draws the order of the patches by sorting noise; this noise leaves them where they are.
        order = torch.arange(self.patches, dtype=torch.float32, device=views.device)
        encoded = self.encoder(self.normalise(views), noise=order.expand(len(views), -1))
        return encoded.last_hidden_state[:, 1:]

    def reconstruct(self, features: Tensor) -> Tensor:
        """Normalised pixels `[views, 3, image_size, image_size]` from features `[views, patches, width]`.

        The decoder also needs a token that stands for the view: it gets the mean of the patches.
        """
        assert self.decoder is not None
        tokens = torch.cat([features.mean(dim=1, keepdim=True), features], dim=1)
        order = torch.arange(self.patches, device=features.device).expand(len(features), -1)
        return self._unpatchify(self.decoder(tokens, order).logits)
