"""The masked autoencoder of bidirectional learning, trained on the user's own images.

The paper starts from published weights. If none can be downloaded, or if the images are of another kind, this
training makes weights from the train split: three quarters of each view's patches are left out, and the model
must draw them from the others (He et al., CVPR 2022). The training writes these files:

model.safetensors, config.json   the model in `transformers` format, for system.vision.weights
preprocessor_config.json         how it takes its pixels, in `transformers` format too
pretraining.json                 where it came from, how it was trained, what it leaves unexplained
MODEL_CARD.md                    what it is, and what it must not be used for
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.pretraining.loop import Task
from radscribe.pretraining.model_card import Section
from radscribe.pretraining.settings import MaskedAutoencoderSettings
from radscribe.pretraining.views import ViewBatches
from radscribe.recipes import get_recipe
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study, View
from radscribe.vision.backbones import Normalisation
from radscribe.vision.masked_autoencoder import MaskedAutoencoderConfig, create_autoencoder
from radscribe.vision.published_pixels import pixels_of_transformers, save_preprocessor_config
from radscribe.vision.transforms import evaluation_view, settled_transform, stored_view
from radscribe.weights import without_bars

#: Share of the patches that are left out, weight decay and moments, as in the MAE paper.
_LEFT_OUT = 0.75
_WEIGHT_DECAY = 0.05
_MOMENTS = (0.9, 0.95)
#: Share of the steps in which the learning rate rises, and its first and last value as shares of the highest.
_WARM_UP = 0.05
_FIRST_RATE = 1 / 25
_LAST_RATE = _FIRST_RATE / 10_000
#: Number of views that are measured together.
_TOGETHER = 64


class MaskedAutoencoderTask(Task):
    """Learn to draw the patches that are left out of the train split's views, and measure on the val split.

    The weights after the last epoch are kept; nothing is chosen on the val split. The learning rate rises
    first, and then falls along half a cosine.

    Args:
        store: Any prepared store that has views.
        settings: Recipe that the autoencoder is for, and training settings.

    Raises:
        RadScribeError: the recipe has no masked autoencoder, or the train split has no view.
    """

    kind = "masked-autoencoder"

    def __init__(self, store: PreparedStore, settings: MaskedAutoencoderSettings):
        self.store = store
        self.settings = settings
        self.highest_rate = settings.learning_rate
        config = get_recipe(settings.recipe).build()
        components = config.system.components
        sizes = next((part for part in components if isinstance(part, MaskedAutoencoderConfig)), None)
        if sizes is None:
            raise RadScribeError(
                f"the recipe '{settings.recipe}' has no masked autoencoder",
                "Pass one such as bidirectional/phantom",
            )
        self.data = config.data
        self.vision = replace(sizes, weights=settings.weights)
        self.train, self.validation = (
            _views(store.studies(split), self.data.views) for split in ("train", "val")
        )
        if not self.train:
            raise RadScribeError(
                f"the train split of '{store.path}' has no view", "Prepare a source with images"
            )
        self.inputs = {"views": {"train": len(self.train), "val": len(self.validation)}}

    def build(self, out: Path, device: torch.device) -> None:
        """Make the autoencoder.

        Raises:
            RadScribeError: the weights to start from cannot be loaded, or the store's views are smaller than
                the recipe needs.
        """
        vision = self.vision
        self.model = create_autoencoder(vision, mask_ratio=_LEFT_OUT, option="weights").to(device)
        self.pixels = pixels_of_transformers(vision.weights, "weights").overridden(vision.normalisation)
        self.transform = settled_transform(self.data.transform, self.store, self.pixels)
        self.normalise = Normalisation(self.pixels).to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.highest_rate, weight_decay=_WEIGHT_DECAY, betas=_MOMENTS
        )

    def batches(self, epoch: int) -> ViewBatches:
        """See `Task.batches`."""
        return ViewBatches(self.train, self.transform, self.settings.batch, self.settings.seed, epoch)

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """See `Task.rate`; the rate rises and then falls, each time along half a cosine."""
        number, last = epoch * steps + step, self.settings.epochs * steps - 1
        highest = _WARM_UP * (last + 1) - 1
        if number < highest:
            return _between(_FIRST_RATE, 1.0, number / highest)
        return _between(1.0, _LAST_RATE, (number - highest) / (last - highest))

    def loss(self, batch: tuple[np.ndarray, Tensor]) -> Tensor:
        """Mean squared error of the patches that are left out; these are chosen anew in every step."""
        return self.model(self.normalise(batch[1].to(self.model.device))).loss

    @torch.inference_mode()
    def outcome(self, losses: Mapping[str, float]) -> dict[str, Any]:
        """Squared error of the patches left out, divided by the variance about the mean view."""
        facts: dict[str, Any] = {"parameters": sum(weight.numel() for weight in self.model.parameters())}
        if not self.validation:
            return facts | {"unexplained": None}
        torch.manual_seed(self.settings.seed)
        views = [
            evaluation_view(stored_view(view, self.transform).pixels, self.transform)
            for view in self.validation
        ]
        normalised = self.normalise(torch.stack(views).to(self.model.device))
        errors = [self.model(part).loss.item() * len(part) for part in normalised.split(_TOGETHER)]
        variance = (normalised - normalised.mean(dim=0)).square().mean().item()
        return facts | {"unexplained": sum(errors) / len(views) / variance}

    def save(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Write the model and its preprocessing of pixels, in `transformers` format."""
        with without_bars():
            self.model.save_pretrained(out)
        interpolation = self.transform.interpolation or self.pixels.interpolation
        save_preprocessor_config(
            self.pixels._replace(interpolation=interpolation), self.vision.image_size, out
        )

    @staticmethod
    def section(facts: Mapping[str, Any]) -> Section:
        """See `Task.section`."""
        return Section(
            title="Masked autoencoder",
            purpose="Draws parts of chest X-rays that were left out; a start for the vision encoder of "
            "`bidirectional`.",
            caution="What it draws is no image of any patient.",
            learnt=f"{facts['views']['train']:,} views",
            notes=[
                f"Validation: {_measured(facts)}. Nothing was chosen on that split.",
                f"{facts['parameters']:,} parameters.",
            ],
        )

    @staticmethod
    def summary(facts: Mapping[str, Any]) -> str:
        """See `Task.summary`."""
        counts = ", ".join(f"{count:,} {split}" for split, count in facts["views"].items())
        return "\n".join(
            [
                f"parameters   {facts['parameters']:,}",
                f"views        {counts}",
                f"validation   {_measured(facts)}",
            ]
        )


def _views(studies: Sequence[Study], most: int) -> list[View]:
    return [view for study in studies for view in study.views[:most]]


def _between(first: float, last: float, share: float) -> float:
    """The value on half a cosine from `first` to `last`, after this share of the way."""
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))


def _measured(facts: Mapping[str, Any]) -> str:
    if facts["unexplained"] is None:
        return "not measured: the val split has no view"
    return (
        f"{facts['unexplained']:.1%} of the variance about the mean view is left unexplained "
        f"where {_LEFT_OUT:.0%} of the patches are left out"
    )
