"""Golden tensors: inputs, weights and outputs of a released architecture, to hold ours against."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.interop.released import r2gen_cmn_config, r2gen_cmn_weights, r2gen_config, r2gen_weights
from radscribe.systems.encoder_decoder import TransformerConfig, TransformerNetwork, input_mask
from radscribe.systems.r2gen import MemoryDrivenTransformer
from radscribe.systems.r2gen_cmn import CrossModalMemoryNetwork
from radscribe.training.run_directory import load_strictly
from radscribe.vision.backbones import VisualTokens

TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """How ours compares with a golden file.

    Attributes:
        system: which system the file holds.
        differences: largest absolute difference of each compared output.
        sequences_equal: for each golden decoding (`beam3`, `greedy`), whether all ids are equal.
    """

    system: str
    differences: dict[str, float]
    sequences_equal: dict[str, bool]

    @property
    def passed(self) -> bool:
        """Differences within 1e-4 and every decoded id equal."""
        return all(value <= TOLERANCE for value in self.differences.values()) and all(
            self.sequences_equal.values()
        )

    def __str__(self) -> str:
        lines = [f"system: {self.system}"]
        lines += [f"largest difference of {name}: {value:.2e}" for name, value in self.differences.items()]
        lines += [
            f"{name}: {'equal' if equal else 'DIFFERENT'}" for name, equal in self.sequences_equal.items()
        ]
        return "\n".join([*lines, "passed" if self.passed else f"FAILED (tolerance {TOLERANCE:.0e})"])


def check_golden(path: Path) -> GoldenCheck:
    """Build the released architecture that `path` describes, load its weights, and compare the outputs.

    Raises:
        RadScribeError: the file cannot be read, or holds an architecture that RadScribe does not know.
    """
    config, tensors = _read(path)
    weights = _below(tensors, "weights.")
    system, network = _build(path, config, weights)
    features = tensors["input.att_feats"]
    visual = VisualTokens(features, torch.ones(features.shape[:2], dtype=torch.bool))

    tokens = tensors["input.seq"][:, :-1]
    sequences_equal = {}
    with torch.inference_mode():
        logprobs = network.logprobs(visual, tokens, input_mask(tokens))
        for name, expected in _below(tensors, "output.").items():
            if name.startswith("beam") or name == "greedy":
                beams = int(name.removeprefix("beam")) if name != "greedy" else 1
                decoding = DecodingConfig(beams=beams, maximum_length=config["max_seq_length"])
                sequences_equal[name] = torch.equal(network.generate(visual, decoding).tokens, expected)
    differences = {"log-probabilities": (logprobs - tensors["output.logprobs"]).abs().max().item()}
    return GoldenCheck(system, differences, sequences_equal)


class _Architecture(NamedTuple):
    """A released architecture: its system, and how its configuration and weights become ours."""

    system: str
    network: Callable[..., TransformerNetwork]
    config: Callable[[dict[str, Any]], TransformerConfig]
    weights: Callable[[dict[str, Tensor]], dict[str, Tensor]]


#: By a released weight that only this architecture has.
_ARCHITECTURES = {
    "memory_matrix": _Architecture("r2gen-cmn", CrossModalMemoryNetwork, r2gen_cmn_config, r2gen_cmn_weights),
    "model.rm.W.weight": _Architecture("r2gen", MemoryDrivenTransformer, r2gen_config, r2gen_weights),
}


def _build(path: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> tuple[str, TransformerNetwork]:
    """The system that the file holds, with its weights."""
    for mark, architecture in _ARCHITECTURES.items():
        if mark in weights:
            sizes = architecture.config(config)
            network = architecture.network(sizes, config["d_vf"], config["vocab_tokens"] + 1)
            load_strictly(network, architecture.weights(weights), "the golden file's weights")
            return architecture.system, network.eval()
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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise RadScribeError(f"'{path}' is not a safetensors file ({error})") from error
    if "config" not in metadata or "output.logprobs" not in tensors:
        raise RadScribeError(
            f"'{path}' is not a golden file", "It needs metadata 'config' and 'output.logprobs'"
        )
    return json.loads(metadata["config"]), tensors


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
