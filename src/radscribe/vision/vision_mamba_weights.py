"""Weights of the vision Mamba from published checkpoints: of the encoder, a system, or a pretraining."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from radscribe.errors import RadScribeError, warn
from radscribe.vision.published_pixels import DEFAULT_PIXELS, stated_beside
from radscribe.vision.vision_mamba import VISION_MAMBAS, VisionMamba
from radscribe.weights import load_strictly, read_state_dict

#: Suffixes of the released names by direction, in the order of `scan_orders`.
SUFFIXES = ("", "_b", "_c", "_c_b")
#: First words of the names in a system's checkpoint: of the encoder, and of all else that MambaXray-VL and
#: AM-MRG save beside it.
_ENCODER = "visual_encoder"
_BESIDE_THE_ENCODER = {
    "HopfieldLayers",
    "Qformer",
    "Qformer_proj",
    "R_HopfieldLayers",
    "disease_tokens",
    "layer_norm",
    "llama_model",
    "llama_proj",
    "logit_scale",
    "output_proj",
    "text_encoder",
    "text_proj",
    "vision_proj",
}
#: First words of the names in a pretraining's checkpoint that belong to the decoder, which predicts pixels.
_DECODER = {
    "ar_norm",
    "ar_pred",
    "ar_token",
    "dec_block",
    "dec_pos_embed",
    "enc2dec",
    "mask",
    "norm_1",
    "norm_2",
    "norm_3",
    "norm_4",
}
#: Weights that a pretraining does not have, and that are new in what starts from it.
_NOT_PRETRAINED = ("cls_token", "norm_f.weight", "norm_f.bias")
_DIRECTED = re.compile(r"(\.mixer\.)(?:(conv1d|x_proj|dt_proj|D)|A)(_b|_c|_c_b)?(_log)?(?=\.|$)")


def create_vision_mamba(name: str, weights: str) -> VisionMamba:
    """Build a vision Mamba by name, and load its weights.

    Args:
        name: Name of the architecture, one of `VISION_MAMBAS`.
        weights: `none` (random weights) or the path of a checkpoint; see `load_released`.

    Raises:
        RadScribeError: the file is not there or damaged, or a weight does not fit.
    """
    model = VisionMamba(VISION_MAMBAS[name])
    if weights == "none":
        return model
    load_released(model, Path(weights))
    # The released code takes the pixels as microsoft/swin-base-patch4-window7-224 does.
    pixels = DEFAULT_PIXELS._replace(interpolation="bicubic")
    model.pretrained_cfg = {"architecture": name, **pixels._asdict(), **stated_beside(Path(weights))}
    return model


def load_released(model: VisionMamba, path: Path) -> None:
    """Load a checkpoint with the released names into a vision Mamba; every weight must be known by name.

    It may be a checkpoint of the encoder alone; of a system, whose encoder is called `visual_encoder`; or of
    a pretraining, which has one direction, no class token, and a decoder. A pretraining's scan is copied to
    all directions, and its position embeddings are resized, as the released code does. What was left out,
    and what is new, is printed on standard error.

    Raises:
        RadScribeError: the file is damaged, or a weight is missing, unexpected or of another shape.
    """
    released = read_state_dict(path)
    notes: list[str] = []
    if any(_first_word(name) == _ENCODER for name in released):
        released, notes = _without(released, _BESIDE_THE_ENCODER, "the rest of the system")
        if strange := [name for name in released if _first_word(name) != _ENCODER]:
            raise RadScribeError(
                f"'{path}' has '{strange[0]}' beside its visual encoder, which no released system has",
                "Pass the checkpoint of a MambaXray-VL or an AM-MRG",
            )
        released = {name.partition(".")[2]: tensor for name, tensor in released.items()}
    weights = own_names(released)
    if "cls_token" not in weights:
        weights, notes = _without(weights, _DECODER, "the decoder of the pretraining")
        weights = _from_pretraining(weights, model)
        notes.append(f"New: {', '.join(_NOT_PRETRAINED)}")
    load_strictly(model, weights, f"'{path}'")
    if notes:
        warn(f"of '{path}' the vision Mamba took the encoder alone", ". ".join(notes))


def _first_word(name: str) -> str:
    return name.partition(".")[0]


def _without(
    weights: Mapping[str, Tensor], words: set[str], what: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights whose names do not begin with these words, and what to tell the user of the others."""
    remaining = {name: tensor for name, tensor in weights.items() if _first_word(name) not in words}
    left_out = sorted({_first_word(name) for name in weights.keys() - remaining.keys()})
    return remaining, [f"Left out, {what}: {', '.join(left_out)}"] if left_out else []


def own_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by our names: directions are numbers, where released names end in `_b`, `_c`."""

    def numbered(match: re.Match[str]) -> str:
        number = SUFFIXES.index(match[3] or "")
        return f"{match[1]}scans.{number}.{match[2] or 'A'}{match[4] or ''}"

    return {_DIRECTED.sub(numbered, name): tensor for name, tensor in released.items()}


def _from_pretraining(weights: Mapping[str, Tensor], model: VisionMamba) -> dict[str, Tensor]:
    """The encoder of a pretraining, made to fit a vision Mamba of four directions with a class token."""
    new = {name: value for name, value in model.state_dict().items() if name in _NOT_PRETRAINED}
    copies = {
        name.replace(".scans.0.", f".scans.{number}."): tensor
        for name, tensor in weights.items()
        for number in range(len(SUFFIXES))
    }
    positions = weights.get("pos_embed")
    if positions is not None and positions.ndim == 3:
        weights = {**weights, "pos_embed": _resized_positions(positions, model)}
    return {**new, **copies, **weights}


def _resized_positions(positions: Tensor, model: VisionMamba) -> Tensor:
    """Position embeddings `[1, patches, width]` at the size of a model, with zeros for its class token."""
    side, middle = math.isqrt(positions.size(1)), model.class_position
    if side * side != positions.size(1):
        return positions  # loading says what is wrong
    if side != model.sizes.side:
        grid = positions.transpose(1, 2).unflatten(2, (side, side))
        grid = functional.interpolate(grid, size=[model.sizes.side] * 2, mode="bicubic")
        positions = grid.flatten(2).transpose(1, 2)
    zero = torch.zeros_like(positions[:, :1])
    return torch.cat([positions[:, :middle], zero, positions[:, middle:]], dim=1)
