"""Training the observation classifier on all views of the studies of a store.

A label belongs to a study, and an observation need not be visible in each of its views: an effusion can be
hidden in the frontal view and plain in the lateral view. So the loss is computed from the mean logit of the
views of a study, and not from each view alone. Prediction uses the same mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
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
from radscribe.parts.observation_classifier import FILES, KIND, ObservationClassifier
from radscribe.parts.part import Part
from radscribe.pretraining import observation_classifier_card
from radscribe.pretraining.loop import Task
from radscribe.pretraining.settings import ObservationClassifierSettings
from radscribe.pretraining.views import StudyBatches
from radscribe.runs.config import DataConfig, LabelConfig
from radscribe.runs.labels import labels_of
from radscribe.runs.views import evaluation_views
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import TransformConfig, settled_transform, stack_views

#: If fewer studies of the val split have an observation, or do not have it, temperature and threshold are not
#: chosen: they stay 1 and 0.5.
FEWEST = 5
_WEIGHT_DECAY = 0.05
#: Number of studies that are measured at once.
_TOGETHER = 32


class _LabelledStudies(NamedTuple):
    """The studies of a split that have labels, and their labels `[studies, observations]`, NaN if ignored."""

    studies: list[Study]
    labels: np.ndarray

    @classmethod
    def of(cls, store: PreparedStore, split: str, settings: ObservationClassifierSettings) -> Self:
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


class ObservationClassifierTask(Task):
    """Learn the observations of the train split; choose temperatures and thresholds on the val split.

    The weights are those after the last epoch. The learning rate falls along half a cosine.

    Args:
        store: Prepared store with reports or labels.
        settings: Settings of backbone, labels and training.

    Raises:
        RadScribeError: the train split has no labels, a study lacks those that are asked for, or the label
            file cannot be read.
    """

    kind = KIND
    model: ObservationClassifier

    def __init__(self, store: PreparedStore, settings: ObservationClassifierSettings):
        self.store = store
        self.settings = settings
        self.highest_rate = settings.learning_rate
        self.train, self.validation = (
            _LabelledStudies.of(store, split, settings) for split in ("train", "val")
        )
        if not self.train.studies:
            of_reports = f" in a section '{settings.section}'" if settings.labels == "report" else ""
            raise RadScribeError(
                f"no study of the train split of '{store.path}' has observation labels{of_reports}",
                "Choose another report section with --section, or other labels with --labels",
            )
        self.inputs = {"labels": {"train": self.train.counts(), "val": self.validation.counts()}}

    def build(self, out: Path, device: torch.device) -> None:
        """Make the backbone and its head, whose biases are the log odds of the observations in train.

        Raises:
            RadScribeError: the backbone cannot be built, or the store's views are smaller than it needs.
        """
        settings = self.settings
        transform = TransformConfig(short_side=settings.short_side, crop=settings.crop, horizontal_flip=True)
        backbone = BackboneConfig(architecture=settings.architecture, weights=settings.weights)
        self.model = ObservationClassifier(backbone, transform).to(device)
        self.model.transform = settled_transform(transform, self.store, self.model.backbone.pixels)
        self.labels = torch.from_numpy(self.train.labels)
        present, absent = ((self.labels == value).sum(dim=0) for value in (1, 0))
        # The second number is larger so that an observation without any label stays below the threshold 0.5.
        log_odds = ((present + 0.5) / (absent + 1)).log().to(device)
        with torch.no_grad():
            self.model.head.bias.copy_(log_odds)
        known = (present + absent).clamp(min=1)
        balanced = torch.tensor(settings.class_balanced) & (present > 0) & (absent > 0)
        self.present_weight, self.absent_weight = (
            torch.where(balanced, known / (2 * count.clamp(min=1)), 1.0).to(device)
            for count in (present, absent)
        )
        # With balanced weights a network learns probabilities as if half of the studies had the observation.
        # The loss shifts the logits to that frequency, so that the model itself keeps that of the store.
        self.shift = torch.where(balanced.to(device), -log_odds, 0.0)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.highest_rate, weight_decay=_WEIGHT_DECAY
        )

    def batches(self, epoch: int) -> StudyBatches:
        """See `Task.batches`."""
        settings = self.settings
        return StudyBatches(self.train.studies, self.model.transform, settings.batch, settings.seed, epoch)

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """See `Task.rate`; it falls along half a cosine."""
        return (1 + math.cos(math.pi * (epoch * steps + step) / (self.settings.epochs * steps))) / 2

    def loss(self, batch: tuple[np.ndarray, Tensor, Tensor]) -> Tensor:
        """Binary cross-entropy, averaged over the labels that are not ignored."""
        chosen, views, view_mask = batch
        device = self.shift.device
        labels = self.labels[chosen].to(device)
        there, truth = ~labels.isnan(), labels.nan_to_num()
        weights = torch.where(truth == 1, self.present_weight, self.absent_weight) * there
        logits = self.model(views.to(device), view_mask.to(device)) + self.shift
        losses = F.binary_cross_entropy_with_logits(logits, truth, weights, reduction="sum")
        return losses / there.sum()

    def outcome(self, losses: Mapping[str, float]) -> dict[str, Any]:
        """Choose temperatures and thresholds on the val split, and measure the classifier on it."""
        measured = {}
        logits = self._validation_logits()
        for column, name in enumerate(OBSERVATIONS):
            labels = self.validation.labels[:, column]
            there = ~np.isnan(labels)
            measured[name] = measure(logits[there, column], labels[there] == 1)
        for field, values in (("temperature", self.model.temperatures), ("threshold", self.model.thresholds)):
            values.copy_(torch.tensor([measured[name][field] for name in OBSERVATIONS]))
        return {"validation": measured}

    @torch.inference_mode()
    def _validation_logits(self) -> np.ndarray:
        """Logits `[studies, observations]` of the val split."""
        studies = self.validation.studies
        device = self.shift.device
        logits = [np.zeros((0, len(OBSERVATIONS)), dtype=np.float32)]
        # All views of a study count, as in training.
        data = DataConfig(views=1000, transform=self.model.transform)
        for start in range(0, len(studies), _TOGETHER):
            views, mask = stack_views(
                [evaluation_views(study, data) for study in studies[start : start + _TOGETHER]]
            )
            logits.append(self.model(views.to(device), mask.to(device)).cpu().numpy())
        return np.concatenate(logits)

    def save(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Write the observation classifier, as `ObservationClassifier.load` reads it."""
        self.model.save(out, self.settings.architecture)
        # Last, for it has the hashes of the others.
        Part.write(out, self.kind, FILES, facts["settings"], self.store)

    section = staticmethod(observation_classifier_card.section)
    summary = staticmethod(observation_classifier_card.summary)


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
