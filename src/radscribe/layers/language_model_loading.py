"""Loading a causal language model of `transformers`, and training through it with less memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from radscribe.errors import RadScribeError
from radscribe.weights import without_bars


def load_language_model(folder: Path, name: str, *, dtype: str, quantisation: str) -> Any:
    """Load the model.

    Args:
        folder: The folder with the model's files.
        name: The name that the user gave, for errors.
        dtype: Number format of its weights and of its arithmetic, by torch's name for it.
        quantisation: `none`, or the format that the weights are stored in: `int8` or `nf4`.

    Raises:
        RadScribeError: it cannot be loaded, or needs a package that is not installed.
    """
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if quantisation != "none":
        options["quantization_config"] = _quantisation(quantisation, getattr(torch, dtype))
    try:
        with without_bars():
            return AutoModelForCausalLM.from_pretrained(folder, **options)
    except Exception as error:  # every architecture fails in its own way
        raise RadScribeError(
            f"the language model '{name}' cannot be loaded ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]})",
            "It must be a causal language model that transformers knows without code of its own",
        ) from error


def _quantisation(quantisation: str, dtype: torch.dtype) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise RadScribeError(
            f"system.language_model.quantisation {quantisation} needs bitsandbytes",
            "pip install 'radscribe[quantisation]', or leave it at none",
        )
    from transformers import BitsAndBytesConfig

    if quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def recompute_layers(model: nn.Module) -> None:
    """Let the backward pass compute every layer again, so that its intermediate results are not kept.

    `transformers` can do this in training mode only, but a frozen model is always in evaluation mode.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    def recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*args, **kwargs)
            return checkpoint(forward, *args, use_reentrant=False, **kwargs)

        return run

    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.forward = recomputed(layer.forward)
