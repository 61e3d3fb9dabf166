"""What the trainings on views, without reports, learn from: single views, or all views of a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from radscribe.studies.study import Study, View
from radscribe.vision.transforms import TransformConfig, stack_views, stored_view, training_view


class ViewBatches:
    """The batches of one epoch over single views; what is random in them follows from seed and epoch.

    Args:
        views: to learn from.
        transform: image geometry.
        size: views per batch; the last batch may be smaller.
        seed: of the training.
        epoch: counted from 0.
    """

    def __init__(self, views: Sequence[View], transform: TransformConfig, size: int, seed: int, epoch: int):
        self.views = views
        self.transform = transform
        self.size = size
        self._seeds = [seed, epoch]

    def __len__(self) -> int:
        return -(-len(self.views) // self.size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Give the number of each view of a batch `[batch]`, and pixels, uint8 `[batch, crop, crop]`."""
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
        studies: to learn from, each with at least one view.
        transform: image geometry.
        size: studies per batch; the last batch may be smaller.
        seed: of the training.
        epoch: counted from 0.
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
        """Give the number of each study of a batch `[batch]`, and what `stack_views` makes of its views."""
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
