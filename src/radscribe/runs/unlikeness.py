"""How unlike the training images of a run a study is: the Mahalanobis distance of its visual features.

The visual features of a view are the mean of its visual tokens as the backbone of the run gives them. A run
keeps their mean and covariance over the views that it was trained on. The covariance is shrunk towards a
multiple of the identity by the rule of Ledoit and Wolf (Journal of Multivariate Analysis 88, 2004), because a
few hundred views do not determine the covariance of a thousand channels.

A study is as unlike as the most unlike of its views. So the number of views does not count, and one view of
something else is not averaged away. The measure of a study is the share of the training studies whose
distance is smaller. A training view has moved mean and covariance towards itself, so it would seem less
unlike than any new view. Therefore each is compared with mean and covariance of the others, in closed form.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.files import sha256_of
from radscribe.runs.drafts import Unlikeness
from radscribe.runs.run_directory import RunDirectory
from radscribe.vision.backbones import VisualTokens
from radscribe.weights import save_weights

#: Share of the val studies that are beyond the limit from which on a study is flagged.
FLAGGED_SHARE = 0.01
#: Smallest variance along any direction, as a share of the largest one: a backbone may be constant there.
_LOWEST_VARIANCE = 1e-10
#: Smallest number that a difference to 1 is divided by.
_SMALL = torch.finfo(torch.float32).eps
_DAMAGED = "Take the file from a copy of the run, or train it again"


class ViewFeatures(NamedTuple):
    """Visual features of the views of studies.

    Attributes:
        features: Mean of the visual tokens of each view, float32 `[studies, views, channels]`.
        mask: bool `[studies, views]`, True for views that are there, at least one in each study.
    """

    features: Tensor
    mask: Tensor

    @classmethod
    def of(cls, visual: VisualTokens, view_mask: Tensor) -> Self:
        """The features of what a backbone gives for views with this mask."""
        tokens = visual.tokens.detach().float().unflatten(1, (view_mask.size(1), -1))
        return cls(tokens.mean(dim=2).cpu(), view_mask.cpu())

    @property
    def rows(self) -> Tensor:
        """The features of the views that are there, one after the other `[views, channels]`."""
        return self.features[self.mask]

    def most(self, distances: Tensor) -> Tensor:
        """The largest distance of the views of each study `[studies]`; the distances are those of `rows`."""
        places = torch.zeros(self.mask.shape, dtype=distances.dtype)
        return places.masked_scatter(self.mask, distances).amax(dim=1)

    def of_studies(self, chosen: Tensor) -> ViewFeatures:
        """The features of some studies, which are chosen by a mask `[studies]`."""
        return ViewFeatures(self.features[chosen], self.mask[chosen])


class FeatureReader:
    """Keeps the visual features of the last call of a backbone, so that drafting need not call it again.

    Each thread has its own.

    Args:
        backbone: Backbone of a system, which takes views and their mask, and gives `VisualTokens`.
    """

    def __init__(self, backbone: nn.Module):
        self._last = threading.local()
        backbone.register_forward_hook(self._keep)

    @property
    def features(self) -> ViewFeatures:
        """Features of the studies of the last call."""
        return self._last.features

    def _keep(self, backbone: nn.Module, inputs: tuple[Tensor, Tensor], visual: VisualTokens) -> None:
        self._last.features = ViewFeatures.of(visual, inputs[1])


class FeatureSums:
    """Sums over the features of any number of views, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.count = 0
        self._origin: Tensor
        self._sum: Tensor
        self._products: Tensor
        self._weighted: Tensor
        self._fourth = 0.0

    def add(self, features: Tensor) -> None:
        """Add the features of some views `[views, channels]`."""
        features = features.double()
        channels = features.size(1)
        if not self.count:
            self._origin = features.mean(dim=0)
            self._sum, self._weighted = features.new_zeros(2, channels)
            self._products = features.new_zeros(channels, channels)
        moved = features - self._origin  # sums of small numbers lose less to rounding
        squared = moved.square().sum(dim=1)
        self.count += len(moved)
        self._sum += moved.sum(dim=0)
        self._products += moved.T @ moved
        self._weighted += squared @ moved
        self._fourth += squared.square().sum().item()

    def moments(self) -> tuple[Tensor, Tensor, float]:
        """Mean `[channels]`, covariance `[channels, channels]` before shrinkage, and the shrinkage.

        The shrinkage is the weight of the identity times the mean variance, from 0 to 1.
        """
        count, mean = self.count, self._sum / self.count
        covariance = self._products / count - torch.outer(mean, mean)
        channels = len(mean)
        # The sum of |x - mean|^4 over the views, expanded.
        square = mean.square().sum().item()
        fourth = (
            self._fourth
            + 4 * (mean @ self._products @ mean).item()
            - 4 * (self._weighted @ mean).item()
            + 2 * square * self._products.trace().item()
            - 3 * count * square**2
        )
        squares, variance = covariance.square().sum().item(), covariance.trace().item() / channels
        spread = squares - channels * variance**2
        error = min((fourth / count - squares) / count, spread)
        return self._origin + mean, covariance, max(error / spread, 0.0) if spread > 0 else 0.0


