"""Inputs of a trained system for a study: views, finding masks and reports, one by one or in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.runs.config import DataConfig
from radscribe.studies.rejection import Rejection
from radscribe.studies.study import PROJECTIONS, Study
from radscribe.systems.system import Batch, pad_tokens
from radscribe.vision.transforms import check_view, evaluation_mask, evaluation_view, stack_views, stored_view


def studies_with_report(studies: Sequence[Study], section: str, split: str) -> list[Study]:
    """The studies that have the section.

    Raises:
        RadScribeError: no study has it.
    """
    found = [study for study in studies if study.report(section).strip()]
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


class ReadableStudy(NamedTuple):
    """A study that could be read.

    Attributes:
        study: The study.
        views: Its `evaluation_views`.
        notes: What to know about these views, such as `burned-in text`; each is there once.
    """

    study: Study
    views: list[Tensor]
    notes: tuple[str, ...]


def readable_studies(
    studies: Iterable[Study], config: DataConfig, on_rejection: Callable[[Rejection], None] | None
) -> Iterator[ReadableStudy]:
    """Read the studies: yields each study that can be read.

    Args:
        studies: Studies to read.
        config: Gives the number of views and their image geometry.
        on_rejection: Called with each study that cannot be read; without it such a study raises.

    Raises:
        RadScribeError: a study stands in a store of another short side than that of training, or cannot be
            read (see `on_rejection`).
    """
    for study in studies:
        for view in study.views:
            check_view(view, config.transform)  # Not a rejection: the store is wrong.
        try:
            views = [stored_view(view, config.transform) for view in study.views[: config.views]]
            if not views:
                raise RadScribeError(f"study '{study.id}' has no view")
        except RadScribeError as error:
            reject(study, error, on_rejection)
            continue
        yield ReadableStudy(
            study,
            [evaluation_view(view.pixels, config.transform) for view in views],
            tuple(dict.fromkeys(note for view in views for note in view.notes)),
        )


def reject(study: Study, error: RadScribeError, on_rejection: Callable[[Rejection], None] | None) -> None:
    """Pass a study that cannot be used to `on_rejection`.

    Raises:
        RadScribeError: the error, if there is no `on_rejection`.
    """
    if on_rejection is None:
        raise error
    on_rejection(Rejection(study.id, ", ".join(view.name for view in study.views), str(error)))


def evaluation_masks(study: Study, config: DataConfig) -> list[dict[str, np.ndarray]]:
    """The known masks of the findings in each of `evaluation_views`, bool `[crop, crop]` by observation.

    Raises:
        RadScribeError: a view cannot be read.
    """
    views = [stored_view(view, config.transform) for view in study.views[: config.views]]
    return [
        {name: evaluation_mask(mask, config.transform) for name, mask in view.masks.items()} for view in views
    ]


def projections_of(study: Study, config: DataConfig) -> list[int]:
    """The projection of each view that a system sees, as its index in `PROJECTIONS`."""
    return [PROJECTIONS.index(view.projection) for view in study.views[: config.views]]


#: A study before it is put into a batch: id, views, tokens, observation labels, projections.
Item = tuple[str, list[Tensor], list[int], np.ndarray, list[int]]


def collate(items: list[Item]) -> Batch:
    """Combine studies into a batch, with padding."""
    study_ids, views, tokens, labels, projections = zip(*items, strict=True)
    stacked, mask = stack_views(list(views))
    projected = torch.full(mask.shape, PROJECTIONS.index("unknown"))
    projected[mask] = torch.tensor([number for numbers in projections for number in numbers])
    stated = torch.from_numpy(np.stack(labels))
    return Batch(list(study_ids), stacked, mask, pad_tokens(tokens), stated, projected)


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
    """Batches of all studies in order, without their reports."""
    return DataLoader(
        _EvaluationSet(studies, config), batch_size=batch_size, num_workers=workers, collate_fn=collate
    )
