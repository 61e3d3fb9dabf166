"""`radscribe train view-classifier`: tells frontal from lateral views where the data set does not say.

It learns from the views of a prepared store whose projection is known. What it leaves:

weights.safetensors     its weights, backbone and all
view_classifier.json    architecture, image geometry, normalisation, classes, and where it came from
MODEL_CARD.md           what it is, how often it is right, what it must not be used for
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from radscribe import NOTICE
from radscribe.errors import RadScribeError
from radscribe.studies.store import PreparedStore, write_whole
from radscribe.studies.study import PROJECTIONS, Projection, Study, View
from radscribe.training.device import chosen_device
from radscribe.training.run_directory import load_strictly, save_weights
from radscribe.training.view_training import ViewTraining
from radscribe.vision.backbones import Backbone, BackboneConfig
from radscribe.vision.published_pixels import NormalisationConfig
from radscribe.vision.transforms import TransformConfig, evaluation_view, settled_transform, stored_view

WEIGHTS = "weights.safetensors"
DESCRIPTION = "view_classifier.json"
MODEL_CARD = "MODEL_CARD.md"

#: What it tells apart.
CLASSES: tuple[Projection, ...] = PROJECTIONS[:2]
#: Half the resolution of the systems: enough for outlines, at a quarter of the time. A mirrored view has the
#: same projection, so that mirroring is no harm here.
TRANSFORM = TransformConfig(short_side=128, crop=112, horizontal_flip=True)
#: Views that are measured or predicted side by side.
_TOGETHER = 64


class ViewClassifier(nn.Module):
    """A backbone, the mean of its visual tokens, and a linear layer to the two projections.

    Args:
        backbone: its architecture, and the weights that it starts from.
        transform: image geometry.

    Raises:
        RadScribeError: the backbone cannot be built, or takes views of another size only.
    """

    def __init__(self, backbone: BackboneConfig, transform: TransformConfig):
        super().__init__()
        self.transform = transform
        self.backbone = Backbone(backbone)
        if self.backbone.model.pretrained_cfg.get("fixed_input_size"):
            raise RadScribeError(
                f"{backbone.architecture} takes views of one size only, and not of {transform.crop} pixels",
                "Choose a convolutional network with --architecture, such as resnet18",
            )
        self.head = nn.Linear(self.backbone.channels, len(CLASSES))

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Self:
        """Read what `train_view_classifier` wrote; nothing is downloaded.

        Args:
            path: the directory.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            RadScribeError: there is no view classifier, or a part of it is missing, damaged or does not fit.
        """
        path = Path(path)
        for file in (DESCRIPTION, WEIGHTS):
            _check_there(path, file)
        try:
            description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
            architecture, classes = description["architecture"], tuple(description["classes"])
            transform = TransformConfig(**description["transform"])
            stated = description.get("normalisation", {})  # not in those of earlier versions: ImageNet's
            normalisation = NormalisationConfig(**{name: tuple(values) for name, values in stated.items()})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RadScribeError(
                f"cannot read '{path / DESCRIPTION}' ({type(error).__name__}: {error})", "Train it again"
            ) from error
        if classes != CLASSES:
            raise RadScribeError(
                f"the view classifier in '{path}' tells apart {', '.join(map(str, classes))}, "
                f"not {', '.join(CLASSES)}",
                "Train it again",
            )
        backbone = BackboneConfig(architecture=architecture, weights="none", normalisation=normalisation)
        classifier = cls(backbone, transform)
        try:
            load_strictly(classifier, load_file(path / WEIGHTS), f"'{path / WEIGHTS}'")
        except (SafetensorError, OSError) as error:
            raise RadScribeError(f"'{path / WEIGHTS}' cannot be read ({error})", "Train it again") from error
        return classifier.to(chosen_device(device)).eval()

    @staticmethod
    def sha256(path: Path | str) -> str:
        """Of the weights of what `train_view_classifier` wrote to the directory `path`.

        Raises:
            RadScribeError: there is no view classifier.
        """
        _check_there(Path(path), WEIGHTS)
        return hashlib.sha256((Path(path) / WEIGHTS).read_bytes()).hexdigest()

    def forward(self, views: Tensor) -> Tensor:
        """Logits `[views, 2]`, in the order of `CLASSES`, of uint8 grey views `[views, crop, crop]`."""
        return self.head(self.backbone.encode_views(views).mean(dim=1))

    @torch.inference_mode()
    def predict(self, views: Tensor) -> Tensor:
        """Probabilities of `frontal` and `lateral`.

        Args:
            views: uint8 grey `[views, crop, crop]`, as `evaluation_view` gives them for `transform`.

        Returns:
            float32 `[views, 2]` on the CPU, in the order of `CLASSES`.
        """
        return self(views.to(self.head.weight.device)).softmax(dim=-1).cpu()

    def projections(self, views: Sequence[View]) -> list[Projection]:
        """The more probable projection of each view.

        Raises:
            RadScribeError: a view cannot be read, or stands in a store of another short side than that which
                the classifier was trained on.
        """
        found: list[Projection] = []
        for start in range(0, len(views), _TOGETHER):
            pixels = [
                evaluation_view(stored_view(view, self.transform).pixels, self.transform)
                for view in views[start : start + _TOGETHER]
            ]
            found += [CLASSES[number] for number in self.predict(torch.stack(pixels)).argmax(dim=-1)]
        return found


def with_predicted_projections(
    studies: Sequence[Study], classifier: ViewClassifier, most_views: int
) -> list[Study]:
    """The studies, with a predicted projection for each view whose own is unknown.

    Args:
        studies: any.
        classifier: predicts.
        most_views: views of a study that count; further ones stay as they are.

    Raises:
        RadScribeError: such a view cannot be read.
    """
    unknown = [view for study in studies for view in study.views[:most_views] if view.projection == "unknown"]
    predicted = iter(classifier.projections(unknown))
    return [
        replace(
            study,
            views=tuple(
                replace(view, projection=next(predicted))
                if number < most_views and view.projection == "unknown"
                else view
                for number, view in enumerate(study.views)
            ),
        )
        for study in studies
    ]


def _check_there(path: Path, file: str) -> None:
    if not (path / file).is_file():
        raise RadScribeError(
            f"there is no view classifier in '{path}': it has no {file}",
            "Train one: radscribe train view-classifier --store STORE --out DIR",
        )


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
    save_weights(classifier, out / WEIGHTS)
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
