"""What the trainings of parts that give probabilities of the observations have in common.

A label belongs to a study, and an observation need not be visible in each of its views: an effusion can be
hidden in the frontal view and plain in the lateral view. So these parts are trained on all views of a study
at once, as they are used.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.evaluation.probabilities import (
    area_under_curve,
    best_temperature,
    best_threshold,
    calibrated,
    expected_calibration_error,
    f1_at,
)
from radscribe.observations import OBSERVATIONS
from radscribe.parts.observation_part import ObservationPart
from radscribe.parts.part import Part
from radscribe.pretraining import observation_card
from radscribe.pretraining.bank_settings import BankSettings
from radscribe.pretraining.loop import Task
from radscribe.pretraining.settings import ObservationSettings
from radscribe.pretraining.views import StudyBatches
from radscribe.runs.config import DataConfig, LabelConfig
from radscribe.runs.labels import labels_of
from radscribe.runs.views import evaluation_views
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import Augmentation, TransformConfig, settled_transform, stack_views

#: If fewer studies of the val split have an observation, or do not have it, temperature and threshold are not
#: chosen: they stay 1 and 0.5.
FEWEST = 5
_WEIGHT_DECAY = 0.05
#: Number of studies that are measured at once.
_TOGETHER = 32


class LabelledStudies(NamedTuple):
    """The studies of a split that have labels, and their labels `[studies, observations]`, NaN if ignored."""

    studies: list[Study]
    labels: np.ndarray

    @classmethod
    def of(cls, store: PreparedStore, split: str, settings: ObservationSettings | BankSettings) -> Self:
        """The studies of a split, labelled as the settings say.

        Raises:
            RadScribeError: a study lacks the labels that are asked for, or the label file cannot be read.
        """
        policies = LabelConfig(source=settings.labels, uncertain=settings.uncertain, missing=settings.missing)
        data = DataConfig(section=settings.section, labels=policies)
        studies = store.studies(split)
        if settings.labels == "report":
            studies = [study for study in studies if study.report(settings.section).strip()]
        labels = labels_of(studies, data, "--labels")
        there = ~np.isnan(labels).all(axis=1)
        return cls([study for study, is_there in zip(studies, there, strict=True) if is_there], labels[there])

    def counts(self) -> dict[str, Any]:
        """The number of studies, of views, and of studies that have or do not have each observation."""
        present, absent = ((self.labels == value).sum(axis=0) for value in (1, 0))
        return {
            "studies": len(self.studies),
            "views": sum(len(study.views) for study in self.studies),
            "observations": {
                name: {"present": int(present[column]), "absent": int(absent[column])}
                for column, name in enumerate(OBSERVATIONS)
            },
        }


class ObservationTask(Task):
    """Learn the observations of the train split; choose temperatures and thresholds on the val split.

    Args:
        store: Prepared store with reports or labels.
        settings: Settings of backbone, labels and training.

    Raises:
        RadScribeError: the train split has no labels, a study lacks those that are asked for, or the label
            file cannot be read.
    """

    model: ObservationPart
    mirrored: bool
    augmentation: Augmentation = "none"

    def __init__(self, store: PreparedStore, settings: ObservationSettings):
        self.store = store
        self.settings = settings
        assert settings.learning_rate is not None
        self.highest_rate = settings.learning_rate
        self.train, self.validation = (
            LabelledStudies.of(store, split, settings) for split in ("train", "val")
        )
        if not self.train.studies:
            of_reports = f" in a section '{settings.section}'" if settings.labels == "report" else ""
            raise RadScribeError(
                f"no study of the train split of '{store.path}' has observation labels{of_reports}",
                "Choose another report section with --section, or other labels with --labels",
            )
        self.inputs = {"labels": {"train": self.train.counts(), "val": self.validation.counts()}}

    @abstractmethod
    def create(self, backbone: BackboneConfig, transform: TransformConfig) -> ObservationPart:
        """The part with the weights that it starts from.

        Raises:
            RadScribeError: the backbone cannot be built.
        """

    def build(self, out: Path, device: torch.device) -> None:
        """Make the part and its optimiser, and count the labels.

        Raises:
            RadScribeError: the backbone cannot be built, or the store's views are smaller than it needs.
        """
        settings = self.settings
        transform = TransformConfig(
            short_side=settings.short_side,
            crop=settings.crop,
            horizontal_flip=self.mirrored,
            augmentation=self.augmentation,
        )
        backbone = BackboneConfig(architecture=settings.architecture, weights=settings.weights)
        self.model = self.create(backbone, transform).to(device)
        self.model.transform = settled_transform(transform, self.store, self.model.backbone.pixels)
        self.device = device
        self.labels = torch.from_numpy(self.train.labels)
        self.present, self.absent = ((self.labels == value).sum(dim=0) for value in (1, 0))
        # The second number is larger so that an observation without any label stays below the threshold 0.5.
        self.log_odds = ((self.present + 0.5) / (self.absent + 1)).log().to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.highest_rate, weight_decay=_WEIGHT_DECAY
        )

    def batches(self, epoch: int) -> StudyBatches:
        """See `Task.batches`."""
        settings = self.settings
        return StudyBatches(self.train.studies, self.model.transform, settings.batch, settings.seed, epoch)

    def outcome(self, losses: Mapping[str, float]) -> dict[str, Any]:
        """Choose temperatures and thresholds on the val split, and measure the part on it."""
        logits = self.validation_logits()
        measured = {name: measure(*self._known(logits, column)) for column, name in enumerate(OBSERVATIONS)}
        for field, values in (("temperature", self.model.temperatures), ("threshold", self.model.thresholds)):
            values.copy_(torch.tensor([measured[name][field] for name in OBSERVATIONS]))
        return {"validation": measured}

    def mean_area(self) -> float | None:
        """The mean area under the curve on the val split, of the observations that have one; or None."""
        logits = self.validation_logits()
        areas = [area_under_curve(*self._known(logits, column)) for column in range(len(OBSERVATIONS))]
        known = [area for area in areas if area is not None]
        return sum(known) / len(known) if known else None

    def _known(self, logits: np.ndarray, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Logits of the studies of the val split whose label is known, and which of them have it."""
        labels = self.validation.labels[:, column]
        there = ~np.isnan(labels)
        return logits[there, column], labels[there] == 1

    @torch.inference_mode()
    def validation_logits(self) -> np.ndarray:
        """Logits `[studies, observations]` of the val split."""
        studies = self.validation.studies
        logits = [np.zeros((0, len(OBSERVATIONS)), dtype=np.float32)]
        # All views of a study count, as in training.
        data = DataConfig(views=1000, transform=self.model.transform)
        for start in range(0, len(studies), _TOGETHER):
            views, mask = stack_views(
                [evaluation_views(study, data) for study in studies[start : start + _TOGETHER]]
            )
            logits.append(self.model(views.to(self.device), mask.to(self.device)).cpu().numpy())
        return np.concatenate(logits)

    def save(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Write the part, as `ObservationPart.load` reads it."""
        self.model.save(out)
        # Last, for it has the hashes of the others.
        Part.write(out, self.kind, self.model.files(), facts["settings"], self.store)

    section = staticmethod(observation_card.section)
    summary = staticmethod(observation_card.summary)

    def known_labels(self, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        """The labels of training studies `[studies, observations]`, and which of them are not ignored."""
        labels = self.labels[chosen].to(self.device)
        return labels.nan_to_num(), ~labels.isnan()


def half_cosine(done: float) -> float:
    """A share that falls from 1 to 0 along half a cosine, while `done` rises from 0 to 1."""
    return (1 + math.cos(math.pi * done)) / 2


def measure(logits: np.ndarray, present: np.ndarray) -> dict[str, Any]:
    """Choose temperature and threshold of one observation, and measure its probabilities with them.

    Args:
        logits: Logits `[studies]`.
        present: Studies that have the observation, bool `[studies]`.

    Returns:
        `auc` is None if no study has the observation or all have it, `f1` if no study has it, and both
        calibration errors if there is no study. `chosen` is True if at least `FEWEST` studies have the
        observation and at least as many do not; otherwise the temperature is 1 and the threshold 0.5.
    """
    chosen = min(int(present.sum()), int((~present).sum())) >= FEWEST
    temperature = best_temperature(logits, present) if chosen else 1.0
    before, after = calibrated(logits, 1.0), calibrated(logits, temperature)
    threshold = best_threshold(after, present).value if chosen else 0.5
    return {
        "auc": area_under_curve(logits, present),
        "f1": f1_at(after, present, threshold) if present.any() else None,
        "calibration_error_before": expected_calibration_error(before, present) if len(present) else None,
        "calibration_error": expected_calibration_error(after, present) if len(present) else None,
        "chosen": chosen,
        "temperature": temperature,
        "threshold": threshold,
    }
