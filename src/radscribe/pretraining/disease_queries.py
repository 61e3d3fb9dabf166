"""Training disease queries on all views of the studies of a store (AM-MRG, stage 1; section III-E)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radscribe.parts.disease_queries import KIND, DiseaseQueries, QueryConfig, orthogonality
from radscribe.pretraining.observation_task import ObservationTask, half_cosine
from radscribe.pretraining.settings import DiseaseQueriesSettings
from radscribe.studies.store import PreparedStore
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import TransformConfig

#: Share of the steps in which the learning rate rises, and its first and last value as shares of the highest:
#: 20 of 300 epochs, and 1%, in the released code.
_WARM_UP = 20 / 300
_FIRST_RATE = _LAST_RATE = 0.01
#: Label smoothing of the released loss.
_SMOOTHING = 0.1


class DiseaseQueriesTask(ObservationTask):
    """Learn the observations by Eq. 11, and keep the queries apart.

    The weights are those of the epoch with the highest mean AUC on the val split, or those after the last
    epoch if the val split has no AUC. The learning rate rises first, and then falls along half a cosine.
    """

    kind = KIND
    # A mirrored chest has its heart on the wrong side, and regions that are looked at.
    mirrored = False
    patience: float | None = math.inf
    model: DiseaseQueries
    settings: DiseaseQueriesSettings

    def __init__(self, store: PreparedStore, settings: DiseaseQueriesSettings):
        super().__init__(store, settings)
        if settings.augmentation == "released":
            self.augmentation = "rand_augment"
        labels = self.validation.labels
        if not ((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).any():
            self.patience = None

    def create(self, backbone: BackboneConfig, transform: TransformConfig) -> DiseaseQueries:
        """See `ObservationTask.create`."""
        settings = self.settings
        queries = QueryConfig(
            head=settings.head, width=settings.width, layers=settings.layers, heads=settings.attention_heads
        )
        return DiseaseQueries(backbone, transform, queries)

    def build(self, out: Path, device: torch.device) -> None:
        """See `ObservationTask.build`; the biases of the head are the log odds of the observations."""
        super().build(out, device)
        self.model.head.start_from(self.log_odds)

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """See `Task.rate`; it rises in a line, and then falls along half a cosine."""
        done, last = epoch * steps + step, self.settings.epochs * steps
        rising = math.ceil(_WARM_UP * last)
        if done < rising:
            return _FIRST_RATE + (1 - _FIRST_RATE) * done / rising
        return _LAST_RATE + (1 - _LAST_RATE) * half_cosine((done - rising) / (last - rising))

    def loss(self, batch: tuple[np.ndarray, Tensor, Tensor]) -> Tensor:
        """Eq. 11 (cross-entropy, summed over the observations, averaged over the studies), and orthogonality.

        The released loss is a cross-entropy of two classes for each observation with smoothed labels; that is
        the binary cross-entropy of smoothed labels, for the logit is the difference of the two scores.
        """
        chosen, views, view_mask = batch
        truth, there = self.known_labels(chosen)
        model, settings = self.model, self.settings
        tokens = model.tokens(views.to(self.device), view_mask.to(self.device))
        features = None if model.qformer is None else model.features(tokens)
        logits = model.head(tokens if features is None else features)
        if settings.loss == "released":
            truth = truth * (1 - _SMOOTHING) + _SMOOTHING / 2
        losses = F.binary_cross_entropy_with_logits(logits, truth, there.float(), reduction="sum")
        loss = losses / len(chosen)
        if features is None or settings.loss == "released" or not settings.orthogonality:
            return loss
        assert model.queries is not None
        apart = model.queries if settings.orthogonality_on == "queries" else features
        return loss + settings.orthogonality * orthogonality(apart)

    def validate(self) -> dict[str, float]:
        """See `Task.validate`: how much the mean AUC on the val split lacks to 1."""
        area = None if self.patience is None else self.mean_area()
        return {} if area is None else {"1 - mean AUC": 1 - area}
