"""Commands that train what a recipe starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from radscribe import NOTICE
from radscribe.errors import RadScribeError
from radscribe.text.cleaning import CleaningName


def train_view_classifier(
    *,
    store: Path,
    out: Path,
    epochs: int = 5,
    batch: int = 32,
    learning_rate: float = 1e-3,
    architecture: str = "resnet18",
    weights: str = "none",
    seed: int = 0,
    threads: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: bool = True,
) -> None:
    """Train a classifier of frontal and lateral views, for views whose projection is unknown.

    It learns from the views of the train split whose projection is known, and prints how many views of the
    val split it recognises; the test split is not used.

    Args:
        store: Prepared store to learn from.
        out: Directory to write; pass it to a recipe with --data.view_classifier.
        epochs: Number of passes over the training views.
        batch: Number of views per training step.
        learning_rate: Learning rate at the start; it falls to 0.
        architecture: Convolutional network, by its name in timm.
        weights: Weights to start from: none (random weights), the tag of published weights, or a file.
        seed: Random seed of the weights, the order of views and the crops.
        threads: Number of CPU threads; 0 takes all CPUs.
        device: Device to compute on; auto takes a GPU where there is one.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.pretraining.loop import ViewTraining
    from radscribe.pretraining.view_classifier import summary
    from radscribe.pretraining.view_classifier import train_view_classifier as train_classifier
    from radscribe.studies.store import PreparedStore
    from radscribe.vision.backbones import BackboneConfig

    facts = train_classifier(
        PreparedStore(store),
        out,
        backbone=BackboneConfig(architecture=architecture, weights=weights),
        training=ViewTraining(
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            threads=threads,
            device=device,
            progress=progress,
        ),
    )
    print(summary(facts))
    print(f"view classifier: {out}; {NOTICE}")


def train_masked_autoencoder(
    *,
    store: Path,
    out: Path,
    recipe: str = "bidirectional/phantom",
    epochs: int = 100,
    batch: int = 64,
    learning_rate: float = 1.5e-3,
    weights: str = "none",
    seed: int = 0,
    threads: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: bool = True,
) -> None:
    """Train a masked autoencoder on the images of a store, for a recipe of bidirectional learning.

    It learns to draw the patches that are left out of the views of the train split, and prints how well it
    does so on the val split; the test split is not used. It writes a model in the format of transformers.

    Args:
        store: Prepared store to learn from.
        out: Folder to write; pass it to a recipe with --system.vision.weights.
        recipe: Recipe that the encoder is for; it gives the sizes and the image geometry.
        epochs: Number of passes over the training views.
        batch: Number of views per training step.
        learning_rate: Highest learning rate; it rises to this and then falls to 0.
        weights: Weights to start from: none (random weights), a name on the Hugging Face hub, or a folder.
        seed: Random seed of the weights, the order of views, the crops and the masks.
        threads: Number of CPU threads; 0 takes all CPUs.
        device: Device to compute on; auto takes a GPU where there is one.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from dataclasses import replace

    from radscribe.pretraining.loop import ViewTraining
    from radscribe.pretraining.masked_autoencoder import summary
    from radscribe.pretraining.masked_autoencoder import train_masked_autoencoder as train_autoencoder
    from radscribe.recipes import get_recipe
    from radscribe.studies.store import PreparedStore

    config = get_recipe(recipe).build()
    if not hasattr(config.system, "vision"):
        raise RadScribeError(
            f"the recipe '{recipe}' has no masked autoencoder", "Pass one such as bidirectional/phantom"
        )
    facts = train_autoencoder(
        PreparedStore(store),
        out,
        vision=replace(config.system.vision, weights=weights),
        data=config.data,
        training=ViewTraining(
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            threads=threads,
            device=device,
            progress=progress,
        ),
    )
    print(summary(facts))
    print(f"masked autoencoder: {out}; {NOTICE}")


def pretrain_lm(
    store: Path,
    *,
    out: Path,
    size: Literal["1m", "8m", "30m"] = "1m",
    text: list[str] | None = None,
    section: str = "findings",
    cleaning: CleaningName = "iu_xray",
    vocabulary_size: int | None = None,
    epochs: int = 8,
    batch: int = 8,
    learning_rate: float | None = None,
    seed: int = 0,
    threads: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: bool = True,
    resume: bool = False,
) -> None:
    """Pretrain a small language model on the reports of a store, for systems with a frozen language model.

    It learns the train split and keeps the weights with the lowest loss on the validation split; the test
    split is not used. It writes a model and a tokenizer in the format of transformers.

    Args:
        store: Prepared store whose reports are learnt.
        out: Folder to write.
        size: Size of the model: about this many million parameters.
        text: Text files to learn from too, separated by spaces; in a file a blank line separates two texts.
        section: Report section to learn; several sections are joined by ' + '.
        cleaning: Text cleaning of reports and text files; take that of the systems that will use the model.
        vocabulary_size: Largest number of entries of the tokenizer; without it the size decides.
        epochs: Largest number of passes over the texts; training stops earlier when validation gets no
            better.
        batch: Number of texts per training step.
        learning_rate: Highest learning rate; without it the size decides.
        seed: Random seed of everything that is random in the training.
        threads: Number of CPU threads; 0 takes all CPUs.
        device: Device to compute on; auto takes a GPU where there is one.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
        resume: Go on with the interrupted training in --out, with the same result as if it had not been
            interrupted.
    """
    from radscribe.pretraining.language_model import Pretraining, pretrain_language_model
    from radscribe.pretraining.language_model_card import summary
    from radscribe.studies.store import PreparedStore

    settings = Pretraining(
        size=size,
        section=section,
        cleaning=cleaning,
        vocabulary_size=vocabulary_size,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
    )
    facts = pretrain_language_model(
        PreparedStore(store),
        out,
        settings,
        text=text or (),
        threads=threads,
        device=device,
        resume=resume,
        progress=progress,
    )
    print(summary(facts))
    print(f"language model: {out}; {NOTICE}")
