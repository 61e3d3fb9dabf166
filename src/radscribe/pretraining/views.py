"""The batches of trainings that learn from single views, without reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from radscribe.studies.study import View
from radscribe.vision.transforms import TransformConfig, stored_view, training_view


class ViewBatches:
    """The batches of one epoch over single views; order and crops depend on seed and epoch only.

    Args:
        views: Views to learn from.
        transform: Image geometry.
        size: Number of views per batch; the last batch may be smaller.
        seed: Random seed of the training.
        epoch: Number of the epoch, counted from 0.
    """

    def __init__(self, views: Sequence[View], transform: TransformConfig, size: int, seed: int, epoch: int):
        self.views = views
        self.transform = transform
        self.size = size
        self._seeds = [seed, epoch]

    def __len__(self) -> int:
        return -(-len(self.views) // self.size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Give each batch: numbers of its views `[batch]`, and their pixels, uint8 `[batch, crop, crop]`."""
        random = np.random.default_rng(self._seeds)
        order = random.permutation(len(self.views))
        for start in range(0, len(order), self.size):
            chosen = order[start : start + self.size]
            pixels = [
                training_view(stored_view(self.views[number], self.transform).pixels, self.transform, random)
                for number in chosen
            ]
            yield chosen, torch.stack(pixels)
