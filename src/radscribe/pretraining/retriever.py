"""Training the retriever, which learns which report belongs to which images, from the studies of a store.

A symmetric contrastive loss with a learnt temperature makes the vectors of images and report of a study
similar, as in CLIP (Radford et al., ICML 2021). CXR-RePaiR (Endo et al., ML4H 2021) retrieves reports so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.parts.report_index import seen_views
from radscribe.parts.retriever import KIND, Retriever, RetrieverConfig, index_of
from radscribe.parts.retriever_towers import TOGETHER, RetrieverTowers, TextEncoder, cleaned
from radscribe.pretraining import retriever_card
from radscribe.pretraining.loop import Task
from radscribe.pretraining.retriever_card import DEPTHS, MEAN
from radscribe.pretraining.settings import RetrieverSettings
from radscribe.pretraining.views import StudyBatches
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import TransformConfig, settled_transform, stack_views

#: Share of the steps in which the learning rate rises.
_WARM_UP = 0.05


class RetrieverTask(Task):
    """Learn from the train split, and rank the reports of the val split for the images of its studies.

    The weights are those of the epoch with the highest mean reciprocal rank on the val split: a contrastive
    loss soon learns a few thousand studies by heart, and later weights rank unseen reports worse. Without a
    report in the val split the last weights are kept.

    Args:
        store: Prepared store with reports.
        settings: Settings of both towers and of the training.

    Raises:
        RadScribeError: the train split does not have two different reports.
    """

    kind = KIND
    patience: float | None = 10
    model: RetrieverTowers

    def __init__(self, store: PreparedStore, settings: RetrieverSettings):
        self.store = store
        self.settings = settings
        self.highest_rate = settings.learning_rate
        self.train, self.validation = (self._studies(split) for split in ("train", "val"))
        self.texts = [self._text(study) for study in self.train]
        numbers = {text: number for number, text in enumerate(dict.fromkeys(self.texts))}
        if len(numbers) < 2:
            raise RadScribeError(
                f"the train split of '{store.path}' has no two studies that differ in their section "
                f"'{settings.section}'",
                "Choose another with --section, or prepare a source that has reports",
            )
        self.text_numbers = torch.tensor([numbers[text] for text in self.texts])
        if not self.validation:
            self.patience = None
        self.inputs = {
            "studies": {"train": len(self.train), "val": len(self.validation)},
            "distinct_reports": {
                "train": len(numbers),
                "val": len({self._text(study) for study in self.validation}),
            },
        }

    def _studies(self, split: str) -> list[Study]:
        """The studies of a split that have a view, and a report of which cleaning leaves something."""
        return [study for study in self.store.studies(split) if study.views and self._text(study).strip(" .")]

    def _text(self, study: Study) -> str:
        return cleaned(study.report(self.settings.section), self.settings.cleaning)

    def build(self, out: Path, device: torch.device) -> None:
        """Make both towers.

        Raises:
            RadScribeError: a tower cannot be built, or the store's views are smaller than it needs.
        """
        settings = self.settings
        if settings.text_encoder == "none":
            text = TextEncoder.from_scratch(self.texts, settings.maximum_length)
        else:
            text = TextEncoder.published(settings.text_encoder)
        transform = TransformConfig(short_side=settings.short_side, crop=settings.crop)
        self.model = RetrieverTowers(
            BackboneConfig(architecture=settings.architecture, weights=settings.weights),
            text,
            transform,
            width=settings.width,
            maximum_length=settings.maximum_length,
            cleaning=settings.cleaning,
        ).to(device)
        self.model.transform = settled_transform(transform, self.store, self.model.backbone.pixels)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.highest_rate)

    def batches(self, epoch: int) -> StudyBatches:
        """See `Task.batches`."""
        settings = self.settings
        return StudyBatches(self.train, self.model.transform, settings.batch, settings.seed, epoch)

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """See `Task.rate`; it rises in a straight line, and then falls along half a cosine."""
        number, total = epoch * steps + step, self.settings.epochs * steps
        rising = _WARM_UP * total
        if number < rising:
            return (number + 1) / (rising + 1)
        return (1 + math.cos(math.pi * (number - rising) / (total - rising))) / 2

    def loss(self, batch: tuple[np.ndarray, Tensor, Tensor]) -> Tensor:
        """The contrastive loss of both directions; studies with the same text share it."""
        chosen, views, view_mask = batch
        texts = self.text_numbers[chosen]
        same = (texts.unsqueeze(1) == texts).to(self.model.device)
        reports = [self.train[number].report(self.settings.section) for number in chosen]
        images = self.model.encode_images(views, view_mask)
        return self.model.matching(images, self.model.encode_texts(reports), same)

    def validate(self) -> dict[str, float]:
        """See `Task.validate`."""
        if not self.validation:
            return {}
        return {f"1 - {MEAN}": 1 - measures(self._ranks())[MEAN]}

    def _ranks(self) -> np.ndarray:
        """The rank of each val study's report among the distinct reports of the split `[studies]`, from 1."""
        by_text: dict[str, str] = {}
        for study in self.validation:
            by_text.setdefault(self._text(study), study.report(self.settings.section))
        columns = {text: column for column, text in enumerate(by_text)}
        texts = self.model.vectors_of_texts(list(by_text.values()))
        own = [columns[self._text(study)] for study in self.validation]
        return own_ranks(self._image_vectors() @ texts.T, own)

    def _image_vectors(self) -> Tensor:
        """Unit vectors float32 `[studies, width]` of the images of the val split."""
        transform, vectors = self.model.transform, []
        for start in range(0, len(self.validation), TOGETHER):
            chosen = self.validation[start : start + TOGETHER]
            views = [seen_views(study, transform) for study in chosen]
            vectors.append(self.model.vectors_of_views(*stack_views(views)))
        return torch.cat(vectors)

    def outcome(self, losses: Mapping[str, float]) -> dict[str, Any]:
        """How well the reports of the val split are ranked, beside rankings that look at no image."""
        facts: dict[str, Any] = {
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "temperature": self.model.temperature,
        }
        if not self.validation:
            return facts | {"validation": None}
        frequencies = Counter(self._text(study) for study in self.validation)
        commonest = [
            rank for rank, (_, count) in enumerate(frequencies.most_common(), start=1) for _ in range(count)
        ]
        return facts | {
            "validation": {
                "retriever": measures(self._ranks()),
                "chance": by_chance(len(frequencies)),
                "commonest first": measures(np.array(commonest)),
            }
        }

    def save(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Write the retriever, as `Retriever.load` reads it."""
        settings = self.settings
        config = RetrieverConfig(
            architecture=settings.architecture,
            width=settings.width,
            maximum_length=self.model.maximum_length,
            section=settings.section,
            cleaning=settings.cleaning,
        )
        index = index_of(self.train, settings.section, self.model)
        Retriever(self.model, config, index).save(out, facts["settings"], self.store)

    section = staticmethod(retriever_card.section)
    summary = staticmethod(retriever_card.summary)


def own_ranks(similarity: Tensor, own: Sequence[int]) -> np.ndarray:
    """The rank of the right report of each study `[studies]`, from 1.

    A wrong report that is just as similar goes before the right one, so that equal vectors gain nothing.

    Args:
        similarity: Similarities `[studies, reports]`.
        own: Column of the right report of each study.
    """
    right = similarity.gather(1, torch.tensor(own).unsqueeze(1))
    return (similarity >= right).sum(dim=1).numpy()


def measures(ranks: np.ndarray) -> dict[str, float]:
    """Recalls and mean reciprocal rank by name, of the ranks of the right reports `[studies]`, from 1."""
    recalls = {f"recall@{depth}": float((ranks <= depth).mean()) for depth in DEPTHS}
    return {**recalls, MEAN: float((1 / ranks).mean())}


def by_chance(reports: int) -> dict[str, float]:
    """What `measures` gives on average if `reports` distinct reports are ranked at random."""
    recalls = {f"recall@{depth}": min(depth, reports) / reports for depth in DEPTHS}
    return {**recalls, MEAN: sum(1 / rank for rank in range(1, reports + 1)) / reports}