@dataclass(frozen=True, slots=True)
class TrainingFeatures:
    """What a run keeps of the visual features of its training studies.

    Attributes:
        mean: Mean of the features of a view, float64 `[channels]`.
        whitening: Matrix `[channels, channels]` that turns the difference of features to their mean into a
            vector whose length is the Mahalanobis distance.
        distances: Distance of each training study to the others, or of a sample of them, in ascending order.
        limit: Distance beyond which a study is flagged.
    """

    mean: Tensor
    whitening: Tensor
    distances: Tensor
    limit: float

    @classmethod
    def of(
        cls, sums: FeatureSums, sample: Sequence[ViewFeatures], validation: Sequence[ViewFeatures]
    ) -> Self:
        """Make the statistics.

        Args:
            sums: Sums over the features of all training views, at least two.
            sample: Features of training studies whose distances are kept, in batches.
            validation: Features of the val studies in batches; `FLAGGED_SHARE` of them are beyond the limit.
        """
        mean, covariance, shrinkage = sums.moments()
        target = covariance.trace().item() / len(mean)
        values, vectors = torch.linalg.eigh(covariance)
        values = (1 - shrinkage) * values.clamp(min=0)
        floor = max(_LOWEST_VARIANCE * values.max().item(), torch.finfo(torch.float32).tiny)
        whitening = vectors / (values + shrinkage * target).clamp(min=floor).sqrt()
        # Without the view at difference d, the covariance of the other n - 1 is n / (n - 1) times that of
        # all, less n / (n - 1)^2 times the outer product of d with itself, and the mean of the others is
        # n / (n - 1) d away. The inverse follows by Sherman and Morrison; the shrinkage is left as it is.
        grown = sums.count / (sums.count - 1)
        variances = (grown * values + shrinkage * target).clamp(min=floor)
        left_out = []
        for batch in sample:
            squares = (((batch.rows.double() - mean) @ vectors).square() / variances).sum(dim=1)
            rest = 1 - (1 - shrinkage) * grown / (sums.count - 1) * squares
            left_out.append(batch.most(grown * (squares / rest.clamp(min=_SMALL)).sqrt()))
        made = cls(mean, whitening.float(), torch.cat(left_out).float().sort().values, math.inf)
        ordered = torch.cat([made.distance(batch) for batch in validation]).sort().values
        beyond = math.floor(FLAGGED_SHARE * len(ordered))
        return cls(made.mean, made.whitening, made.distances, ordered[len(ordered) - 1 - beyond].item())

    def distance(self, views: ViewFeatures) -> Tensor:
        """Mahalanobis distance of the most unlike view of each study, float64 `[studies]`."""
        return views.most(((views.rows.double() - self.mean) @ self.whitening.double()).norm(dim=1))

    def unlikeness(self, views: ViewFeatures) -> list[Unlikeness]:
        """How unlike the training studies each study is."""
        distances = self.distance(views)
        fewer = torch.searchsorted(self.distances.double(), distances)
        return [
            # What is no number is flagged.
            Unlikeness(distance, count / len(self.distances), not distance <= self.limit)
            for distance, count in zip(distances.tolist(), fewer.tolist(), strict=True)
        ]


def keep_training_features(
    run: RunDirectory, statistics: TrainingFeatures, train: int, validation: int
) -> None:
    """Write the statistics into a run directory, and record their hash and that of the weights in `run.json`.

    Args:
        run: Run whose weights gave the features.
        statistics: Statistics to write.
        train: Number of training studies.
        validation: Number of val studies.
    """
    tensors = {name: getattr(statistics, name) for name in ("mean", "whitening", "distances")}
    limit = torch.tensor(statistics.limit, dtype=torch.float64)
    save_weights(tensors | {"limit": limit}, run.features)
    run.update_facts(
        unlikeness={
            "sha256": sha256_of(run.features),
            "weights_sha256": run.read_facts()["weights_sha256"],
            "train": train,
            "val": validation,
        }
    )


def facts_of_training_features(run: RunDirectory) -> dict[str, Any] | None:
    """What `run.json` says of the statistics; None if the run has none, or none of its present weights.

    A run has none if an older RadScribe trained it, if it was imported, or while its training goes on.
    """
    facts = run.read_facts()
    kept = facts.get("unlikeness")
    return kept if kept and kept.get("weights_sha256") == facts.get("weights_sha256") else None


def load_training_features(run: RunDirectory) -> TrainingFeatures | None:
    """The statistics of a run; None if it has none (see `facts_of_training_features`).

    Raises:
        RadScribeError: the file is missing or damaged.
    """
    facts = facts_of_training_features(run)
    if facts is None:
        return None
    if (found := sha256_of(run.features, _DAMAGED)) != facts.get("sha256"):
        raise RadScribeError(
            f"'{run.features}' is damaged or of another run: its sha256 is {found[:12]}..., not "
            f"{str(facts.get('sha256'))[:12]}... as {run.facts.name} says",
            _DAMAGED,
        )
    try:
        tensors = load_file(run.features)
        limit = tensors.pop("limit").item()
        return TrainingFeatures(**tensors, limit=limit)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise RadScribeError(f"'{run.features}' is damaged: it cannot be read ({error})", _DAMAGED) from error
