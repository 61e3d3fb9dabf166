"""The complete, typed configuration of a training run, and its YAML file.

A recipe returns a `RunConfig`; the command line overrides its fields; the run directory keeps it as
`config.yaml`. Unknown and ill-typed fields are errors that say what exists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml

from radscribe.decoding.search import DecodingConfig
from radscribe.device import Device
from radscribe.errors import RadScribeError, closest
from radscribe.ranges import (
    BATCH,
    COUNT,
    COUNT_OR_NONE,
    DROPOUT,
    LEARNING_RATE,
    LENGTH,
    SEED,
    SHARE,
    THREADS,
    WEIGHT,
    WORKERS,
    Range,
    check_choice,
    check_fields,
)
from radscribe.systems.config import SystemConfig
from radscribe.systems.registry import get_system
from radscribe.text.cleaning import CleaningName
from radscribe.text.protocols import ProtocolName
from radscribe.values import converted, in_words, shown
from radscribe.vision.transforms import TransformConfig


@dataclass(kw_only=True, slots=True)
class LabelConfig:
    """Where observation labels come from, and what each state counts as.

    Published code differs in what the states count as.

    Attributes:
        source: Source of the labels: `report` labels the drafted section by rules, `store` takes the labels
            that the data set itself has, and a path names a label file: CSV as CheXpert and
            CheXbert write it, or JSON as CAMANet's authors released it.
        uncertain: What an uncertain observation counts as.
        missing: What an observation that is not mentioned counts as.
    """

    source: str = "report"
    uncertain: Literal["as_present", "as_absent", "ignore"] = "as_absent"
    missing: Literal["as_absent", "ignore"] = "as_absent"

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("data.labels.source is empty; it is report, store or a label file")


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """What is learnt from a prepared store.

    Attributes:
        section: Report section to draft; several sections, joined by ' + ', are drafted as one text.
        cleaning: Text cleaning of the benchmark; `none` leaves the text as it is.
        minimum_count: Words that are rarer than this in the train split become `<unk>`.
        maximum_length: Length in tokens that training reports are cut to. It counts the begin and the end;
            systems with a language model do not count the begin, which belongs to the prompt.
        views: Largest number of views per study; further views are left out.
        protocol: Protocol under which validation and test are scored.
        labels: Observation labels, for systems that learn them.
        view_classifier: Directory that `radscribe pretrain view-classifier` wrote. It predicts the
            projection of training views whose projection is unknown, for systems that learn from it; without
            it these views stay unknown.
        transform: Sizes, crops and changes of the images.
    """

    section: str = "findings"
    cleaning: CleaningName = "iu_xray"
    minimum_count: int = 3
    maximum_length: int = 60
    views: int = 2
    protocol: ProtocolName = "r2gen"
    labels: LabelConfig = field(default_factory=LabelConfig)
    view_classifier: str = ""
    transform: TransformConfig = field(default_factory=TransformConfig)

    def __post_init__(self) -> None:
        check_fields(self, "data.", minimum_count=COUNT, maximum_length=LENGTH, views=Range(1, 1000))
        if not self.section.strip():
            raise ValueError("data.section is empty; name a report section, such as findings")


Selection = Literal[
    "BLEU-1",
    "BLEU-2",
    "BLEU-3",
    "BLEU-4",
    "ROUGE-L",
    "CIDEr",
    "BLEU-4 + 0.5 BLEU-1",
    "0.5 BLEU-4 + 0.5 CIDEr",
]


def selection_score(selection: Selection, scores: Mapping[str, float]) -> float:
    """The score by which weights are chosen, computed from validation scores by name."""
    if selection == "BLEU-4 + 0.5 BLEU-1":
        return scores["BLEU-4"] + 0.5 * scores["BLEU-1"]
    if selection == "0.5 BLEU-4 + 0.5 CIDEr":
        return 0.5 * scores["BLEU-4"] + 0.5 * scores["CIDEr"]
    return scores[selection]


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """How a system is trained.

    Attributes:
        seed: Random seed of the weights, the order of studies, the augmentation and the dropout.
        epochs: Number of passes over the train split.
        batch_size: Number of studies per training step.
        accumulate: Number of batches whose gradients are summed before the optimiser steps.
        optimizer: Optimiser; `adamw` keeps the weight decay out of the gradients and `adam` does not.
        backbone_learning_rate: Learning rate of the visual extractor.
        learning_rate: Learning rate of all parameters outside the visual extractor.
        betas: Decay rates of Adam's two moving averages.
        epsilon: Number that Adam adds to the denominator.
        amsgrad: Use the AMSGrad variant of Adam.
        weight_decay: Strength of the weight decay; `adam` adds it to the gradients as an L2 penalty.
        schedule: How the learning rates fall: in a `step` every `decay_every` epochs, or along half a
            `cosine` over all epochs down to `floor` times their value.
        decay: Factor that the learning rates are multiplied by every `decay_every` epochs.
        decay_every: Number of epochs between two decays.
        floor: Share of the learning rates that the `cosine` schedule ends at.
        warm_up_epochs: Number of epochs in which both learning rates rise, a little with each step, from
            `warm_up_from` to their value.
        warm_up_from: Learning rate at which the warm-up begins, the same for all parameters.
        clip_value: Gradients are clamped to this absolute value; 0 leaves them as they are.
        clip_norm: Gradients are scaled down to this norm; 0 leaves them as they are.
        precision: Arithmetic of the training: 32 bits, or 16 bits where it is safe (for a GPU).
        validate_every: Number of epochs between two validations; a validation drafts the val split.
        patience: Training stops after this many validations without a better score.
        select_by: Validation score, or sum of scores, that chooses the best weights.
        checkpoint_every: Number of steps between two checkpoints within an epoch; there is one after each
            epoch too.
        workers: Number of processes that read and transform views; 0 does it in the training process.
        threads: Number of CPU threads; 0 takes all CPUs.
        device: Device to train on; `auto` takes a GPU where there is one.
    """

    seed: int = 0
    epochs: int = 100
    batch_size: int = 16
    accumulate: int = 1
    optimizer: Literal["adam", "adamw"] = "adam"
    backbone_learning_rate: float = 5e-5
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-9
    amsgrad: bool = True
    weight_decay: float = 5e-5
    schedule: Literal["step", "cosine"] = "step"
    decay: float = 0.8
    decay_every: int = 1
    floor: float = 0.0
    warm_up_epochs: int = 0
    warm_up_from: float = 0.0
    clip_value: float = 0.0
    clip_norm: float = 0.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    validate_every: int = 1
    patience: int = 50
    select_by: Selection = "BLEU-4"
    checkpoint_every: int = 1000
    workers: int = 0
    threads: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_fields(
            self,
            "training.",
            seed=SEED,
            epochs=COUNT,
            batch_size=BATCH,
            accumulate=COUNT,
            backbone_learning_rate=WEIGHT,  # 0 leaves the visual extractor as it is
            learning_rate=LEARNING_RATE,
            epsilon=WEIGHT,
            weight_decay=WEIGHT,
            decay=Range(0, 1, above=True),
            decay_every=COUNT,
            floor=SHARE,
            warm_up_epochs=COUNT_OR_NONE,
            warm_up_from=WEIGHT,
            clip_value=WEIGHT,
            clip_norm=WEIGHT,
            validate_every=COUNT,
            patience=COUNT,
            checkpoint_every=COUNT,
            workers=WORKERS,
            threads=THREADS,
        )
        if len(self.betas) != 2 or not all(beta in DROPOUT for beta in self.betas):
            raise ValueError(f"training.betas must be two numbers from 0 to below 1, not {self.betas}")
        check_choice("training.device", self.device, get_args(Device))
        if self.validate_every > self.epochs:
            raise ValueError(
                f"training.validate_every {self.validate_every} must not exceed training.epochs "
                f"{self.epochs}, for weights are chosen by validation"
            )
        if self.clip_value and self.clip_norm:
            raise ValueError("training.clip_value and training.clip_norm exclude each other")


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """A complete training configuration.

    Attributes:
        recipe: Name of the recipe that the configuration came from.
        system_name: Name of the system, as `radscribe systems` lists it.
        store: Prepared store to train on.
        data: What is learnt from the store.
        system: Configuration of the system; its class is in the system's file.
        training: How the system is trained.
        decoding: How drafts are decoded, in validation and afterwards.
    """

    recipe: str
    system_name: str
    store: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    system: SystemConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)


#: Parts of a configuration whose fields the command line can change.
SECTIONS = ("data", "system", "training", "decoding")


def override(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """A copy of `config` with some fields changed.

    Args:
        config: Configuration to start from.
        values: New values, nested by section, such as `{"training": {"epochs": 3}}`.

    Raises:
        RadScribeError: a field does not exist, or a value has the wrong type or is out of range.
    """
    try:
        return _changed(config, values, config)
    except ValueError as error:
        raise RadScribeError(f"recipe {config.recipe}: {error}") from error


def _changed(part: Any, values: Mapping[str, Any], config: RunConfig, prefix: str = "") -> Any:
    """A copy of a part of `config` with some fields changed; `prefix` is the dotted name of the part."""
    names = SECTIONS if part is config else [field.name for field in dataclasses.fields(part)]
    if unknown := [name for name in values if name not in names]:
        raise _unknown_field(f"{prefix}{unknown[0]}", config)
    hints, changes = get_type_hints(type(part)), {}
    for name in names:
        value = getattr(part, name)
        if dataclasses.is_dataclass(value):  # copied even if nothing in it changes
            inner = values.get(name, {})
            if not isinstance(inner, Mapping):
                raise ValueError(f"{prefix}{name} needs {in_words(dict)}, not {shown(inner)}")
            changes[name] = _changed(value, inner, config, f"{prefix}{name}.")
        elif name in values:
            try:
                changes[name] = converted(values[name], hints[name])
            except ValueError as error:
                raise ValueError(f"{prefix}{name} {error}") from error
    return dataclasses.replace(part, **changes)


def _unknown_field(name: str, config: RunConfig) -> RadScribeError:
    """The error for an unknown field: it offers the closest names, or lists the fields of that section."""
    fields = field_names(config)
    section = name.partition(".")[0]
    known = closest(name, fields, 3) or [field for field in fields if field.startswith(f"{section}.")]
    return RadScribeError(
        f"recipe {config.recipe} has no field '{name}'", f"Fields: {', '.join(known or fields)}"
    )


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Turn fields by dotted name into nested values for `override`; later fields replace earlier ones."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        for part in reversed(name.split(".")):
            value = {part: value}
        _merge(values, value)
    return values


def _merge(values: dict[str, Any], further: Mapping[str, Any]) -> None:
    for name, value in further.items():
        if isinstance(value, Mapping) and isinstance(values.get(name), dict):
            _merge(values[name], value)
        else:
            values[name] = value


def field_names(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names of all fields that can be overridden, with their values."""
    names: dict[str, Any] = {}
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if not prefix and entry.name not in SECTIONS:
            continue
        if dataclasses.is_dataclass(value):
            names |= field_names(value, f"{prefix}{entry.name}.")
        else:
            names[f"{prefix}{entry.name}"] = value
    return names


