"""The kinds of pretraining, by name; nothing here imports torch until a pretraining begins."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscribe.pretraining.bank_settings import ReportBankSettings, VisualBankSettings
from radscribe.pretraining.settings import (
    DiseaseQueriesSettings,
    LanguageModelSettings,
    MaskedAutoencoderSettings,
    ObservationClassifierSettings,
    PhraseTableSettings,
    RetrieverSettings,
    ViewClassifierSettings,
)

if TYPE_CHECKING:
    from radscribe.studies.store import PreparedStore


@dataclass(frozen=True, slots=True)
class PretrainingEntry:
    """One kind of pretraining.

    Attributes:
        name: The name that users type.
        summary: What the pretraining makes, in one line.
        description: What it learns from, what it prints, and where its result is used.
        settings: The class of its settings, which are its options.
        module: The module that makes it.
        class_name: The class of the task in that module, for a kind that is trained in epochs. Without one
            nothing is trained, and the module has a function `make` that makes the part.
    """

    name: str
    summary: str
    description: str
    settings: type[Any]
    module: str
    class_name: str = ""

    @property
    def trained(self) -> bool:
        """Whether it is trained in epochs, and can go on after an interruption."""
        return bool(self.class_name)

    def make(
        self,
        store: PreparedStore,
        out: Path,
        settings: Any,
        *,
        progress: bool,
        resume: bool = False,
        command: str = "",
    ) -> str:
        """Make a part or a model of this kind.

        Args:
            store: The prepared store to learn from.
            out: The directory to write.
            settings: An instance of the settings class of this kind.
            progress: Show the progress.
            resume: Continue an interrupted training; a kind that is not trained does not look at it.
            command: Command that goes on after an interruption; see `pretraining.loop.pretrain`.

        Returns:
            A summary of the result, to be printed.

        Raises:
            RadScribeError: See `pretraining.loop.pretrain`, or the function `make` of the module.
        """
        module: Any = import_module(self.module)
        if not self.trained:
            return str(module.make(store, out, settings, progress=progress))
        from radscribe.pretraining.loop import pretrain

        task = getattr(module, self.class_name)
        facts = pretrain(task, store, out, settings, resume=resume, progress=progress, command=command)
        return str(task.summary(facts))


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
            name="observation-classifier",
            summary="Train a classifier of the 14 observations on the views of a store.",
            description="It learns the observations of the train split from all views of a study. On the val "
            "split it chooses temperatures and thresholds, and is measured; the test split is not used. "
            "'radscribe observe' prints its probabilities for any images.",
            settings=ObservationClassifierSettings,
            module="radscribe.pretraining.observation_classifier",
            class_name="ObservationClassifierTask",
        ),
        PretrainingEntry(
            name="disease-queries",
            summary="Train a query for each observation on the views of a store: stage 1 of AM-MRG.",
            description="It learns the observations of the train split, each with a query of a Q-Former that "
            "reads the image, and keeps the weights with the highest mean AUC on the val split, where it is "
            "measured; the test split is not used. 'radscribe observe' prints its probabilities for any "
            "images.",
            settings=DiseaseQueriesSettings,
            module="radscribe.pretraining.disease_queries",
            class_name="DiseaseQueriesTask",
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
        PretrainingEntry(
            name="retriever",
            summary="Train a retriever, which finds the reports of a store that fit the images of a study.",
            description="It learns from images and reports of the train split, keeps the weights that rank "
            "the reports of the val split best, and prints how often it finds the right one; the test split "
            "is not used. Its directory holds the texts of the train reports, and may only go where these "
            "may. Pass it to radscribe retrieve, to radscribe evaluate with --retriever, or to a recipe of "
            "cmeaa with --system.retriever.",
            settings=RetrieverSettings,
            module="radscribe.pretraining.retriever",
            class_name="RetrieverTask",
        ),
        PretrainingEntry(
            name="phrases",
            summary="Count phrases that go with each observation in the reports of a store, for CmEAA.",
            description="It reads the reports of the train split alone, and keeps phrases that occur with "
            "an observation more often than by chance (pointwise mutual information). It prints how many "
            "phrases there are, and how alike those of two studies are. Look at them with radscribe phrases.",
            settings=PhraseTableSettings,
            module="radscribe.pretraining.phrase_table",
        ),
        PretrainingEntry(
            name="visual-bank",
            summary="Make a bank of features of image regions, by observation, for AM-MRG.",
            description="It reads the views of the train split alone. Activation maps of disease queries "
            "find the regions of each observation that a study has, and their backbone encodes them. It "
            "prints how many rows each observation has, and how many studies keep no region.",
            settings=VisualBankSettings,
            module="radscribe.pretraining.visual_bank",
        ),
        PretrainingEntry(
            name="report-bank",
            summary="Make a bank of features of reports, by observation, for AM-MRG.",
            description="It reads the reports of the train split alone, takes some of each observation in "
            "proportion to its frequency, and encodes them by a text encoder or a language model. It prints "
            "how many rows each observation has.",
            settings=ReportBankSettings,
            module="radscribe.pretraining.report_bank",
        ),
    ]
}
