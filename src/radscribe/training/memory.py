"""Memory of a training: whether it can fit at all, faster allocation on the CPU, and how much was taken."""

from __future__ import annotations

import copy
import ctypes
import os
import resource
from contextlib import suppress

import torch
from torch import nn

from radscribe.errors import RadScribeError
from radscribe.runs.config import RunConfig
from radscribe.systems.registry import get_system
from radscribe.text.vocabulary import Vocabulary

#: Bytes that training needs per parameter: for its value, its gradient, and two moments of the optimiser.
_BYTES_PER_PARAMETER = 16

# Parameters of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

#: Blocks below this many bytes are kept. The few largest activations of 16 studies of two views are larger.
_KEPT_BELOW = 100_000_000
#: Bytes that may stay free at the top of the heap; the largest value that glibc takes.
_FREE_AT_THE_TOP = 2**31 - 1


def keep_large_blocks() -> None:
    """Let glibc keep freed blocks, except the very largest, instead of returning them to the system.

    Every step allocates and frees the activations of a backbone. When blocks come from the system, each page
    is faulted in and cleared first, which takes a third of a training step at a paper's size. When blocks are
    kept, those of the next step do not quite fit into the holes, and memory peaks a few percent higher; the
    peak would be higher still if the largest blocks were kept too. All threads share one arena, so that the
    backward pass, which has its own thread, can reuse the memory that the forward pass freed. Without glibc
    this function does nothing.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BELOW)
        mallopt(_M_TRIM_THRESHOLD, _FREE_AT_THE_TOP)
        mallopt(_M_ARENA_MAX, 1)


def check_fits(config: RunConfig, vocabulary: Vocabulary, device: torch.device) -> None:
    """Check that the trained parts of a system fit into memory at all, before anything is allocated.

    Activations are not counted: a training that passes this check may still need more memory than there is.

    Args:
        config: Configuration with the sizes of the system.
        vocabulary: Vocabulary of the training reports.
        device: Device on which the system will be trained.

    Raises:
        RadScribeError: weights, gradients and the optimiser's moments alone need more memory than there is.
    """
    with torch.device("meta"):  # builds everything, without memory
        parts = _sized_parts(config, vocabulary)
    needed = _BYTES_PER_PARAMETER * sum(weight.numel() for part in parts for weight in part.parameters())
    if device.type == "cuda":
        there, place = torch.cuda.get_device_properties(device).total_memory, "the GPU"
    else:
        there, place = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "this machine"
    if needed > there:
        raise RadScribeError(
            f"a {config.system_name} of these sizes needs at least {needed / 1e9:,.0f} GB of memory for its "
            f"weights, gradients and optimiser, and {place} has {there / 1e9:,.0f} GB",
            "Choose smaller sizes, such as a smaller width or fewer layers; "
            f"radscribe recipes {config.recipe} --print_config shows the recipe's",
        )


def _sized_parts(config: RunConfig, vocabulary: Vocabulary) -> list[nn.Module]:
    """The parts whose sizes the configuration gives: all but a language model, whose files give its size."""
    sizes = copy.deepcopy(config.system)
    sizes.start_from_nothing()
    if sizes.language_model is None:
        return [get_system(config.system_name).build(sizes, vocabulary, config.data.maximum_length)]
    return [component.build() for component in sizes.components]


def peak_memory_gb(device: torch.device) -> float:
    """The most memory so far, in GB (10^9 bytes): of the device, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
