"""What trainings on single views, without reports, have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.studies.images import read_view
from radscribe.studies.study import View
from radscribe.vision.transforms import TransformConfig, training_view


def check_new(out: Path, epochs: int, batch: int) -> None:
    """Refuse to write beside what is there, and to train on nothing.

    Raises:
        RadScribeError: there is something in `out` already, or a number is below 1.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RadScribeError(f"there is something in '{out}' already", "Choose another --out")
    if epochs < 1 or batch < 1:
        raise RadScribeError("--epochs and --batch must be at least 1")


def view_batches(
    views: Sequence[View], transform: TransformConfig, batch: int, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """One epoch; what is random follows from seed and epoch.

    Returns:
        Indices into `views` `[batch]`, and their pixels, uint8 `[batch, crop, crop]`.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(views))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        pixels = [
            training_view(read_view(views[number], transform.short_side).pixels, transform, random)
            for number in chosen
        ]
        yield chosen, torch.stack(pixels)
