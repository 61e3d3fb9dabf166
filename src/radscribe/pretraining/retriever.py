"""The retriever learns which report belongs to which images, from the studies of a store.

Its image and text towers are drawn together by a symmetric contrastive loss with a learnt temperature, as in
CLIP (Radford et al., ICML 2021), which CXR-RePaiR (Endo et al., ML4H 2021) retrieves reports with.
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
from radscribe.parts.report_index import ReportIndex
from radscribe.parts.retriever import (
    KIND,
    Retriever,
    RetrieverConfig,
    distinct_reports,
    vectors_of_reports,
)
from radscribe.parts.retriever_towers import RetrieverTowers, TextEncoder, cleaned
from radscribe.pretraining.loop import Task
from radscribe.pretraining.model_card import Section
from radscribe.pretraining.settings import RetrieverSettings
from radscribe.pretraining.views import StudyBatches
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import TransformConfig, settled_transform

#: Share of the steps in which the learning rate rises.
_WARM_UP = 0.05
#: How many of the reports are looked at for a recall.
_DEPTHS = (1, 5, 10)
_MEAN = "mean reciprocal rank"
_CARE = (
    "Its directory holds the texts of the train split's reports: where those may not be passed on, neither "
    "may it"
)


class RetrieverTask(Task):
    """Learn on the train split, and rank the reports of the val split for its images.

    The weights are those of the epoch with the best mean reciprocal rank on the val split: on a few thousand
    studies a contrastive loss soon learns them by heart, and the last weights rank unseen reports worse.
    Without a val split with reports the last weights are kept.

    Args:
        store: prepared store with reports.
        settings: of both towers and of the training.

    Raises:
        RadScribeError: the train split has less than two studies with different reports.
    """

    kind = KIND
    patience = 10
    model: RetrieverTowers

    def __init__(self, store: PreparedStore, settings: RetrieverSettings):
        self.store = store
        self.settings = settings
        self.highest_rate = settings.learning_rate
        self.train, self.validation = (self._studies(split) for split in ("train", "val"))
        self.texts = [self._text(study) for study in self.train]
        if len(set(self.texts)) < 2:
            raise RadScribeError(
                f"the train split of '{store.path}' has no two studies with a different section "
                f"'{settings.section}'",
                "Choose another with --section, or prepare a source that has reports",
            )
        if not self.validation:
            self.patience = None
        self.inputs = {
            "studies": {"train": len(self.train), "val": len(self.validation)},
            "distinct_reports": {
                "train": len(set(self.texts)),
                "val": len({self._text(study) for study in self.validation}),
            },
        }

    def _studies(self, split: str) -> list[Study]:
        """The studies of a split with views and with a report, also after its cleaning."""
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
        # As most networks are used: an eighth of the side may be cut off.
        side = settings.image_size
        transform = TransformConfig(short_side=round(side * 8 / 7), crop=side)
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
        images = self.model.encode_images(views, view_mask)
        texts = [self.texts[number] for number in chosen]
        same = torch.tensor([[text == other for other in texts] for text in texts], device=images.device)
        reports = [self.train[number].report(self.settings.section) for number in chosen]
        return self.model.matching(images, self.model.encode_texts(reports), same)

    def validate(self) -> dict[str, float]:
        """See `Task.validate`."""
        if not self.validation:
            return {}
        return {f"1 - {_MEAN}": 1 - _measures(self._ranks())[_MEAN]}

    def _ranks(self) -> np.ndarray:
        """The rank of each val study's own report among the distinct reports of the split `[studies]`."""
        reports = list(dict.fromkeys(self._text(study) for study in self.validation))
        first = {self._text(study): study.report(self.settings.section) for study in self.validation}
        texts = self.model.vectors_of_texts([first[report] for report in reports])
        similarity = self.model.vectors_of_studies(self.validation) @ texts.T
        own = [reports.index(self._text(study)) for study in self.validation]
        return own_ranks(similarity, own)

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
                "retriever": _measures(self._ranks()),
                "chance": _chance(len(frequencies)),
                "commonest first": _measures(np.array(commonest)),
            }
        }

    def save(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Write the retriever, as `Retriever.load` reads it."""
        settings = self.settings
        reports = distinct_reports(self.train, settings.section, self.model)
        config = RetrieverConfig(
            architecture=settings.architecture,
            width=settings.width,
            maximum_length=settings.maximum_length,
            section=settings.section,
            cleaning=settings.cleaning,
        )
        index = ReportIndex(reports, vectors_of_reports(reports, self.model))
        Retriever(self.model, config, index).write(out, facts["settings"], self.store)

    @staticmethod
    def section(facts: Mapping[str, Any]) -> Section:
        """See `Task.section`."""
        settings = facts["settings"]
        return Section(
            title=f"Retriever of reports, {settings['architecture']}",
            purpose=f"Finds the reports (section '{settings['section']}') of its train split that fit the "
            "images of a study best.",
            caution="What it finds is another patient's report. **It contains reports:** "
            f"{_CARE[0].lower()}{_CARE[1:]}.",
            learnt=_counts(facts, "train"),
            notes=[
                f"{facts['parameters']:,} parameters; temperature {facts['temperature']:.3g}.",
                _chosen(facts),
            ],
            rest=_table(facts),
        )

    @staticmethod
    def summary(facts: Mapping[str, Any]) -> str:
        """See `Task.summary`."""
        lines = [
            f"parameters    {facts['parameters']:,}",
            f"train         {_counts(facts, 'train')}",
            f"val           {_counts(facts, 'val')}",
            f"temperature   {facts['temperature']:.3g}",
        ]
        if facts["validation"]:
            headings = [f"recall@{depth}" for depth in _DEPTHS] + [_MEAN]
            lines.append(f"{'':20}{'  '.join(headings)}")
            for row, found in facts["validation"].items():
                cells = [f"{found[name]:.3f}".rjust(len(name)) for name in headings]
                lines.append(f"{row:20}{'  '.join(cells)}")
        return "\n".join([*lines, _chosen(facts), f"{_CARE}."])


def own_ranks(similarity: Tensor, own: Sequence[int]) -> np.ndarray:
    """The rank of the right report for each study, counted from 1 `[studies]`.

    Another report that is just as similar stands before the right one, so that equal vectors gain nothing.

    Args:
        similarity: `[studies, reports]`.
        own: the column of the right report of each study.
    """
    right = similarity.gather(1, torch.tensor(own).unsqueeze(1))
    return (similarity >= right).sum(dim=1).numpy()


def _measures(ranks: np.ndarray) -> dict[str, float]:
    """Recalls and mean reciprocal rank of the right reports' ranks, counted from 1."""
    recalls = {f"recall@{depth}": float((ranks <= depth).mean()) for depth in _DEPTHS}
    return {**recalls, _MEAN: float((1 / ranks).mean())}


def _chance(reports: int) -> dict[str, float]:
    """What reports in random order come to."""
    recalls = {f"recall@{depth}": min(depth, reports) / reports for depth in _DEPTHS}
    return {**recalls, _MEAN: sum(1 / rank for rank in range(1, reports + 1)) / reports}


def _counts(facts: Mapping[str, Any], split: str) -> str:
    return f"{facts['studies'][split]:,} studies with {facts['distinct_reports'][split]:,} distinct reports"


def _chosen(facts: Mapping[str, Any]) -> str:
    if not facts["validation"]:
        return "Not measured: no study of the val split has a report. The weights are the last"
    return (
        f"The weights are those of epoch {facts['best_epoch']}, whose {_MEAN} on the val split is the best: "
        "the figures are a little too good"
    )


def _table(facts: Mapping[str, Any]) -> str:
    """How well the reports of the val split are ranked, in Markdown."""
    if not facts["validation"]:
        return ""
    headings = [f"recall@{depth}" for depth in _DEPTHS] + [_MEAN]
    lines = [
        "How well the distinct reports of the val split are ranked for the images of its studies. Reports "
        "with the same text are one. `commonest first` is the best ranking that looks at no image.",
        "",
        f"| val | {' | '.join(headings)} |",
        f"|---|{'---|' * len(headings)}",
    ]
    for row, found in facts["validation"].items():
        lines.append(f"| {row} | {' | '.join(f'{found[name]:.3f}' for name in headings)} |")
    return "\n".join(lines)
