"""`radscribe train masked-autoencoder`: the autoencoder of bidirectional learning from one's own images.

The paper starts from published weights. Where none can be downloaded, or the images are of another kind, this
learns some from the train split: three quarters of each view's patches are left out and must be drawn from
the others (He et al., CVPR 2022). What it leaves:

model.safetensors, config.json   in `transformers` format, for system.vision.weights
preprocessor_config.json         how it takes its pixels, in that format too
pretraining.json                 where it came from, how it was trained, what it leaves unexplained
MODEL_CARD.md                    what it is, and what it must not be used for
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError
from radscribe.files import write_whole
from radscribe.pretraining.loop import ViewTraining
from radscribe.runs.config import DataConfig
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study, View
from radscribe.vision.backbones import Normalisation
from radscribe.vision.masked_autoencoder import MaskedAutoencoderConfig, create_autoencoder
from radscribe.vision.published_pixels import pixels_of_transformers, save_preprocessor_config
from radscribe.vision.transforms import TransformConfig, evaluation_view, settled_transform, stored_view
from radscribe.weights import without_bars

FACTS = "pretraining.json"
MODEL_CARD = "MODEL_CARD.md"

#: Share of the patches that are left out, weight decay and moments: the MAE paper's.
_LEFT_OUT = 0.75
_WEIGHT_DECAY = 0.05
_MOMENTS = (0.9, 0.95)
#: Share of the steps over which the learning rate rises.
_WARM_UP = 0.05


def train_masked_autoencoder(
    store: PreparedStore,
    out: Path | str,
    *,
    vision: MaskedAutoencoderConfig,
    data: DataConfig,
    training: ViewTraining,
) -> dict[str, Any]:
    """Learn to draw what is left out of the train split's views, and measure on the val split's.

    The weights are those after the last epoch: nothing is chosen on validation. Test is left alone.

    Args:
        store: any.
        out: the directory to write.
        vision: sizes, and the weights that it starts from.
        data: which views, and image geometry.
        training: how; the learning rate rises first and falls along half a cosine.

    Returns:
        The facts that `pretraining.json` holds.

    Raises:
        RadScribeError: there is something in `out` already, the store's views are smaller than the recipe
            needs, the train split has no view, weights at the start cannot be loaded, a number is out of
            range, or the loss is not finite.
    """
    out = Path(out)
    with training.prepared(out) as device:
        return _train(store, out, vision, data, training, device)


def _train(
    store: PreparedStore,
    out: Path,
    vision: MaskedAutoencoderConfig,
    data: DataConfig,
    training: ViewTraining,
    device: torch.device,
) -> dict[str, Any]:
    views = {split: _views(store.studies(split), data.views) for split in ("train", "val")}
    if not views["train"]:
        raise RadScribeError(f"the train split of '{store.path}' has no view", "Prepare a source with images")
    model = create_autoencoder(vision, mask_ratio=_LEFT_OUT, option="weights").to(device)
    pixels = pixels_of_transformers(vision.weights, "weights").overridden(vision.normalisation)
    transform = settled_transform(data.transform, store, pixels)
    normalise = Normalisation(pixels).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=_WEIGHT_DECAY, betas=_MOMENTS
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        training.learning_rate,
        total_steps=training.steps(views["train"]),
        pct_start=_WARM_UP,
        cycle_momentum=False,
    )
    model.train()
    training.fit(
        views["train"],
        transform,
        lambda chosen, views: model(normalise(views.to(device))).loss,
        optimizer,
        schedule,
        "masked autoencoder",
    )
    model.eval()
    facts = {
        **training.facts(store, weights=vision.weights),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "views": {split: len(each) for split, each in views.items()},
        "unexplained": _unexplained(model, normalise, views["val"], transform, training.seed)
        if views["val"]
        else None,
    }
    with without_bars():
        model.save_pretrained(out)
    save_preprocessor_config(
        pixels._replace(interpolation=transform.interpolation or pixels.interpolation), vision.image_size, out
    )
    (out / MODEL_CARD).write_text(_model_card(facts), encoding="utf-8")
    write_whole(out / FACTS, json.dumps(facts, indent=2) + "\n")
    return facts


def _views(studies: Sequence[Study], most: int) -> list[View]:
    return [view for study in studies for view in study.views[:most]]


@torch.inference_mode()
def _unexplained(
    model: Any,
    normalise: Normalisation,
    views: Sequence[View],
    transform: TransformConfig,
    seed: int,
) -> float:
    """Squared error of what was left out, over that of the mean view: 1 is as good as one view for all."""
    torch.manual_seed(seed)
    pixels = torch.stack([evaluation_view(stored_view(view, transform).pixels, transform) for view in views])
    normalised = normalise(pixels.to(model.device))
    losses = [model(part).loss.item() * len(part) for part in normalised.split(64)]
    return sum(losses) / len(views) / (normalised - normalised.mean(dim=0)).square().mean().item()


def summary(facts: dict[str, Any]) -> str:
    """What `radscribe train masked-autoencoder` prints of a training that is over."""
    counts = ", ".join(f"{count:,} {split}" for split, count in facts["views"].items())
    return "\n".join(
        [
            f"parameters   {facts['parameters']:,}",
            f"views        {counts}",
            f"validation   {_measured(facts)}",
        ]
    )


def _measured(facts: dict[str, Any]) -> str:
    if facts["unexplained"] is None:
        return "not measured: the val split has no view"
    return (
        f"{facts['unexplained']:.1%} of the variance about the mean view is left unexplained "
        f"where {_LEFT_OUT:.0%} of the patches are left out"
    )


def _model_card(facts: dict[str, Any]) -> str:
    settings = facts["settings"]
    return f"""# Masked autoencoder

Draws parts of chest X-rays that were left out; a start for the vision encoder of `bidirectional`.

**Intended use:** {NOTICE}. What it draws is no image of any patient.

- Trained on `{facts["store_source"]}` (content hash {facts["store_content_hash"][:12]}), train split only:
  {facts["views"]["train"]:,} views.
- Validation: {_measured(facts)}. Nothing was chosen on that split.
- Weights at the start: {settings["weights"]}. Epochs: {settings["epochs"]}, seed {settings["seed"]}.
- {facts["parameters"]:,} parameters. RadScribe {facts["radscribe"]}, torch {facts["torch"]}; trained
  {facts["trained"]}.
"""
