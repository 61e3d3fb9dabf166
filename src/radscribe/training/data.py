"""From a prepared store to batches, so that every batch is a function of the seed and its number alone.

That is what makes an interrupted run resumable bit for bit: the order of studies depends on seed and epoch,
each random crop on seed, epoch and study, and nothing on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from radscribe.parts.view_classifier import ViewClassifier, with_predicted_projections
from radscribe.runs.config import DataConfig
from radscribe.runs.labels import labels_of
from radscribe.runs.views import Item, collate, projections_of
from radscribe.studies.study import Study
from radscribe.systems.system import Batch, System
from radscribe.vision.transforms import (
    stored_view,
    training_view,
)


def training_views(study: Study, config: DataConfig, random: np.random.Generator) -> list[Tensor]:
    """The views that a system learns from: those of `evaluation_views`, with random crops.

    Raises:
        RadScribeError: a view cannot be read.
    """
    return [
        training_view(stored_view(view, config.transform).pixels, config.transform, random)
        for view in study.views[: config.views]
    ]


@dataclass(frozen=True, slots=True)
class TrainingSet(Dataset):
    """Training studies, addressed by (epoch, number)."""

    studies: Sequence[Study]
    tokens: Sequence[list[int]]
    labels: np.ndarray
    config: DataConfig
    seed: int

    @classmethod
    def of(
        cls, studies: Sequence[Study], system: System, config: DataConfig, seed: int, device: str = "auto"
    ) -> TrainingSet:
        """Encode and label the reports of `studies` once, and predict unknown projections where asked to.

        Args:
            studies: with reports.
            system: whose tokens they become.
            config: section, labels, views and view classifier.
            seed: of order and crops.
            device: where the view classifier runs: `auto`, `cpu` or `cuda`.

        Raises:
            RadScribeError: labels are missing, there is no such view classifier, or a view cannot be read.
        """
        if config.view_classifier:
            classifier = ViewClassifier.load(config.view_classifier, device)
            studies = with_predicted_projections(studies, classifier, config.views)
        tokens = [system.encode_report(study.report(config.section)) for study in studies]
        return cls(studies, tokens, labels_of(studies, config), config, seed)

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, number = key
        random = np.random.default_rng([self.seed, epoch, number])
        study = self.studies[number]
        views, projections = training_views(study, self.config, random), projections_of(study, self.config)
        return study.id, views, self.tokens[number], self.labels[number], projections


class TrainingBatches:
    """Batches of all epochs, one after the other, from any position on.

    Attributes:
        position: batches given so far, over all epochs. Setting it before iteration resumes there.
    """

    def __init__(self, training_set: TrainingSet, batch_size: int, workers: int):
        self.training_set = training_set
        self.batch_size = batch_size
        self.workers = workers
        self.position = 0

    def __len__(self) -> int:
        return -(-len(self.training_set) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the present epoch."""
        epoch, done = divmod(self.position, len(self))
        order = np.random.default_rng([self.training_set.seed, epoch]).permutation(len(self.training_set))
        batches = [
            [(epoch, int(number)) for number in order[start : start + self.batch_size]]
            for start in range(0, len(order), self.batch_size)
        ]
        loader = DataLoader(
            self.training_set, batch_sampler=batches[done:], num_workers=self.workers, collate_fn=collate
        )
        for batch in loader:
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """What `load_state_dict` needs to go on from here."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where `state_dict` was taken."""
        self.position = state["position"]
