"""How the process gets its memory on the CPU."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # of glibc's <malloc.h>
_LARGE = 16 * 1024 * 1024


def return_large_blocks() -> None:
    """Have glibc return large blocks to the system once they are freed, instead of keeping them to itself.

    The activations of a backbone come and go with every step; kept, they leave holes that the next step's do
    not fit, and a training step at the paper's size of R2GenCMN peaks some hundred megabytes higher. Without
    glibc this does nothing.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _LARGE)
