"""The kinds of pretraining, by name; nothing here imports torch until a pretraining begins."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from radscribe.pretraining.settings import (
    LanguageModelSettings,
    MaskedAutoencoderSettings,
    PretrainingSettings,
    ViewClassifierSettings,
)

if TYPE_CHECKING:
    from radscribe.pretraining.loop import Task


@dataclass(frozen=True, slots=True)
class PretrainingEntry:
    """One kind of pretraining.

    Attributes:
        name: The name that users type.
        summary: What the pretraining makes, in one line.
        description: What it learns from, what it prints, and where its result is used.
        settings: The class of its settings, which are its options.
        module: The module that has its task.
        class_name: The class of the task in that module.
    """

    name: str
    summary: str
    description: str
    settings: type[PretrainingSettings]
    module: str
    class_name: str

    def task(self) -> type[Task]:
        """The class of the task, which `pretrain` takes."""
        task: type[Task] = getattr(import_module(self.module), self.class_name)
        return task


PRETRAININGS: dict[str, PretrainingEntry] = {
    entry.name: entry
    for entry in [
        PretrainingEntry(
            name="language-model",
            summary="Train a small language model on the reports of a store, for systems with a frozen one.",
            description="It learns the train split and keeps the weights with the lowest loss on the "
            "validation split; the test split is not used. It writes a model and a tokenizer in the format "
            "of transformers: pass the folder to a recipe with --system.language_model.name.",
            settings=LanguageModelSettings,
            module="radscribe.pretraining.language_model",
            class_name="LanguageModelTask",
        ),
        PretrainingEntry(
            name="view-classifier",
            summary="Train a classifier of frontal and lateral views, for views whose projection is unknown.",
            description="It learns from the views of the train split whose projection is known, and prints "
            "how many views of the val split it recognises; the test split is not used. Pass the directory "
            "to a recipe with --data.view_classifier.",
            settings=ViewClassifierSettings,
            module="radscribe.pretraining.view_classifier",
            class_name="ViewClassifierTask",
        ),
        PretrainingEntry(
            name="masked-autoencoder",
            summary="Train a masked autoencoder on the images of a store, for bidirectional learning.",
            description="It learns to draw the patches that are left out of the views of the train split, "
            "and prints how well it does so on the val split; the test split is not used. It writes a model "
            "in the format of transformers: pass the folder to a recipe with --system.vision.weights.",
            settings=MaskedAutoencoderSettings,
            module="radscribe.pretraining.masked_autoencoder",
            class_name="MaskedAutoencoderTask",
        ),
    ]
}