#: First line of the file. A file that begins with it but lacks `_END` at its end is incomplete.
_BEGIN = "# The whole configuration of a run, down to the line of three dots.\n"
_END = "...\n"


def save_config(config: RunConfig, path: Path) -> None:
    """Write `config` as YAML, with a mark at its end, so that an incomplete file is recognised."""
    path.write_text(f"{_BEGIN}{to_yaml(config)}{_END}", encoding="utf-8")


def to_yaml(config: RunConfig) -> str:
    """`config` as YAML, in the order of its fields."""
    values = dataclasses.asdict(config)
    return yaml.safe_dump(_plain(values), sort_keys=False)


def load_config(path: Path) -> RunConfig:
    """Read a configuration that `save_config` wrote.

    Raises:
        RadScribeError: there is no such file, it is not a configuration, or a field is unknown or has the
        wrong type.
    """
    hint = "Take the file from a copy of the run, or train it again"
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        recipe, system_name, store = (values.pop(name) for name in ("recipe", "system_name", "store"))
        if text.startswith(_BEGIN) and not text.endswith(_END):
            raise ValueError("it is cut short: its last line is not '...'")
        if not isinstance(store, str) or not isinstance(recipe, str) or not isinstance(system_name, str):
            raise TypeError("recipe, system_name and store are no texts")
    except (
        OSError,
        yaml.YAMLError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())
        raise RadScribeError(
            f"cannot read the configuration '{path}' ({type(error).__name__}: {reason})", hint
        ) from error
    try:
        base = RunConfig(
            recipe=recipe, system_name=system_name, store=store, system=get_system(system_name).config()
        )
        return override(base, values)
    except RadScribeError as error:
        raise RadScribeError(f"the configuration '{path}' is wrong: {error}") from error


def _plain(value: Any) -> Any:
    """A copy of `value` with tuples as lists, because YAML has only plain types."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value
