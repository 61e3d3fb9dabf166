"""The run directory: everything that a trained system needs, and nothing else.

config.yaml           the complete configuration, preprocessing included
vocabulary.json       the words, with the rules that made them
weights.safetensors   the best weights by validation, but for those of a frozen language model
language_model.json   which language model that is: name, revision and hash of its content
run.json              where it came from: store, its hash, versions, best score, sizes
training_log.jsonl    one line per logged step and per validation
metrics.json          the test split's scores with the baselines'
drafts.test.jsonl     what was scored
metrics.val.json      and so on: what radscribe evaluate scored since
stores/NAME-HASH/     the same of another store
checkpoints/last.ckpt the whole training state, for --resume
tensorboard/          the same curves
MODEL_CARD.md         what it is, what it scored, what it must not be used for
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.studies.store import MANIFEST, PreparedStore, write_whole
from radscribe.systems.registry import get_system
from radscribe.systems.system import System
from radscribe.text.language_model_files import LanguageModelFiles
from radscribe.text.language_model_tokenizer import LanguageModelTokenizer
from radscribe.text.vocabulary import Vocabulary
from radscribe.training.config import RunConfig, load_config, save_config


@dataclass(frozen=True)
class KeptScores:
    """Where a run keeps the scores of one split of one store.

    Attributes:
        metrics: all scores as JSON.
        tables: all scores as tables.
        drafts: what was scored.
    """

    metrics: Path
    tables: Path
    drafts: Path


class RunDirectory:
    """Paths of a run, and how its parts are written and read.

    Args:
        path: the directory; it need not exist.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.vocabulary = self.path / "vocabulary.json"
        self.weights = self.path / "weights.safetensors"
        self.language_model = self.path / "language_model.json"
        self.facts = self.path / "run.json"
        self.log = self.path / "training_log.jsonl"
        self.metrics = self.path / "metrics.json"
        self.scores = self.path / "metrics.txt"
        self.checkpoint = self.path / "checkpoints" / "last.ckpt"
        self.tensorboard = self.path / "tensorboard"
        self.model_card = self.path / "MODEL_CARD.md"

    def drafts(self, split: str) -> Path:
        """Where the scored drafts of a split stand."""
        return self.path / f"drafts.{split}.jsonl"

    def create(self, config: RunConfig, vocabulary: Vocabulary, facts: dict[str, Any]) -> None:
        """Begin a run: everything but weights."""
        self.path.mkdir(parents=True, exist_ok=True)
        save_config(config, self.config)
        vocabulary.save(self.vocabulary)
        self.update_facts(**facts)

    def record_language_model(self, system: System) -> None:
        """Keep which language model a system writes with, if it has one."""
        if system.language_model:
            record = asdict(system.language_model.files.record())
            write_whole(self.language_model, json.dumps(record, indent=2) + "\n")

    def load_tokenizer(self) -> LanguageModelTokenizer:
        """The tokenizer of the run's language model.

        Raises:
            RadScribeError: its system has none, or it is not there.
        """
        config = self.load_config()
        if not hasattr(config.system, "language_model"):
            raise RadScribeError(f"the run '{self.path}' has no language model, and so no tokenizer")
        model = config.system.language_model
        return LanguageModelTokenizer(
            LanguageModelFiles.find(model.name, model.revision, tokenizer_only=True)
        )

    def check_language_model(self, system: System) -> None:
        """Check that a system writes with the language model that the run was begun with.

        Raises:
            RadScribeError: its content is another, or the run does not say what it was.
        """
        if system.language_model is None:
            return
        now = system.language_model.files.record()
        try:
            before = json.loads(self.language_model.read_text(encoding="utf-8"))
            name, expected = before["name"], before["sha256"]
        except (OSError, ValueError, KeyError) as error:
            raise RadScribeError(
                f"'{self.language_model}' does not say which language model the run needs "
                f"({type(error).__name__})",
                "Take it from where the run was trained",
            ) from error
        if now.sha256 != expected:
            raise RadScribeError(
                f"the language model '{now.name}' is not the one that the run '{self.path}' was trained with "
                f"('{name}'): its content has sha256 {now.sha256}, not {expected}",
                f"Put the right one there, or name its place in {self.config} (system.language_model.name)",
            )

    def read_facts(self) -> dict[str, Any]:
        """What `run.json` says, empty before the run began."""
        return json.loads(self.facts.read_text()) if self.facts.is_file() else {}

    def update_facts(self, **facts: Any) -> None:
        """Set some entries of `run.json`."""
        write_whole(self.facts, json.dumps(self.read_facts() | facts, indent=2) + "\n")

    def load_config(self) -> RunConfig:
        """The run's configuration.

        Raises:
            RadScribeError: this is no run directory.
        """
        if not self.config.is_file():
            raise RadScribeError(
                f"'{self.path}' is no run directory: it has no config.yaml",
                "Give a directory that radscribe train or radscribe interop import wrote",
            )
        return load_config(self.config)

    def open_store(self, store: Path | None = None) -> PreparedStore:
        """The store that the run was trained on, or another.

        Args:
            store: the other one.

        Raises:
            RadScribeError: the run names no store, or there is none.
        """
        path = store or self.load_config().store
        if not path:
            raise RadScribeError(
                f"the run '{self.path}' names no store", "Say where the studies are: --store STORE"
            )
        if not (Path(path) / MANIFEST).is_file() and store is None:
            source = self.read_facts().get("store_source", "SOURCE")
            raise RadScribeError(
                f"the store '{path}' of the run '{self.path}' is gone",
                "Say where it is now with --store STORE, or make it again: "
                f"radscribe prepare {source} --out {path}",
            )
        return PreparedStore(path)

    def check_weights(self) -> None:
        """Check that the run has weights.

        Raises:
            RadScribeError: it has none.
        """
        if not self.weights.is_file():
            raise RadScribeError(
                f"'{self.path}' has no weights.safetensors", "Its training has not reached a validation yet"
            )

    def kept_scores(self, store: PreparedStore, split: str) -> KeptScores:
        """Where the scores of a split stand: in the run directory itself, or by the name of another store.

        Args:
            store: the one that was scored. Another than the run's own has a folder in `stores/`, named after
                it and the beginning of its content hash.
            split: `train`, `val`, `test` or `all`.
        """
        own, trained_on = self.load_config().store, self.read_facts().get("store_content_hash")
        content_hash = store.manifest["content_hash"]
        folder = self.path
        if content_hash != trained_on and not (own and Path(own).resolve() == store.path.resolve()):
            folder = self.path / "stores" / f"{store.path.resolve().name}-{content_hash[:8]}"
        name = "metrics" if split == "test" else f"metrics.{split}"
        return KeptScores(folder / f"{name}.json", folder / f"{name}.txt", folder / f"drafts.{split}.jsonl")

    def load_system(self) -> System:
        """Build the system and load its weights strictly.

        Raises:
            RadScribeError: a part is missing, the weights do not fit the configuration, or the language model
                is another than in training.
        """
        config = self.load_config()
        vocabulary = Vocabulary.load(self.vocabulary)
        self.check_weights()
        # All weights but the language model's are the run's own: nothing is downloaded.
        _start_from_nothing(config.system)
        system = get_system(config.system_name).build(config.system, vocabulary, config.data.maximum_length)
        self.check_language_model(system)
        try:
            load_strictly(system, load_file(self.weights), f"'{self.weights}'")
        except (SafetensorError, OSError) as error:
            raise RadScribeError(
                f"'{self.weights}' cannot be read ({error})", "The file is damaged"
            ) from error
        return system.eval()


