"""The settings of each kind of pretraining, which are the options of `radscribe pretrain`.

Nothing here imports torch, so that the options are shown at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from radscribe.device import Device
from radscribe.errors import RadScribeError
from radscribe.files import sha256_of
from radscribe.ranges import (
    BATCH,
    COUNT,
    COUNT_OR_NONE,
    LAYERS,
    LEARNING_RATE,
    LENGTH,
    PIXELS,
    SEED,
    THREADS,
    WEIGHT,
    WIDTH,
    check_options,
)
from radscribe.text.cleaning import CleaningName

#: Settings that decide where a training runs, but not what it learns: a resumed training may change them.
_PLACES = ("threads", "device")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingSettings:
    """The settings that every kind of pretraining has.

    Attributes:
        epochs: Number of passes over the train split.
        batch: Number of texts or views per training step.
        learning_rate: Highest learning rate.
        seed: Random seed of everything that is random in the training.
        threads: Number of CPU threads; 0 takes all CPUs.
        device: Device to compute on; `auto` takes a GPU where there is one.
    """

    epochs: int
    batch: int
    learning_rate: float | None
    seed: int = 0
    threads: int = 0
    device: Device = "auto"

    def check(self) -> None:
        """Check the numbers.

        Raises:
            RadScribeError: a number is out of its range.
        """
        numbers = {
            "--epochs": (self.epochs, COUNT),
            "--batch": (self.batch, BATCH),
            "--learning_rate": (self.learning_rate, LEARNING_RATE),
            "--seed": (self.seed, SEED),
            "--threads": (self.threads, THREADS),
        }
        check_options({name: pair for name, pair in numbers.items() if pair[0] is not None})

    def recorded(self) -> dict[str, Any]:
        """The settings that decide what the model learns; a resumed training must have the same."""
        return {name: value for name, value in asdict(self).items() if name not in _PLACES}


def _check_sizes(short_side: int, crop: int) -> None:
    """Check the sizes of views.

    Raises:
        RadScribeError: a size is out of its range, or the crop is larger than the short side.
    """
    check_options({"--short_side": (short_side, PIXELS), "--crop": (crop, PIXELS)})
    if crop > short_side:
        raise RadScribeError(f"--crop {crop} is larger than --short_side {short_side}")


def check_labels(labels: str) -> None:
    """Check that a source of labels is named.

    Raises:
        RadScribeError: it is empty.
    """
    if not labels:
        raise RadScribeError("--labels is empty", "Give report, store or a label file")


def recorded_labels(labels: str) -> dict[str, str]:
    """The hash of a label file, which is recorded; empty if the labels come from elsewhere."""
    return {} if labels in ("report", "store") else {"labels_sha256": sha256_of(Path(labels))}


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModelSettings(PretrainingSettings):
    """Settings of a small language model of reports.

    Attributes:
        size: Size of the model: about this many million parameters.
        text: Text files to learn from too, separated by spaces; in a file a blank line separates two texts.
        section: Report section to learn; several sections are joined by ' + '.
        cleaning: Text cleaning of reports and text files; take that of the systems that will use the model.
        vocabulary_size: Largest number of entries of the tokenizer; without it the size decides.
        epochs: Largest number of passes over the texts; training stops earlier when validation gets no
            better.
        batch: Number of texts per training step.
        learning_rate: Highest learning rate; without it the size decides.
    """

    size: Literal["1m", "8m", "30m"] = "1m"
    text: list[str] | None = None
    section: str = "findings"
    cleaning: CleaningName = "iu_xray"
    vocabulary_size: int | None = None
    epochs: int = 8
    batch: int = 8
    learning_rate: float | None = None

    def recorded(self) -> dict[str, Any]:
        """See `PretrainingSettings.recorded`; text files are recorded by the hash of their content."""
        recorded = PretrainingSettings.recorded(self)  # classes with slots have no super() without arguments
        del recorded["text"]
        return recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewClassifierSettings(PretrainingSettings):
    """Settings of a classifier of frontal and lateral views.

    Attributes:
        architecture: Convolutional network, by its name in timm.
        weights: Weights to start from: none (random weights), the tag of published weights, or a file.
        epochs: Number of passes over the training views.
        batch: Number of views per training step.
        learning_rate: Learning rate at the start; it falls to 0.
    """

    architecture: str = "resnet18"
    weights: str = "none"
    epochs: int = 5
    batch: int = 32
    learning_rate: float = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationSettings(PretrainingSettings):
    """Settings of the parts that give the probability of each of the 14 observations.

    Attributes:
        architecture: Backbone, by its name in timm; or `transformers`, for any image model in the format of
            transformers.
        weights: Weights to start from: none (random weights), the tag of published weights, or a file. With
            the architecture `transformers`, a folder, or a name on the Hugging Face hub.
        short_side: Length in pixels that the short side of a view is resized to before the crop.
        crop: Side in pixels of the square that the backbone sees.
        labels: Source of the labels: `report` labels the section by rules, `store` takes the labels that the
            data set itself has, and a path names a label file: CSV as CheXpert and CheXbert write it, or JSON
            as CAMANet's authors released it.
        section: Report section that is labelled; several sections are joined by ' + '.
        uncertain: What an uncertain observation counts as.
        missing: What an observation that is not mentioned counts as.
        batch: Number of studies per training step.
    """

    architecture: str
    weights: str = "none"
    short_side: int
    crop: int
    labels: str = "report"
    section: str = "findings"
    uncertain: Literal["as_present", "as_absent", "ignore"] = "as_present"
    missing: Literal["as_absent", "ignore"] = "as_absent"

    def check(self) -> None:
        """See `PretrainingSettings.check`; it checks the source of the labels and the sizes too."""
        PretrainingSettings.check(self)  # classes with slots have no super() without arguments
        _check_sizes(self.short_side, self.crop)
        check_labels(self.labels)

    def recorded(self) -> dict[str, Any]:
        """See `PretrainingSettings.recorded`; with the hash of a label file."""
        return PretrainingSettings.recorded(self) | recorded_labels(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationClassifierSettings(ObservationSettings):
    """Settings of a classifier of the 14 observations.

    Attributes:
        class_balanced: Let the studies with an observation weigh as much in the loss as those without it,
            for each observation.
        epochs: Number of passes over the training studies.
        learning_rate: Learning rate at the start; it falls to 0.
    """

    architecture: str = "test_resnet"
    short_side: int = 144
    crop: int = 128
    class_balanced: bool = False
    epochs: int = 20
    batch: int = 16
    learning_rate: float = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class DiseaseQueriesSettings(ObservationSettings):
    """Settings of disease queries (AM-MRG, stage 1).

    Attributes:
        head: What gives the logits: `per-query` (each query of a Q-Former its own), or `pooled-mlp` (the
            released code: no Q-Former, but a perceptron for each observation on the mean visual token).
        augmentation: Random change of the training views: `none` (but for the place of the crop), or
            `released`, as Swin is trained on ImageNet (crops of 8 to 100% of the area, mirrored,
            RandAugment, and in a quarter of the views a rectangle of noise).
        loss: `paper` is the binary cross-entropy, summed over the observations, with the orthogonality;
            `released` smooths the labels by 0.1 and has no orthogonality.
        orthogonality: Weight of the orthogonality of the queries; 0 leaves it out.
        orthogonality_on: What is kept orthogonal: `queries`, or what they have read (`outputs`).
        width: Width of queries and Q-Former.
        layers: Number of layers of the Q-Former.
        attention_heads: Number of attention heads of the Q-Former.
        epochs: Number of passes over the training studies; the weights of the epoch with the highest mean AUC
            on the val split are kept.
        learning_rate: Highest learning rate; it rises to this and then falls to a hundredth of it.
    """

    architecture: str = "swin_large_patch4_window7_224"
    weights: str = "ms_in22k"
    short_side: int = 256
    crop: int = 224
    uncertain: Literal["as_present", "as_absent", "ignore"] = "as_absent"
    head: Literal["per-query", "pooled-mlp"] = "per-query"
    augmentation: Literal["none", "released"] = "none"
    loss: Literal["paper", "released"] = "paper"
    orthogonality: float = 1.0
    orthogonality_on: Literal["queries", "outputs"] = "queries"
    width: int = 768
    layers: int = 12
    attention_heads: int = 12
    epochs: int = 30
    batch: int = 32
    learning_rate: float = 5e-5

    def check(self) -> None:
        """See `ObservationSettings.check`; it checks the sizes of the Q-Former too."""
        ObservationSettings.check(self)
        check_options(
            {
                "--orthogonality": (self.orthogonality, WEIGHT),
                "--width": (self.width, WIDTH),
                "--layers": (self.layers, LAYERS),
                "--attention_heads": (self.attention_heads, WIDTH),
            }
        )
        if self.width % self.attention_heads:
            near = self.attention_heads * max(self.width // self.attention_heads, 1)
            raise RadScribeError(
                f"--width {self.width} is no multiple of --attention_heads {self.attention_heads}",
                f"Give --attention_heads 1, or a --width such as {near}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedAutoencoderSettings(PretrainingSettings):
    """Settings of a masked autoencoder.

    Attributes:
        recipe: Recipe that the encoder is for; it gives the sizes and the image geometry.
        weights: Weights to start from: none (random weights), a name on the Hugging Face hub, or a folder.
        epochs: Number of passes over the training views.
        batch: Number of views per training step.
        learning_rate: Highest learning rate; it rises to this and then falls to 0.
    """

    recipe: str = "bidirectional/phantom"
    weights: str = "none"
    epochs: int = 100
    batch: int = 64
    learning_rate: float = 1.5e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverSettings(PretrainingSettings):
    """Settings of an image-text retriever.

    Attributes:
        architecture: Backbone of the image tower, by its name in timm.
        weights: Weights that the image tower starts from: none (random weights), the tag of published
            weights, or a file.
        text_encoder: Encoder that the text tower starts from: none (a small one with random weights and a
            tokenizer made from the train reports), a name on the Hugging Face hub, or a folder in
            transformers format.
        short_side: Length in pixels that the short side of a view is resized to before the crop.
        crop: Side in pixels of the square that the image tower sees.
        section: Report section to retrieve; several sections are joined by ' + '.
        cleaning: Text cleaning of the reports that the text tower reads.
        maximum_length: Largest number of tokens of a report that the text tower reads.
        width: Width of the vectors by which images and reports are compared.
        epochs: Largest number of passes over the training studies; training stops earlier when validation
            gets no better.
        batch: Number of studies per training step; the report of each is told apart from those of the others.
        learning_rate: Highest learning rate; it rises to this and then falls to 0.
    """

    architecture: str = "test_resnet"
    weights: str = "none"
    text_encoder: str = "none"
    short_side: int = 108
    crop: int = 96
    section: str = "findings"
    cleaning: CleaningName = "iu_xray"
    maximum_length: int = 128
    width: int = 256
    epochs: int = 20
    batch: int = 32
    learning_rate: float = 2e-3

    def check(self) -> None:
        """See `PretrainingSettings.check`; it checks the other sizes too."""
        PretrainingSettings.check(self)  # classes with slots have no super() without arguments
        _check_sizes(self.short_side, self.crop)
        check_options({"--maximum_length": (self.maximum_length, LENGTH), "--width": (self.width, WIDTH)})


#: What a phrase must exceed in number, and the phrases of a list, in each form of a phrase table.
_OF_FORM = {"paper": (20, 30), "table5": (150, 0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhraseTableSettings:
    """Settings of a phrase table, which is counted and not trained.

    Attributes:
        form: How phrases are scored: paper (CmEAA, Eq. 6) or table5 (as in ORGan's released code, from which
            the counts of CmEAA's Table 5 are).
        minimum_count: Number of occurrences that a phrase must exceed in the train split; 20 for the form
            paper and 150 for table5 unless given.
        top: Number of phrases to keep for each observation and polarity; 0 keeps all. It is 30 for the form
            paper and 0 for table5 unless given.
        polarity: Observations to find phrases for: both (those that a study has, and those that it is said
            not to have) or positive (those that it has).
        section: Report section to read; several sections are joined by ' + '.
        cleaning: Text cleaning of the reports; take that of the systems that will use the phrases.
        seed: Random seed of the studies that are compared in a large store.
    """

    form: Literal["paper", "table5"] = "paper"
    minimum_count: int | None = None
    top: int | None = None
    polarity: Literal["both", "positive"] = "both"
    section: str = "findings"
    cleaning: CleaningName = "iu_xray"
    seed: int = 0

    def settled(self) -> Self:
        """The settings with the numbers of the form in place of those that are not given.

        Raises:
            RadScribeError: a number is out of its range.
        """
        minimum_count, top = _OF_FORM[self.form]
        settled = replace(
            self,
            minimum_count=minimum_count if self.minimum_count is None else self.minimum_count,
            top=top if self.top is None else self.top,
        )
        check_options(
            {
                "--minimum_count": (settled.minimum_count, COUNT_OR_NONE),
                "--top": (settled.top, COUNT_OR_NONE),
                "--seed": (settled.seed, SEED),
            }
        )
        return settled

    def recorded(self) -> dict[str, Any]:
        """The settings as they are kept with the table; see `settled`."""
        return asdict(self.settled())
