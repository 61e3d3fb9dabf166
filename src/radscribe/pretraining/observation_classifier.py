"""Training the observation classifier on all views of the studies of a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radscribe.parts.observation_classifier import KIND, ObservationClassifier
from radscribe.pretraining.observation_task import ObservationTask, half_cosine
from radscribe.pretraining.settings import ObservationClassifierSettings
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import TransformConfig


class ObservationClassifierTask(ObservationTask):
    """Learn the observations; the loss is computed from the mean logit of the views of a study.

    The weights are those after the last epoch. The learning rate falls along half a cosine.
    """

    kind = KIND
    mirrored = True
    model: ObservationClassifier
    settings: ObservationClassifierSettings

    def create(self, backbone: BackboneConfig, transform: TransformConfig) -> ObservationClassifier:
        """See `ObservationTask.create`."""
        return ObservationClassifier(backbone, transform)

    def build(self, out: Path, device: torch.device) -> None:
        """See `ObservationTask.build`; the biases of the head are the log odds of the observations."""
        super().build(out, device)
        with torch.no_grad():
            self.model.head.bias.copy_(self.log_odds)
        present, absent = self.present, self.absent
        known = (present + absent).clamp(min=1)
        balanced = torch.tensor(self.settings.class_balanced) & (present > 0) & (absent > 0)
        self.present_weight, self.absent_weight = (
            torch.where(balanced, known / (2 * count.clamp(min=1)), 1.0).to(device)
            for count in (present, absent)
        )
        # With balanced weights a network learns probabilities as if half of the studies had the observation.
        # The loss shifts the logits to that frequency, so that the model itself keeps that of the store.
        self.shift = torch.where(balanced.to(device), -self.log_odds, 0.0)

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """See `Task.rate`; it falls along half a cosine."""
        return half_cosine((epoch * steps + step) / (self.settings.epochs * steps))

    def loss(self, batch: tuple[np.ndarray, Tensor, Tensor]) -> Tensor:
        """Binary cross-entropy, averaged over the labels that are not ignored."""
        chosen, views, view_mask = batch
        truth, there = self.known_labels(chosen)
        weights = torch.where(truth == 1, self.present_weight, self.absent_weight) * there
        logits = self.model(views.to(self.device), view_mask.to(self.device)) + self.shift
        losses = F.binary_cross_entropy_with_logits(logits, truth, weights, reduction="sum")
        return losses / there.sum()
