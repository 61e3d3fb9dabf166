"""Image backbones, from timm or our own, which turn all views of a study into visual tokens in one call."""

from __future__ import annotations

import difflib
import math
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from radscribe.errors import RadScribeError, unknown_name
from radscribe.vision.published_pixels import (
    DEFAULT_PIXELS,
    NormalisationConfig,
    PublishedPixels,
    pixels_of_timm,
    stated_beside,
)
from radscribe.vision.vision_mamba import VISION_MAMBAS, VisionMamba
from radscribe.vision.vision_mamba_weights import create_vision_mamba


@dataclass(kw_only=True, slots=True)
class BackboneConfig:
    """The architecture of a backbone, and the weights that it starts from; the two are chosen separately.

    Attributes:
        architecture: Name of a timm model without a tag, such as `resnet101`, or of a vision Mamba:
            `arm_base_pz16` or `arm_large_pz16`.
        weights: Weights to start from: `none` (random weights), the tag of published weights (`tv_in1k` means
            torchvision's ImageNet weights), or the path of a weights file (`.safetensors`, `.pth`).
        output_stride: Number of pixels of a view's side per visual token. Most architectures have 32; some
            can also have 16 or 8, which gives a finer grid from the same weights.
        normalisation: Mean and standard deviation of the pixels.
    """

    architecture: str = "resnet101"
    weights: str = "tv_in1k"
    output_stride: Literal[32, 16, 8] = 32
    normalisation: NormalisationConfig = field(default_factory=NormalisationConfig)


class Grid(NamedTuple):
    """How the visual tokens of a view lie on it, row by row.

    Attributes:
        rows: Number of tokens from top to bottom.
        columns: Number of tokens from left to right.
    """

    rows: int
    columns: int

    @classmethod
    def of_square(cls, tokens: int) -> Grid | None:
        """The grid of the patches of a square view; None if this number of patches makes no square."""
        side = math.isqrt(tokens)
        return cls(side, side) if side * side == tokens else None


class VisualTokens(NamedTuple):
    """Features of all views of a study, view after view.

    Attributes:
        tokens: Visual tokens `[studies, views * tokens per view, channels]`; they are 0 for an absent view.
        mask: Mask of the tokens, bool `[studies, views * tokens per view]`; True for tokens of a view that is
            there.
        grid: Grid of the tokens of one view; None if tokens have no place on the image, as queries have none.
    """

    tokens: Tensor
    mask: Tensor
    grid: Grid | None = None


def average_views(visual: VisualTokens, view_mask: Tensor) -> VisualTokens:
    """Average the tokens of each study's present views, patch by patch: `[studies, patches, channels]`.

    Args:
        visual: Tokens of all views.
        view_mask: Mask of the views, bool `[studies, views]`; True for views that are there, at least one in
            each study.
    """
    # The tokens of absent views are 0.
    count = view_mask.sum(dim=1).view(-1, 1, 1)
    tokens = visual.tokens.unflatten(1, (view_mask.size(1), -1)).sum(dim=1) / count
    return VisualTokens(tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool), visual.grid)


def share_among_views(attention: Tensor, view_mask: Tensor) -> Tensor:
    """Divide attention to averaged tokens equally among the views that were averaged.

    Args:
        attention: Attention to the tokens of `average_views`, `[studies, ..., patches]`.
        view_mask: Mask of the views, bool `[studies, views]`; True for views that are there.

    Returns:
        Attention to the tokens of all views `[studies, ..., views * patches]`; 0 for an absent view.
    """
    share = view_mask / view_mask.sum(dim=1, keepdim=True)
    share = share.view(len(view_mask), *(1 for _ in attention.shape[1:-1]), -1, 1)
    return (attention.unsqueeze(-2) * share).flatten(-2)


