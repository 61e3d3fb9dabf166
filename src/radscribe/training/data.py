"""Training batches from a prepared store; each batch depends on the seed and its own number alone.

So an interrupted run can be resumed bit for bit: the order of studies depends on seed and epoch, each random
crop depends on seed, epoch and study, and nothing depends on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from radscribe.device import chosen_device
from radscribe.parts.view_classifier import ViewClassifier, with_predicted_projections
from radscribe.progress import track
from radscribe.runs.config import DataConfig
from radscribe.runs.labels import labels_of
from radscribe.runs.views import Item, collate, evaluation_batches, projections_of
from radscribe.studies.study import Study
from radscribe.systems.system import Batch, System
from radscribe.vision.transforms import (
    stored_view,
    training_view,
)


def training_views(study: Study, config: DataConfig, random: np.random.Generator) -> list[Tensor]:
    """The views of a study that a system learns from: the same as for evaluation, but with random crops.

    Raises:
        RadScribeError: a view cannot be read.
    """
    return [
        training_view(stored_view(view, config.transform).pixels, config.transform, random)
        for view in study.views[: config.views]
    ]


@dataclass(frozen=True, slots=True)
class TrainingSet(Dataset):
    """Training studies; an item is addressed by its epoch and its number."""

    studies: Sequence[Study]
    tokens: Sequence[list[int]]
    labels: np.ndarray
    config: DataConfig
    seed: int

    @classmethod
    def of(
        cls,
        studies: Sequence[Study],
        system: System,
        config: DataConfig,
        seed: int,
        device: str = "auto",
        *,
        progress: bool = False,
    ) -> TrainingSet:
        """Encode and label the reports of `studies` once, and predict unknown projections if configured.

        Args:
            studies: Studies that have reports.
            system: The system that encodes the reports as its tokens.
            config: Settings of section, labels, views and view classifier.
            seed: Random seed of the order of studies and of the crops.
            device: Device of the view classifier and of other parts: `auto`, `cpu` or `cuda`.
            progress: Show the progress where views are looked at.

        Raises:
            RadScribeError: labels are missing, there is no such view classifier, or a view cannot be read.
        """
        if config.view_classifier:
            classifier = ViewClassifier.load(config.view_classifier, device)
            studies = with_predicted_projections(studies, classifier, config.views)
        reports = [study.report(config.section) for study in studies]
        views = _views_of(studies, config, chosen_device(device), progress)
        labels = system.training_labels(torch.from_numpy(labels_of(studies, config)), reports, views)
        return cls(studies, [system.encode_report(text) for text in reports], labels.numpy(), config, seed)

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, number = key
        random = np.random.default_rng([self.seed, epoch, number])
        study = self.studies[number]
        views, projections = training_views(study, self.config, random), projections_of(study, self.config)
        return study.id, views, self.tokens[number], self.labels[number], projections


def _views_of(
    studies: Sequence[Study], config: DataConfig, device: torch.device, progress: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """The views of studies and their masks, in batches, without random changes."""
    batches = evaluation_batches(studies, config, batch_size=16, workers=0)
    for batch in track(batches, len(batches), "observations", "batches", show=progress):
        yield batch.views.to(device), batch.view_mask.to(device)


class TrainingBatches:
    """Batches of all epochs, one after the other; iteration can begin at any position.

    Attributes:
        position: Number of batches given so far, over all epochs. If it is set before an iteration, the
            iteration begins there.
    """

    def __init__(self, training_set: TrainingSet, batch_size: int, workers: int):
        self.training_set = training_set
        self.batch_size = batch_size
        self.workers = workers
        self.position = 0

    def __len__(self) -> int:
        return -(-len(self.training_set) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Give the remaining batches of the current epoch."""
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
        """The state that `load_state_dict` needs to go on from here."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where `state_dict` was taken."""
        self.position = state["position"]