def _start_from_nothing(config: Any) -> None:
    """Set every `weights` of a system's configuration to `none`."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name == "weights":
            config.weights = "none"
        elif is_dataclass(value):
            _start_from_nothing(value)


def own_weights(module: nn.Module) -> dict[str, Tensor]:
    """The weights that are kept of a module: of a system without those of its frozen language model."""
    return module.own_state_dict() if isinstance(module, System) else module.state_dict()


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights as safetensors, whole or not at all; see `own_weights`."""
    with whole_or_not_at_all(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in own_weights(module).items()}, partial)


@contextmanager
def whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """Give a path to write to; `path` is replaced by it once it is written.

    Raises:
        RadScribeError: it could not be written; what stood at `path` before still stands there.
    """
    partial = path.with_name(path.name + ".tmp")
    try:
        yield partial
        os.replace(partial, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap the OSError
        partial.unlink(missing_ok=True)
        raise RadScribeError(
            f"cannot write '{path}' ({error})", "Make room on the disk; a training run goes on with --resume"
        ) from error


def load_strictly(module: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    """Load `weights`, every one of `own_weights` and no other.

    Raises:
        RadScribeError: names what is missing, unexpected, or of another shape.
    """
    own = own_weights(module)
    problems = [f"missing {name}" for name in sorted(own.keys() - weights.keys())]
    problems += [f"unexpected {name}" for name in sorted(weights.keys() - own.keys())]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if own[name].shape != weights[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise RadScribeError(f"{what} does not fit the configuration: {'; '.join(problems[:5])}{more}")
    # Names and shapes were checked; what is not the module's own stays as it is.
    module.load_state_dict(weights, strict=False)
