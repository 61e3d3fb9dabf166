"""The settings of each kind of pretraining, which are the options of `radscribe pretrain`.

Nothing here imports torch, so that the options are shown at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from radscribe.device import Device
from radscribe.ranges import BATCH, COUNT, LEARNING_RATE, SEED, THREADS, check_options
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
