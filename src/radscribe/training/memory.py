"""How the process gets its memory on the CPU."""

from __future__ import annotations

import ctypes
from contextlib import suppress

# Parameters of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

#: Bytes; below the first activations of a batch of 16 studies of two views, of which there are few.
_KEPT_BELOW = 100_000_000
#: Bytes; the most that can be said.
_FREE_AT_THE_TOP = 2**31 - 1


def keep_large_blocks() -> None:
    """Have glibc keep all but the very largest blocks once they are freed, instead of returning them.

    The activations of a backbone come and go with every step. Fetched anew, each of their pages is faulted in
    and cleared first, which takes a third of a training step at a paper's size. Kept, they leave holes that
    the next step's do not quite fit, and memory peaks a few percent higher; more if the largest were kept
    too. One arena for all threads lets the backward pass, which has its own thread, reuse what the forward
    pass freed. Without glibc this does nothing.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BELOW)
        mallopt(_M_TRIM_THRESHOLD, _FREE_AT_THE_TOP)
        mallopt(_M_ARENA_MAX, 1)
