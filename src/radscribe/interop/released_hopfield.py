"""Released Hopfield layers: their weights by our names, and their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.layers.hopfield import HopfieldAssociation

#: A released weight that only a Hopfield layer has.
MARK = "association_core.in_proj_bias"
_HOPFIELD_NAMES = {
    "norm_state_pattern": "state_norm",
    "norm_stored_pattern": "stored_norm",
    "norm_pattern_projection": "value_norm",
    "association_core.out_proj": "output",
}


def hopfield_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a released Hopfield layer to those of `HopfieldAssociation`.

    Raises:
        RadScribeError: the layer has other projections than those of query, key and value, with biases.
    """
    renamed, core = {}, dict(released)
    for theirs, ours in _HOPFIELD_NAMES.items():
        for name in ("weight", "bias"):
            if (tensor := core.pop(f"{theirs}.{name}", None)) is not None:
                renamed[f"{ours}.{name}"] = tensor
    projections = {
        name: weight
        for name in ("query", "key", "value")
        if (weight := core.pop(f"association_core.{name[0]}_proj_weight", None)) is not None
    }
    biases = core.pop("association_core.in_proj_bias", None)
    sizes = [len(weight) for weight in projections.values()]
    if core or biases is None or len(sizes) < 3 or len(biases) != sum(sizes):
        raise RadScribeError(
            "these are not the weights of a Hopfield layer of AM-MRG",
            f"Its weights are called {', '.join(sorted(released)[:3])}, ...",
        )
    for (name, weight), bias in zip(projections.items(), biases.split(sizes), strict=True):
        assert weight is not None
        renamed |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return renamed


def hopfield_layer(released: Mapping[str, Any]) -> HopfieldAssociation:
    """A layer of the released sizes, with random weights.

    The released `update_steps_max` does not count the first step.
    """
    return HopfieldAssociation(
        released["input_size"],
        pattern=released["pattern_size"],
        outputs=released["output_size"],
        heads=released["num_heads"],
        hidden=released["hidden_size"],
        beta=released["scaling"],
        steps=released.get("update_steps_max", 0) + 1,
        dropout=released["dropout"],
    )
