"""From a prepared store to batches, so that every batch is a function of the seed and its number alone.

That is what makes an interrupted run resumable bit for bit: the order of studies depends on seed and epoch,
each random crop on seed, epoch and study, and nothing on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.studies.study import PROJECTIONS, Study
from radscribe.systems.system import Batch, System
from radscribe.training.config import DataConfig
from radscribe.training.labels import labels_of
from radscribe.training.view_classifier import ViewClassifier, with_predicted_projections
from radscribe.vision.transforms import (
    evaluation_mask,
    evaluation_view,
    stack_views,
    stored_view,
    training_view,
)


def report_of(study: Study, section: str) -> str:
    """The section of a study that is drafted, empty where it has none."""
    return study.report(section)


def studies_with_report(studies: Sequence[Study], section: str, split: str) -> list[Study]:
    """The studies that have the section.

    Raises:
        RadScribeError: none has.
    """
    found = [study for study in studies if report_of(study, section).strip()]
    if not found:
        raise RadScribeError(
            f"no study of the {split} split has a section '{section}'",
            "Choose another with --data.section, or prepare a source that has reports",
        )
    return found


def evaluation_views(study: Study, config: DataConfig) -> list[Tensor]:
    """The views that a trained system sees of a study, uint8 `[crop, crop]` each.

    Raises:
        RadScribeError: a view cannot be read.
    """
    return [
        evaluation_view(stored_view(view, config.transform).pixels, config.transform)
        for view in study.views[: config.views]
    ]


def evaluation_masks(study: Study, config: DataConfig) -> list[dict[str, np.ndarray]]:
    """The findings' masks in each of `evaluation_views`, bool `[crop, crop]` by observation, where known.

    Raises:
        RadScribeError: a view cannot be read.
    """
    views = [stored_view(view, config.transform) for view in study.views[: config.views]]
    return [
        {name: evaluation_mask(mask, config.transform) for name, mask in view.masks.items()} for view in views
    ]


def training_views(study: Study, config: DataConfig, random: np.random.Generator) -> list[Tensor]:
    """The same with random crops.

    Raises:
        RadScribeError: a view cannot be read.
    """
    return [
        training_view(stored_view(view, config.transform).pixels, config.transform, random)
        for view in study.views[: config.views]
    ]


def projections_of(study: Study, config: DataConfig) -> list[int]:
    """The projection of each view that a system sees, as its index in `PROJECTIONS`."""
    return [PROJECTIONS.index(view.projection) for view in study.views[: config.views]]


#: A study on its way into a batch: id, views, tokens, observation labels, projections.
Item = tuple[str, list[Tensor], list[int], np.ndarray, list[int]]


def collate(items: list[Item]) -> Batch:
    """Put studies side by side, padded."""
    study_ids, views, tokens, labels, projections = zip(*items, strict=True)
    stacked, mask = stack_views(list(views))
    padded = torch.zeros(len(items), max(map(len, tokens)), dtype=torch.long)
    for row, ids in enumerate(tokens):
        padded[row, : len(ids)] = torch.tensor(ids)
    projected = torch.full(mask.shape, PROJECTIONS.index("unknown"))
    projected[mask] = torch.tensor([number for numbers in projections for number in numbers])
    return Batch(list(study_ids), stacked, mask, padded, torch.from_numpy(np.stack(labels)), projected)


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
        tokens = [system.encode_report(report_of(study, config.section)) for study in studies]
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


class _EvaluationSet(Dataset):
    def __init__(self, studies: Sequence[Study], config: DataConfig):
        self.studies = studies
        self.config = config

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, number: int) -> Item:
        study = self.studies[number]
        unlabelled = np.full(len(OBSERVATIONS), np.nan, dtype=np.float32)
        views, projections = evaluation_views(study, self.config), projections_of(study, self.config)
        return study.id, views, [0], unlabelled, projections


def evaluation_batches(
    studies: Sequence[Study], config: DataConfig, batch_size: int, workers: int
) -> DataLoader:
    """Batches without reports, in order, each study once."""
    return DataLoader(
        _EvaluationSet(studies, config), batch_size=batch_size, num_workers=workers, collate_fn=collate
    )
