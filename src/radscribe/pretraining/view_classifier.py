"""Training the view classifier on the views of a store whose projection is known."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.files import write_whole
from radscribe.parts.part import Part
from radscribe.parts.view_classifier import (
    CLASSES,
    DESCRIPTION,
    FILES,
    KIND,
    TRANSFORM,
    WEIGHTS,
    ViewClassifier,
)
from radscribe.pretraining.loop import Task
from radscribe.pretraining.model_card import Section
from radscribe.pretraining.settings import ViewClassifierSettings
from radscribe.pretraining.views import ViewBatches
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import PROJECTIONS, View
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import settled_transform
from radscribe.weights import save_weights


class _KnownViews(NamedTuple):
    """The views of a split whose projection is known, their classes, and all views counted by projection."""

    views: list[View]
    classes: list[int]
    counts: dict[str, int]

    @classmethod
    def of(cls, store: PreparedStore, split: str) -> Self:
        views = [view for study in store.studies(split) for view in study.views]
        counts = Counter(view.projection for view in views)
        known = [view for view in views if view.projection in CLASSES]
        return cls(
            known,
            [CLASSES.index(view.projection) for view in known],
            {name: counts[name] for name in PROJECTIONS},
        )


class ViewClassifierTask(Task):
    """Learn to tell frontal from lateral views on the train split, and measure on the val split.

    The rarer projection counts as much as the other. The weights after the last epoch are kept; nothing is
    chosen on the val split. The learning rate falls along half a cosine.

    Args:
        store: A prepared store that has views with a known projection.
        settings: Backbone, and training settings.

    Raises:
        RadScribeError: the train split has no frontal or no lateral view that is known.
    """

    kind = KIND
    model: ViewClassifier

    def __init__(self, store: PreparedStore, settings: ViewClassifierSettings):
        self.store = store
        self.settings = settings
        self.highest_rate = settings.learning_rate
        self.train, self.validation = (_KnownViews.of(store, split) for split in ("train", "val"))
        for name in CLASSES:
            if not self.train.counts[name]:
                raise RadScribeError(
                    f"the train split of '{store.path}' has no view that is known to be {name}",
                    "Prepare a source that states the projection of its views, with both of them",
                )
        self.inputs = {"views": {"train": self.train.counts, "val": self.validation.counts}}

    def build(self, out: Path, device: torch.device) -> None:
        """Make the backbone and its head.

        Raises:
            RadScribeError: the backbone cannot be built, or the store's views are smaller than it needs.
        """
        backbone = BackboneConfig(architecture=self.settings.architecture, weights=self.settings.weights)
        self.model = ViewClassifier(backbone, TRANSFORM).to(device)
        self.model.transform = settled_transform(TRANSFORM, self.store, self.model.backbone.pixels)
        counts = [self.train.counts[name] for name in CLASSES]
        self.class_weights = torch.tensor([len(self.train.views) / count for count in counts], device=device)
        self.true = torch.tensor(self.train.classes)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.highest_rate)

    def batches(self, epoch: int) -> ViewBatches:
        """See `Task.batches`."""
        settings = self.settings
        return ViewBatches(self.train.views, self.model.transform, settings.batch, settings.seed, epoch)

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """See `Task.rate`; the rate falls along half a cosine."""
        return (1 + math.cos(math.pi * (epoch * steps + step) / (self.settings.epochs * steps))) / 2

    def loss(self, batch: tuple[np.ndarray, Tensor]) -> Tensor:
        """Cross-entropy, weighted so that both projections count the same."""
        chosen, views = batch
        device = self.class_weights.device
        return F.cross_entropy(self.model(views.to(device)), self.true[chosen].to(device), self.class_weights)

    @torch.inference_mode()
    def outcome(self, losses: Mapping[str, float]) -> dict[str, Any]:
        """The share of the val split's views that are recognised, in all and for each projection in it."""
        known = self.validation
        if not known.views:
            return {"validation": None}
        right = [
            predicted == CLASSES[true]
            for predicted, true in zip(self.model.projections(known.views), known.classes, strict=True)
        ]
        shares = {"all": sum(right) / len(right)}
        for number, name in enumerate(CLASSES):
            of_class = [correct for correct, true in zip(right, known.classes, strict=True) if true == number]
            if of_class:
                shares[name] = sum(of_class) / len(of_class)
        return {"validation": shares}

    def save(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Write the view classifier in the form that `ViewClassifier.load` reads."""
        pixels = self.model.backbone.pixels
        description = {
            "architecture": self.settings.architecture,
            "transform": asdict(self.model.transform),
            "normalisation": {"mean": pixels.mean, "std": pixels.std},
            "classes": CLASSES,
        }
        save_weights(self.model.state_dict(), out / WEIGHTS)
        write_whole(out / DESCRIPTION, json.dumps(description, indent=2) + "\n")
        # `part.json` is written last, because it has the hashes of the other files.
        Part.write(out, self.kind, FILES, facts["settings"], self.store)

    @staticmethod
    def section(facts: Mapping[str, Any]) -> Section:
        """See `Task.section`."""
        return Section(
            title=f"View classifier, {facts['settings']['architecture']}",
            purpose="Tells frontal from lateral chest X-rays, for views whose data set does not say which "
            "they are.",
            caution="It knows no third answer: it calls any image one of the two.",
            learnt=_counts(facts["views"]["train"]),
            notes=[f"Recognised: {_accuracy(facts)}. Nothing was chosen on that split."],
        )

    @staticmethod
    def summary(facts: Mapping[str, Any]) -> str:
        """See `Task.summary`."""
        lines = [f"view classifier   {facts['settings']['architecture']}"]
        lines += [f"{split:18}{_counts(counts)}" for split, counts in facts["views"].items()]
        lines.append(f"recognised        {_accuracy(facts)}")
        return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    known = ", ".join(f"{counts[name]:,} {name}" for name in CLASSES)
    return f"{known} views; {counts['unknown']:,} unknown"


def _accuracy(facts: Mapping[str, Any]) -> str:
    measured = facts["validation"]
    if measured is None:
        return "not measured: the val split has no view whose projection is known"
    of_each = ", ".join(
        f"{measured[name]:.1%} of {name}" if name in measured else f"no {name} view to measure on"
        for name in CLASSES
    )
    return f"{measured['all']:.1%} of the val split's views: {of_each}"
