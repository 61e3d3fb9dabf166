"""Timing for all measurements: runs that alternate, medians, and what was measured on."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from radscribe.device import chosen_device
from radscribe.ranges import BATCH, LENGTH, THREADS, Range, check_options


def device_on(threads: int) -> torch.device:
    """The device to measure on, for random numbers that are the same in every call."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return chosen_device("auto")


def measured_on(threads: int, device: torch.device) -> dict[str, Any]:
    """What was measured on, as the last values of a result."""
    return {
        "threads": threads,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
    }


def medians_in_turn(
    runs: Sequence[Callable[[], object]], repeats: int, device: torch.device
) -> tuple[float, ...]:
    """Median seconds of each run after one warm-up; they alternate, so a busy moment slows all equally."""
    taken = [[seconds(run, device) for run in runs] for _ in range(repeats + 1)]
    return tuple(statistics.median(times) for times in zip(*taken[1:], strict=True))


def kept_bytes(run: Callable[[], Tensor], own: Iterable[Tensor]) -> tuple[int, Tensor]:
    """Bytes that autograd keeps for the backward pass of a run, and the result of the run.

    Args:
        run: What is run.
        own: Tensors that are there anyway, such as weights; they are not counted.
    """
    there = {tensor.untyped_storage().data_ptr() for tensor in own}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    return sum(kept.values()), result


def check_ranges(*, batch: int, threads: int, repeats: int, length: int | None = None) -> None:
    """Check the numbers that a measurement is asked for.

    Raises:
        RadScribeError: a number is out of range.
    """
    check_options(
        {
            "--batch": (batch, BATCH),
            **({} if length is None else {"--length": (length, LENGTH)}),
            "--threads": (threads, Range(1, THREADS.high)),
            "--repeats": (repeats, Range(1, 1000)),
        }
    )


def rounded(value: float) -> float:
    """The value rounded to three significant digits."""
    return float(f"{value:.3g}")


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """How long a run takes on a device, in seconds."""
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
