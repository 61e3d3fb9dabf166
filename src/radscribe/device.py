"""Choosing the device: CPU or GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from radscribe.errors import RadScribeError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[str, ...] = get_args(Device)


def chosen_device(name: str) -> torch.device:
    """The device of this machine for the name `auto`, `cpu` or `cuda`.

    Raises:
        RadScribeError: the name is none of these, or it is `cuda` and there is no CUDA device.
    """
    import torch

    if name not in DEVICES:
        raise RadScribeError(
            f"unknown device '{name}'", f"Known: {', '.join(DEVICES)}; auto takes a GPU where there is one"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RadScribeError("torch finds no CUDA device here", "Leave the device at auto, or choose cpu")
    return torch.device(name)
