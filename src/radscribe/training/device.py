"""Where to run."""

from __future__ import annotations

import torch

from radscribe.errors import RadScribeError


def chosen_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` names here.

    Raises:
        RadScribeError: `cuda` is asked for and not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RadScribeError("torch finds no CUDA device here", "Leave the device at auto, or say cpu")
    return torch.device(name)
