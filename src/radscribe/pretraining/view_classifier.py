"""`radscribe train view-classifier`: learns from the views of a store whose projection is known."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError
from radscribe.files import write_whole
from radscribe.parts.view_classifier import (
    CLASSES,
    DESCRIPTION,
    MODEL_CARD,
    TRANSFORM,
    WEIGHTS,
    ViewClassifier,
)
from radscribe.pretraining.loop import ViewTraining
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import PROJECTIONS, View
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import settled_transform
from radscribe.weights import save_weights


class _KnownViews(NamedTuple):
    """The views of a split whose projection is known, their classes, and the split's views by projection."""

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


def train_view_classifier(
    store: PreparedStore, out: Path | str, *, backbone: BackboneConfig, training: ViewTraining
) -> dict[str, Any]:
    """Learn frontal and lateral from the train split, and measure on the val split; test is left alone.

    The rarer projection counts as much as the other. The weights are those after the last epoch: nothing is
    chosen on validation.

    Args:
        store: with projections.
        out: the directory to write.
        backbone: its architecture, and the weights that it starts from.
        training: how; the learning rate falls along half a cosine.

    Returns:
        The facts that `view_classifier.json` holds.

    Raises:
        RadScribeError: there is something in `out` already, the store's views are smaller than `TRANSFORM`
            needs, the train split has no frontal or no lateral view that is known, the backbone cannot be
            built, a number is out of range, or the loss is not finite.
    """
    out = Path(out)
    with training.prepared(out) as device:
        return _train(store, out, backbone, training, device)


def _train(
    store: PreparedStore, out: Path, backbone: BackboneConfig, training: ViewTraining, device: torch.device
) -> dict[str, Any]:
    train, validation = (_KnownViews.of(store, split) for split in ("train", "val"))
    for name in CLASSES:
        if not train.counts[name]:
            raise RadScribeError(
                f"the train split of '{store.path}' has no view that is known to be {name}",
                "Prepare a source that states the projection of its views, with both of them",
            )
    classifier = ViewClassifier(backbone, TRANSFORM).to(device)
    classifier.transform = settled_transform(TRANSFORM, store, classifier.backbone.pixels)
    weights = torch.tensor([len(train.views) / train.counts[name] for name in CLASSES], device=device)
    true = torch.tensor(train.classes)

    def loss_of(chosen: np.ndarray, views: Tensor) -> Tensor:
        return F.cross_entropy(classifier(views.to(device)), true[chosen].to(device), weights)

    optimizer = torch.optim.AdamW(classifier.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps(train.views))
    classifier.train()
    training.fit(train.views, classifier.transform, loss_of, optimizer, schedule, "view classifier")
    classifier.eval()
    facts = {
        **training.facts(store, architecture=backbone.architecture, weights=backbone.weights),
        "views": {"train": train.counts, "val": validation.counts},
        "validation": _measure(classifier, validation) if validation.views else None,
    }
    save_weights(classifier.state_dict(), out / WEIGHTS)
    (out / MODEL_CARD).write_text(_model_card(facts), encoding="utf-8")
    description = {
        "architecture": backbone.architecture,
        "transform": asdict(classifier.transform),
        "normalisation": {"mean": classifier.backbone.pixels.mean, "std": classifier.backbone.pixels.std},
        "classes": CLASSES,
        "facts": facts,
    }
    # Last, for it is what `load` looks for.
    write_whole(out / DESCRIPTION, json.dumps(description, indent=2) + "\n")
    return facts


def _measure(classifier: ViewClassifier, known: _KnownViews) -> dict[str, float]:
    """The share of views that are recognised: of all, and of each projection that there is."""
    right = [
        predicted == CLASSES[true]
        for predicted, true in zip(classifier.projections(known.views), known.classes, strict=True)
    ]
    shares = {"all": sum(right) / len(right)}
    for number, name in enumerate(CLASSES):
        its = [correct for correct, true in zip(right, known.classes, strict=True) if true == number]
        if its:
            shares[name] = sum(its) / len(its)
    return shares


def summary(facts: dict[str, Any]) -> str:
    """What `radscribe train view-classifier` prints of a training that is over."""
    lines = [f"view classifier   {facts['settings']['architecture']}"]
    lines += [f"{split:18}{_counts(counts)}" for split, counts in facts["views"].items()]
    lines.append(f"recognised        {_accuracy(facts)}")
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    known = ", ".join(f"{counts[name]:,} {name}" for name in CLASSES)
    return f"{known} views; {counts['unknown']:,} unknown"


def _accuracy(facts: dict[str, Any]) -> str:
    measured = facts["validation"]
    if measured is None:
        return "not measured: the val split has no view whose projection is known"
    of_each = ", ".join(
        f"{measured[name]:.1%} of {name}" if name in measured else f"no {name} view to measure on"
        for name in CLASSES
    )
    return f"{measured['all']:.1%} of the val split's views: {of_each}"


def _model_card(facts: dict[str, Any]) -> str:
    settings = facts["settings"]
    return f"""# View classifier, {settings["architecture"]}

Tells frontal from lateral chest X-rays, for views whose data set does not say which they are.

**Intended use:** {NOTICE}. It knows no third answer: it calls any image one of the two.

- Trained on `{facts["store_source"]}` (content hash {facts["store_content_hash"][:12]}), train split only:
  {_counts(facts["views"]["train"])}.
- Recognised: {_accuracy(facts)}. Nothing was chosen on that split.
- Backbone weights at the start: {settings["weights"]}. Epochs: {settings["epochs"]}, seed {settings["seed"]}.
- RadScribe {facts["radscribe"]}, torch {facts["torch"]}; trained {facts["trained"]}.
"""