def create_backbone(config: BackboneConfig) -> nn.Module:
    """Build the timm model without a head or the vision Mamba, and load its weights.

    Raises:
        RadScribeError: the architecture, the tag or the file is not there, or the download failed.
    """
    import timm

    name, weights = config.architecture, config.weights
    if name in VISION_MAMBAS:
        if config.output_stride != 32:
            raise _no_output_stride(config)
        if weights != "none" and not Path(weights).is_file():
            raise _no_weights(config, [])
        return create_vision_mamba(name, weights)
    if name not in timm.list_models(name):
        similar = difflib.get_close_matches(name, [*timm.list_models(), *VISION_MAMBAS], n=8)
        raise unknown_name("backbone architecture", name, similar or ["every model of timm.list_models()"])
    headless: dict[str, Any] = {"num_classes": 0, "global_pool": ""}
    if config.output_stride != 32:
        headless["output_stride"] = config.output_stride
        try:
            with torch.device("meta"):  # only to see whether it can be built
                timm.create_model(name, pretrained=False, **headless)
        except (TypeError, NotImplementedError, AssertionError, KeyError) as error:
            raise _no_output_stride(config) from error
    if weights == "none":
        return timm.create_model(name, pretrained=False, **headless)
    tags = [model.partition(".")[2] for model in timm.list_pretrained(f"{name}.*")]
    if weights in tags:
        try:
            return timm.create_model(f"{name}.{weights}", pretrained=True, **headless)
        except Exception as error:  # every hub client fails in its own way
            raise RadScribeError(
                f"the weights '{weights}' of {name} could not be downloaded ({type(error).__name__})",
                "Pass a local file with --system.backbone.weights PATH (radscribe pretrain: --weights PATH), "
                "or train from random weights with none instead of the path",
            ) from error
    if not Path(weights).is_file():
        raise _no_weights(config, tags)
    overlay = {"file": weights, **stated_beside(Path(weights))}
    # Published files are recognised by their names, such as resnet101-63fe2227.pth of tv_in1k.
    published = {tag: timm.get_pretrained_cfg(f"{name}.{tag}") for tag in tags}
    known = [
        f"{name}.{tag}"
        for tag, weights_of_tag in published.items()
        if weights_of_tag and str(weights_of_tag.url).endswith(f"/{Path(weights).name}")
    ]
    try:
        return timm.create_model(
            (known or [name])[0], pretrained=True, pretrained_cfg_overlay=overlay, **headless
        )
    except Exception as error:  # every kind of file fails in its own way
        raise RadScribeError(
            f"the weights file '{weights}' could not be loaded into {name} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            "Pass a file of this architecture",
        ) from error


def _no_output_stride(config: BackboneConfig) -> RadScribeError:
    return RadScribeError(
        f"{config.architecture} has no output stride {config.output_stride}",
        "Leave system.backbone.output_stride at 32, or choose a ResNet",
    )


def _no_weights(config: BackboneConfig, tags: list[str]) -> RadScribeError:
    name = config.architecture
    return RadScribeError(
        f"the weights '{config.weights}' of {name} are neither a file nor a published tag",
        f"Tags of {name}: {', '.join(tags) or 'none'}. Or pass the path of a weights file, or none",
    )


class Normalisation(nn.Module):
    """Normalises the pixels of views as a backbone's weights need it.

    Args:
        pixels: Mean and standard deviation to normalise with.
    """

    def __init__(self, pixels: PublishedPixels):
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(pixels.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std).view(3, 1, 1), persistent=False)

    def forward(self, views: Tensor) -> Tensor:
        """Normalised pixels `[views, 3, height, width]` of uint8 grey views `[views, height, width]`."""
        return (views.unsqueeze(1).to(self.mean.dtype) / 255 - self.mean) / self.std


class ViewEncoder(nn.Module):
    """Base class of the networks that turn 8-bit grey views into visual tokens.

    Args:
        channels: Width of a visual token.
        pixels: Mean, standard deviation and interpolation that the weights need.
        normalisation: Mean and standard deviation of the configuration, which go before those of `pixels`; it
            is kept as `normalisation`.
    """

    def __init__(self, channels: int, pixels: PublishedPixels, normalisation: NormalisationConfig):
        super().__init__()
        self.channels = channels
        self.pixels = pixels.overridden(normalisation)
        self.normalisation = normalisation
        self.normalise = Normalisation(self.pixels)

    def keep_normalisation(self) -> None:
        """Write mean and standard deviation to the configuration, so that a run keeps them."""
        self.normalisation.mean, self.normalisation.std = self.pixels.mean, self.pixels.std

    @abstractmethod
    def encode_views(self, views: Tensor) -> Tensor:
        """Visual tokens `[views, tokens, channels]` of uint8 grey views `[views, height, width]`."""

    def of_patches(self, of_tokens: Tensor) -> Tensor:
        """The patches' part of anything that each visual token of a view has, without class tokens.

        Args:
            of_tokens: Values of the tokens of one view `[..., tokens, size]`.
        """
        return of_tokens

    def forward(self, views: Tensor, view_mask: Tensor) -> VisualTokens:
        """Encode all views of all studies in one call; absent views cost nothing.

        Args:
            views: Grey views, uint8 `[studies, views, height, width]`.
            view_mask: Mask of the views, bool `[studies, views]`; True for views that are there.
        """
        encoded = self.encode_views(views[view_mask])
        count, channels = encoded.shape[1:]
        tokens = encoded.new_zeros(*view_mask.shape, count, channels)
        tokens = tokens.index_put((view_mask,), encoded)
        mask = view_mask.unsqueeze(-1).expand(-1, -1, count)
        # Transforms cut square views, and backbones cut these into a square grid.
        return VisualTokens(tokens.flatten(1, 2), mask.flatten(1, 2), Grid.of_square(count))


