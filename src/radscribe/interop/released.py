"""Reading released checkpoints of the published systems, and converting their weights and configurations.

Loading is strict: every released tensor is either renamed to one of ours, or it is a known copy or constant
whose value is checked. Any other tensor is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.layers.transformer import SinusoidalPositions
from radscribe.systems.camanet import CAMANetConfig
from radscribe.systems.r2gen import R2GenConfig
from radscribe.systems.r2gen_cmn import R2GenCMNConfig

_ATTENTION = {"linears.0": "query", "linears.1": "key", "linears.2": "value", "linears.3": "output"}
_RESNET_STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}

#: Rules that turn released names of the R2Gen family's Transformer into ours, applied in order.
_TRANSFORMER_NAMES = [
    (r"^att_embed\.0\.", "visual_projection.0."),
    (r"^logit\.", "logits."),
    (r"^model\.tgt_embed\.0\.lut\.", "embedding."),
    (r"^model\.", ""),
    (r"\.self_attn\.", r".self_attention."),
    (r"\.src_attn\.", r".cross_attention."),
    (r"^(encoder\..*)\.self_attention\.", r"\1.attention."),
    (r"\.(linears\.[0-3])\.", lambda match: f".{_ATTENTION[match[1]]}."),
    (r"\.feed_forward\.w_1\.", ".feed_forward.0."),
    (r"\.feed_forward\.w_2\.", ".feed_forward.3."),
    (r"\.sublayer\.(\d)\.norm\.", r".norms.\1."),
    (r"\.mlp_gamma\.", ".scale_mlp."),
    (r"\.mlp_beta\.", ".shift_mlp."),
    (r"\.(a_2|gamma)$", ".scale"),
    (r"\.(b_2|beta)$", ".shift"),
]

_R2GEN_CMN_NAMES = [
    (r"^cmn\.", "memories.0."),
    (r"^memory_matrix$", "memories.0.matrix"),
    *_TRANSFORMER_NAMES,
]


_R2GEN_NAMES = [
    (r"^model\.rm\.W\.", "memory.word_gates."),
    (r"^model\.rm\.U\.", "memory.memory_gates."),
    (r"^model\.rm\.attn\.(linears\.[0-3])\.", lambda match: f"memory.attention.{_ATTENTION[match[1]]}."),
    (r"^model\.rm\.", "memory."),
    *_TRANSFORMER_NAMES,
]


def r2gen_config(released: Mapping[str, Any]) -> R2GenConfig:
    """Convert the released R2Gen's arguments to a configuration."""
    return R2GenConfig(**_r2gen_sizes(released))


