"""The batches of trainings that learn from images, without reports: single views, or all views of a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from radscribe.studies.study import Study, View
from radscribe.vision.transforms import TransformConfig, stack_views, stored_view, training_view


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


class StudyBatches:
    """The batches of one epoch over studies with all their views; see `ViewBatches`.

    Args:
        studies: Studies to learn from; each has at least one view.
        transform: Image geometry.
        size: Number of studies per batch; the last batch can be smaller.
        seed: Random seed of the training.
        epoch: Number of the epoch, counted from 0.
    """

    def __init__(
        self, studies: Sequence[Study], transform: TransformConfig, size: int, seed: int, epoch: int
    ):
        self.studies = studies
        self.transform = transform
        self.size = size
        self._seeds = [seed, epoch]

    def __len__(self) -> int:
        return -(-len(self.studies) // self.size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Yields the numbers of the studies of a batch `[batch]`, and what `stack_views` makes of them."""
        random = np.random.default_rng(self._seeds)
        order = random.permutation(len(self.studies))
        for start in range(0, len(order), self.size):
            chosen = order[start : start + self.size]
            pixels = [
                [
                    training_view(stored_view(view, self.transform).pixels, self.transform, random)
                    for view in self.studies[number].views
                ]
                for number in chosen
            ]
            yield chosen, *stack_views(pixels)
