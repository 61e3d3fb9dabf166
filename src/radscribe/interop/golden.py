"""Golden files: inputs, weights and outputs of a released architecture, with which ours is compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.interop.released import (
    camanet_config,
    camanet_weights,
    r2gen_cmn_config,
    r2gen_cmn_weights,
    r2gen_config,
    r2gen_weights,
)
from radscribe.interop.released_hopfield import MARK, hopfield_layer, hopfield_weights
from radscribe.systems.camanet import CAMANetConfig, CAMANetTransformer
from radscribe.systems.encoder_decoder import TransformerConfig, TransformerNetwork, input_mask
from radscribe.systems.r2gen import MemoryDrivenTransformer
from radscribe.systems.r2gen_cmn import CrossModalMemoryNetwork
from radscribe.vision.backbones import VisualTokens
from radscribe.vision.vision_mamba import VisionMamba, VisionMambaSizes
from radscribe.vision.vision_mamba_weights import own_names
from radscribe.weights import load_strictly

TOLERANCE = 1e-4
#: An output may also differ by this multiple of the change that 32-bit rounding alone makes.
_ROUNDINGS = 4
_ROUNDING_DRAWS = 8


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """Result of comparing RadScribe's architecture with a golden file.

    Attributes:
        system: Name of the system in the golden file.
        differences: Largest absolute difference of each compared output.
        roundings: Change of each output when its weights are only rounded to 32 bits.
        sequences_equal: For each golden decoding (`beam3`, `greedy`), whether all ids are equal.
    """

    system: str
    differences: dict[str, float]
    roundings: dict[str, float]
    sequences_equal: dict[str, bool]

    def tolerance(self, output: str) -> float:
        """Largest allowed difference of an output: 1e-4, or more if 32-bit rounding moves it further."""
        return max(TOLERANCE, _ROUNDINGS * self.roundings[output])

    @property
    def passed(self) -> bool:
        """Whether all differences are within their tolerances and all decoded ids are equal."""
        return all(value <= self.tolerance(name) for name, value in self.differences.items()) and all(
            self.sequences_equal.values()
        )

    def __str__(self) -> str:
        lines = [f"system: {self.system}"]
        lines += [
            f"largest difference of {name}: {value:.2e} (tolerance {self.tolerance(name):.1e})"
            for name, value in self.differences.items()
        ]
        lines += [
            f"{name}: {'equal' if equal else 'DIFFERENT'}" for name, equal in self.sequences_equal.items()
        ]
        return "\n".join([*lines, "passed" if self.passed else "FAILED"])


def check_golden(path: Path) -> GoldenCheck:
    """Build the released architecture that `path` describes, load its weights, and compare the outputs.

    A recurrent memory with random weights may amplify rounding errors a thousandfold, in the golden file and
    in ours. So the outputs are also computed in 64 bits, from weights that are randomly changed by half of a
    32-bit rounding. Outputs that change much by this are not required to agree more closely.

    Raises:
        RadScribeError: the file cannot be read, or its architecture is not known to RadScribe.
    """
    config, tensors = _read(path)
    weights = _below(tensors, "weights.")
    architecture = _architecture(path, weights)
    try:
        return _check(config, tensors, weights, architecture)
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
        raise RadScribeError(
            f"'{path}' is no whole golden file of {architecture.system} ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:150]})",
            "Take it from its source again",
        ) from error


def _check(
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    weights: dict[str, Tensor],
    architecture: _Architecture,
) -> GoldenCheck:
    network = architecture.network(config, tensors)
    load_strictly(network, architecture.weights(weights), "the golden file's weights")
    network.eval()

    sequences_equal = {}
    with torch.inference_mode():
        ours = architecture.outputs(network, tensors)
        for name, expected in _below(tensors, "output.").items():
            if name.startswith("beam") or name == "greedy":
                beams = int(name.removeprefix("beam")) if name != "greedy" else 1
                decoding = DecodingConfig(beams=beams, maximum_length=config["max_seq_length"])
                decoded = network.generate(_visual(tensors), decoding)
                sequences_equal[name] = torch.equal(decoded.tokens, expected)
        differences = {
            name: _largest_difference(ours[name], tensors[f"output.{name}"])
            for name in ours
            if f"output.{name}" in tensors
        }
        roundings = _roundings(architecture, network, tensors)
    return GoldenCheck(architecture.system, differences, roundings, sequences_equal)


def _largest_difference(ours: Tensor, golden: Tensor) -> float:
    return (ours - golden.reshape(ours.shape)).abs().max().item()


def _roundings(
    architecture: _Architecture, network: nn.Module, tensors: dict[str, Tensor]
) -> dict[str, float]:
    network.double()
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}
    exact = architecture.outputs(network, inputs)
    weights = [parameter.clone() for parameter in network.parameters()]
    generator = torch.Generator().manual_seed(0)
    moved = dict.fromkeys(exact, 0.0)
    for _ in range(_ROUNDING_DRAWS):
        for parameter, weight in zip(network.parameters(), weights, strict=True):
            noise = torch.rand(weight.shape, generator=generator, dtype=weight.dtype) * 2 - 1
            parameter.copy_(weight * (1 + noise * torch.finfo(torch.float32).eps / 2))
        for name, value in architecture.outputs(network, inputs).items():
            moved[name] = max(moved[name], _largest_difference(value, exact[name]))
    return moved


def _visual(tensors: dict[str, Tensor]) -> VisualTokens:
    features = tensors["input.att_feats" if "input.att_feats" in tensors else "input.patch_feats"]
    return VisualTokens(features, torch.ones(features.shape[:2], dtype=torch.bool))


def _logprobs(network: TransformerNetwork, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    tokens = tensors["input.seq"][:, :-1]
    return {"logprobs": network.logprobs(_visual(tensors), tokens, input_mask(tokens))}


class _CAMANetWithGivenLogits(CAMANetTransformer):
    """CAMANet with the logits of a golden file, which are not computed from the features of that file."""

    def __init__(self, config: CAMANetConfig, channels: int, logits: int, tensors: dict[str, Tensor]):
        super().__init__(config, channels, logits)
        self.given = tensors["input.logits"]

    def visual_discriminative_map(self, visual: VisualTokens, logits: Tensor | None = None) -> Tensor:
        """See `CAMANetTransformer`."""
        return super().visual_discriminative_map(visual, self.given)


def _camanet_outputs(network: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    visual, tokens = _visual(tensors), tensors["input.seq"][:, :-1]
    mask = input_mask(tokens)
    vdm = network.visual_discriminative_map(visual)
    encoded = network.encode_beside(visual, vdm)
    last = len(network.decoder.layers) - 1
    decoded, attention = network.decode(encoded.tokens, visual.mask, tokens, mask, attention_from=last)
    similarity, selected = network.select_words(encoded, tokens, mask)
    tdm = network.textual_discriminative_map(attention[0], similarity, selected, visual.mask)
    return {
        "cams": network.classifier.activation_maps(visual).relu(),
        "vdm": vdm,
        "discriminative_token": network.discriminative_token(visual, vdm),
        "tdm": tdm,
        "loss_mse": network.consistency(tdm, vdm, visual.mask, tensors["input.labels"]),
        "logprobs": network.word_logprobs(decoded),
    }


class _Architecture(NamedTuple):
    """A released architecture: its system, and how it is built, loaded and run."""

    system: str
    network: Callable[[dict[str, Any], dict[str, Tensor]], Any]
    weights: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    outputs: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]] = _logprobs


def _words(
    network: Callable[..., TransformerNetwork], converted: Callable[[dict[str, Any]], TransformerConfig]
) -> Callable[[dict[str, Any], dict[str, Tensor]], TransformerNetwork]:
    """How a network that writes words is built."""
    return lambda config, tensors: network(converted(config), config["d_vf"], config["vocab_tokens"] + 1)


def _camanet(config: dict[str, Any], tensors: dict[str, Tensor]) -> TransformerNetwork:
    return _words(partial(_CAMANetWithGivenLogits, tensors=tensors), camanet_config)(config, tensors)


def _vision_mamba(config: dict[str, Any], tensors: dict[str, Tensor]) -> VisionMamba:
    names = {"embed_dim": "width", "depth": "layers", "d_state": "state", "d_conv": "convolution"}
    names |= {"image_size": "image_size", "patch_size": "patch_size"}
    return VisionMamba(VisionMambaSizes(**{ours: config[theirs] for theirs, ours in names.items()}))


#: Architectures, each by the name of a released weight that only it has.
_ARCHITECTURES = {
    "memory_matrix": _Architecture(
        "r2gen-cmn", _words(CrossModalMemoryNetwork, r2gen_cmn_config), r2gen_cmn_weights
    ),
    "model.rm.W.weight": _Architecture("r2gen", _words(MemoryDrivenTransformer, r2gen_config), r2gen_weights),
    "fore_back_learn.norm.gamma": _Architecture("camanet", _camanet, camanet_weights, _camanet_outputs),
    "layers.0.mixer.A_c_b_log": _Architecture(
        "vision-mamba",
        _vision_mamba,
        own_names,
        lambda network, tensors: {"tokens": network.forward_features(tensors["input.images"])},
    ),
    MARK: _Architecture(
        "am-mrg (Hopfield layer)",
        lambda config, tensors: hopfield_layer(config),
        hopfield_weights,
        lambda layer, tensors: {
            "retrieved": layer(tensors["input.queries"], layer.store(tensors["input.bank"]))
        },
    ),
}


def _architecture(path: Path, weights: dict[str, Tensor]) -> _Architecture:
    for mark, architecture in _ARCHITECTURES.items():
        if mark in weights:
            return architecture
    raise RadScribeError(
        f"'{path}' holds an architecture that RadScribe does not know",
        f"Its weights are called {', '.join(sorted(weights)[:3])}, ...",
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise RadScribeError(f"there is no golden file '{path}'", "Give the path of a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except SafetensorError as error:
        raise RadScribeError(
            f"'{path}' is not a safetensors file ({error})", "Take it from its source again"
        ) from error
    if "config" not in metadata or not _below(tensors, "output."):
        raise RadScribeError(
            f"'{path}' is not a golden file",
            "It needs metadata 'config' and outputs, such as 'output.logprobs'",
        )
    try:
        config = dict(json.loads(metadata["config"]))
    except (ValueError, TypeError) as error:
        raise RadScribeError(
            f"'{path}' is not a golden file: its metadata 'config' is damaged "
            f"({type(error).__name__}: {error})",
            "Take it from its source again",
        ) from error
    return config, tensors


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