class Backbone(ViewEncoder):
    """A timm model or a vision Mamba as a view encoder.

    Args:
        config: Architecture, weights and normalisation.
        class_token: Whether the tokens of a view contain the class token, where the model has one. Then they
            have no grid. In a vision Mamba it stands in the middle, in a ViT at the beginning.
    """

    def __init__(self, config: BackboneConfig, *, class_token: bool = False):
        # Channels last is a quarter faster for convolutions, on the CPU too, and takes less memory.
        model: Any = create_backbone(config).to(memory_format=torch.channels_last)
        pixels = DEFAULT_PIXELS if config.weights == "none" else pixels_of_timm(model.pretrained_cfg)
        super().__init__(model.num_features, pixels, config.normalisation)
        self.model = model
        self.class_token = class_token

    def encode_views(self, views: Tensor) -> Tensor:
        """See `ViewEncoder.encode_views`."""
        normalised = self.normalise(views).contiguous(memory_format=torch.channels_last)
        features = self.model.forward_features(normalised)
        if features.ndim == 4:
            if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
                return features.flatten(1, 2)
            return features.flatten(2).transpose(1, 2)
        return features if self.class_token else self._without_class_tokens(features)

    def of_patches(self, of_tokens: Tensor) -> Tensor:
        """See `ViewEncoder.of_patches`."""
        return self._without_class_tokens(of_tokens) if self.class_token else of_tokens

    def _without_class_tokens(self, of_tokens: Tensor) -> Tensor:
        if isinstance(self.model, VisionMamba):
            middle = self.model.class_position
            return torch.cat([of_tokens[..., :middle, :], of_tokens[..., middle + 1 :, :]], dim=-2)
        return of_tokens[..., getattr(self.model, "num_prefix_tokens", 0) :, :]


def check_crop(backbone: Backbone, architecture: str, crop: int) -> None:
    """Check that a backbone takes squares of `crop` pixels, before `radscribe pretrain` trains it.

    Raises:
        RadScribeError: it takes squares of another side only.
    """
    pixels = backbone.model.pretrained_cfg
    if pixels.get("fixed_input_size") and (side := pixels["input_size"][-1]) != crop:
        raise RadScribeError(
            f"{architecture} takes views of {side} pixels only, and not of {crop}",
            f"Give --crop {side} and a --short_side of no less, or choose a convolutional network with "
            "--architecture, such as resnet18",
        )


class SplitProjection(nn.Module):
    """timm's fused projection to queries, keys and values as three layers that have names of their own."""

    def __init__(self, fused: nn.Linear):
        super().__init__()
        width = fused.out_features // 3
        self.query, self.key, self.value = (
            nn.Linear(fused.in_features, width, bias=fused.bias is not None) for _ in range(3)
        )
        with torch.no_grad():
            for number, layer in enumerate((self.query, self.key, self.value)):
                part = slice(number * width, (number + 1) * width)
                layer.weight.copy_(fused.weight[part])
                if fused.bias is not None:
                    layer.bias.copy_(fused.bias[part])

    def forward(self, x: Tensor) -> Tensor:
        """The output of the fused layer: queries, keys and values `[..., 3 * width]`."""
        return torch.cat([self.query(x), self.key(x), self.value(x)], dim=-1)


def split_attention_projections(backbone: Backbone) -> None:
    """Give every attention of a Transformer backbone separate query, key and value layers, in place.

    Raises:
        RadScribeError: the backbone has no attention with a fused projection.
    """
    modules: list[Any] = list(backbone.modules())
    attentions = [module for module in modules if isinstance(getattr(module, "qkv", None), nn.Linear)]
    if not attentions:
        raise RadScribeError(
            f"{type(backbone.model).__name__} has no query and value projections",
            "Choose a Transformer for system.backbone.architecture, such as swin_base_patch4_window7_224",
        )
    for module in attentions:
        module.qkv = SplitProjection(module.qkv)