def _r2gen_sizes(released: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes that R2Gen and CAMANet have in common, by RadScribe's names."""
    _refuse_batch_norm(released)
    if released["rm_d_model"] != released["d_model"]:
        raise RadScribeError("released R2Gen weights need rm_d_model equal to d_model")
    return {
        **_transformer_sizes(released),
        "memory_slots": released["rm_num_slots"],
        "memory_heads": released["rm_num_heads"],
    }


def r2gen_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the released encoder-decoder to those of `MemoryDrivenTransformer`.

    Raises:
        RadScribeError: the position code is not sinusoidal.
    """
    return _rename(_without_positions(released), _R2GEN_NAMES)


_CAMANET_NAMES = [
    (r"^encoder_decoder\.", ""),
    (r"^visual_extractor\.head\.", "classifier.head."),
    (r"^fore_back_learn\.norm\.", "discriminative_norm."),
    *_R2GEN_NAMES,
]


def camanet_config(released: Mapping[str, Any]) -> CAMANetConfig:
    """Convert the released CAMANet's arguments to a configuration."""
    return CAMANetConfig(
        **_r2gen_sizes(released),
        word_share=released["topk_words"],
        classifier="sigmoid",
        map_normalisation="joint",
        word_anchor="first_patch",
        word_selection="floor",
        consistency_studies="with_findings",
    )


def camanet_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the released weights, without the image backbone, to those of `CAMANetTransformer`.

    The released code also normalises the regions outside the VDM but does not use them, so the weights
    `back_norm` are dropped.

    Raises:
        RadScribeError: the second copy of the normalisation differs, or the position code is not sinusoidal.
    """
    remaining = {}
    for name, tensor in released.items():
        if name.startswith("fore_back_learn.fore_norm."):
            if not torch.equal(tensor, released[name.replace("fore_norm", "norm")]):
                raise RadScribeError(f"the two copies of the normalisation differ in '{name}'")
        elif not name.startswith("fore_back_learn.back_norm."):
            remaining[name] = tensor
    return _rename(_without_positions(remaining), _CAMANET_NAMES)


def r2gen_cmn_config(released: Mapping[str, Any]) -> R2GenCMNConfig:
    """Convert the released R2GenCMN's arguments to a configuration."""
    _refuse_batch_norm(released)
    if released["cmm_dim"] != released["d_model"]:
        raise RadScribeError("released R2GenCMN weights need cmm_dim equal to d_model")
    return R2GenCMNConfig(
        **_transformer_sizes(released),
        memory_size=released["cmm_size"],
        threads=released["num_heads"],
        top_k=released["topk"],
        memory_input="features_and_responses",
    )


def r2gen_cmn_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the released encoder-decoder to those of `CrossModalMemoryNetwork`.

    Raises:
        RadScribeError: the second copy of the memory differs, or the position code is not sinusoidal.
    """
    remaining = dict(released)
    for name in list(remaining):
        copied = name.startswith("model.cmn.")
        if copied and not torch.equal(remaining.pop(name), released[name.removeprefix("model.")]):
            raise RadScribeError(f"the two copies of the memory differ in '{name}'")
    return _rename(_without_positions(remaining), _R2GEN_CMN_NAMES)


def sizes_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of the configuration that follow from the weights of a released encoder-decoder."""
    width = weights["logit.weight"].size(1)
    sizes = {
        "width": width,
        "feed_forward": weights["model.encoder.layers.0.feed_forward.w_1.weight"].size(0),
        "layers": sum(name.endswith("src_attn.linears.0.bias") for name in weights),
    }
    if "memory_matrix" in weights:
        sizes["memory_size"] = weights["memory_matrix"].size(0)
    driven = "model.decoder.layers.0.sublayer.0.norm.mlp_gamma.0.weight"
    if driven in weights:
        sizes["memory_slots"] = weights[driven].size(1) // width
    return sizes


def resnet_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ResNet that was released as a `Sequential` of torchvision's children to timm's names."""
    renamed = {}
    for name, tensor in released.items():
        stage, _, rest = name.removeprefix("model.").partition(".")
        if stage not in _RESNET_STAGES:
            raise RadScribeError(f"unexpected weight '{name}' in the released visual extractor")
        renamed[f"{_RESNET_STAGES[stage]}.{rest}"] = tensor
    return renamed


def densenet_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a DenseNet that was released as torchvision's `features` to timm's names."""
    return {f"features.{name.removeprefix('model.')}": tensor for name, tensor in released.items()}


class ReleasedSystem(NamedTuple):
    """How a released checkpoint of a system is converted.

    Attributes:
        beside: Beginnings of the names of weights that belong to the network but are outside its
            encoder-decoder.
        network: Renames the weights of the network.
        backbone: Renames the weights of the backbone.
    """

    beside: tuple[str, ...]
    network: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    backbone: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


RELEASED_SYSTEMS = {
    "r2gen": ReleasedSystem((), r2gen_weights, resnet_weights),
    "r2gen-cmn": ReleasedSystem((), r2gen_cmn_weights, resnet_weights),
    "camanet": ReleasedSystem(
        ("visual_extractor.head.", "fore_back_learn."), camanet_weights, densenet_weights
    ),
}


def _refuse_batch_norm(released: Mapping[str, Any]) -> None:
    if released.get("use_bn"):
        raise RadScribeError("released weights with use_bn are not supported", "They hold batch norm layers")


def _transformer_sizes(released: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TransformerConfig` from the arguments of the released code."""
    return {
        "width": released["d_model"],
        "feed_forward": released["d_ff"],
        "heads": released["num_heads"],
        "layers": released["num_layers"],
        "dropout": released["dropout"],
        "visual_dropout": released["drop_prob_lm"],
    }


def _without_positions(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights except the position codes, after a check that these are the same constants as ours."""
    for name, tensor in weights.items():
        if name.endswith(".pe"):
            _check_positions(name, tensor)
    return {name: tensor for name, tensor in weights.items() if not name.endswith(".pe")}


def _check_positions(name: str, released: Tensor) -> None:
    width, length = released.size(-1), released.size(-2)
    own = SinusoidalPositions(width, 0.0, length).code
    if (released.reshape(length, width) - own).abs().max() > 1e-4:
        raise RadScribeError(f"the position code '{name}' is not sinusoidal")


def _rename(weights: Mapping[str, Tensor], rules: list[tuple]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in weights.items():
        new_name = name
        for pattern, replacement in rules:
            new_name = re.sub(pattern, replacement, new_name)
        renamed[new_name] = tensor
    return renamed
