"""The run directory: everything that a trained system needs, and nothing else.

config.yaml           the complete configuration, preprocessing included
vocabulary.json       the words, with the rules that made them
weights.safetensors   the best weights by validation, without those of a frozen language model
features.safetensors  mean and covariance of the visual features of the training views: how unlike them the
                      views of another study are
language_model.json   the language model that the run needs: name, revision and hash of its content
parts.json            the parts of the training, such as a view classifier: kind, path, content hash
parts/KIND/           those of them that drafting needs as well, and what else the stages of the run made;
                      parts/config.yaml is what they were made for
run.json              where the run came from: store, its hash, versions, best score; the hash of its weights
training_log.jsonl    one line per logged step and per validation
metrics.json          the scores of the test split and of the baselines; metrics.txt has all tables,
                      summary.txt the most important scores in a few lines
drafts.test.jsonl     the drafts of the test split that were scored
metrics.val.json      and further files: scores that radscribe evaluate added
stores/NAME-HASH/     scores and drafts of another store
checkpoints/last.ckpt the whole training state, for --resume; previous.ckpt is the checkpoint before it
tensorboard/          the training log for TensorBoard
MODEL_CARD.md         what the run is, its scores, and what it must not be used for
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from radscribe.errors import RadScribeError, warn
from radscribe.files import read_json_lines, read_json_object, sha256_of, write_whole
from radscribe.runs.config import RunConfig, load_config, nested, override, save_config
from radscribe.runs.drafts import PHANTOM, SYNTHETIC, RunOrigin, source_in_words
from radscribe.runs.run_parts import PARTS, read_parts, with_own_parts
from radscribe.studies.store import PreparedStore
from radscribe.studies.store_files import MANIFEST, read_manifest
from radscribe.systems.registry import get_system
from radscribe.systems.system import System
from radscribe.text.language_model_files import LanguageModelFiles
from radscribe.text.language_model_tokenizer import LanguageModelTokenizer
from radscribe.text.vocabulary import Vocabulary
from radscribe.weights import load_strictly, save_weights

_DAMAGED = "Take the file from a copy of the run, or train it again"
#: Types of the entries of run.json that RadScribe reads.
_FACTS = {
    "store": str,
    "store_source": str,
    "store_content_hash": str,
    "weights_sha256": str,
    "unlikeness": dict,
    "radscribe": str,
    "began": str,
    "best": dict,
    "finished": bool,
    "epochs_trained": int,
    "steps": int,
    "training_seconds": (int, float),
    "peak_memory_gb": (int, float),
}


@dataclass(frozen=True, slots=True)
class KeptScores:
    """Where a run keeps the scores of one split of one store.

    Attributes:
        metrics: File of all scores as JSON.
        tables: File of all scores as tables.
        drafts: File of the drafts that were scored.
    """

    metrics: Path
    tables: Path
    drafts: Path


class RunDirectory:
    """Paths of the files of a run, with methods that write and read them.

    Args:
        path: Run directory; it need not exist.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.vocabulary = self.path / "vocabulary.json"
        self.weights = self.path / "weights.safetensors"
        self.features = self.path / "features.safetensors"
        self.language_model = self.path / "language_model.json"
        self.parts = self.path / PARTS
        self.stages = self.path / "parts"
        self.stages_config = self.stages / "config.yaml"
        self.facts = self.path / "run.json"
        self.log = self.path / "training_log.jsonl"
        self.metrics = self.path / "metrics.json"
        self.scores = self.path / "metrics.txt"
        self.summary = self.path / "summary.txt"
        self.checkpoint = self.path / "checkpoints" / "last.ckpt"
        self.previous_checkpoint = self.path / "checkpoints" / "previous.ckpt"
        self.tensorboard = self.path / "tensorboard"
        self.model_card = self.path / "MODEL_CARD.md"

    def drafts(self, split: str) -> Path:
        """The file of the scored drafts of a split."""
        return self.path / f"drafts.{split}.jsonl"

    def create(self, config: RunConfig, vocabulary: Vocabulary, facts: dict[str, Any]) -> None:
        """Make the directory of a new run and write everything except the weights."""
        self.path.mkdir(parents=True, exist_ok=True)
        save_config(config, self.config)
        vocabulary.save(self.vocabulary)
        self.update_facts(**facts)

    def record_language_model(self, system: System) -> None:
        """Record which language model a system uses, if it has one."""
        if record := system.frozen_files():
            write_whole(self.language_model, json.dumps(asdict(record), indent=2) + "\n")

    def load_tokenizer(self) -> LanguageModelTokenizer:
        """The tokenizer of the run's language model.

        Raises:
            RadScribeError: the system has no language model, or its files are missing.
        """
        model = self.load_config().system.language_model
        if model is None:
            raise RadScribeError(f"the run '{self.path}' has no language model, and so no tokenizer")
        return LanguageModelTokenizer(
            LanguageModelFiles.find(model.name, model.revision, tokenizer_only=True)
        )

    def check_language_model(self, system: System) -> None:
        """Check that a system uses the same language model as when the run was begun.

        Raises:
            RadScribeError: the content of the language model differs, or the run does not record it.
        """
        now = system.frozen_files()
        if now is None:
            return
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
        """The entries of `run.json`; empty before the run began.

        Raises:
            RadScribeError: the file is damaged.
        """
        if not self.facts.exists():
            return {}
        facts = read_json_object(self.facts, _DAMAGED)
        wrong = [name for name, kind in _FACTS.items() if name in facts and not isinstance(facts[name], kind)]
        if wrong:
            raise RadScribeError(f"'{self.facts}' is damaged: '{wrong[0]}' is {facts[wrong[0]]!r}", _DAMAGED)
        return facts

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of the training log, each with `step` and `epoch`; empty if the run has no log.

        Raises:
            RadScribeError: the file is damaged.
        """
        if not self.log.exists():
            return []
        lines = read_json_lines(self.log, "Remove the line that is damaged")
        for number, line in enumerate(lines, start=1):
            numbers = [line.get("step"), line.get("epoch"), line.get("loss", 0.0)]
            scores = line.get("validation", {})
            numbers += scores.values() if isinstance(scores, dict) else [None]
            if not all(isinstance(value, (int, float)) for value in numbers):
                raise RadScribeError(
                    f"'{self.log}' is damaged: entry {number} lacks the numbers of a step",
                    "Remove the line that is damaged",
                )
        return lines

    @property
    def trained_on(self) -> str:
        """What the run was trained on, in words."""
        return source_in_words(self.read_facts().get("store_source") or "what is not on record")

    @property
    def caution(self) -> str:
        """`SYNTHETIC` if the run was trained on synthetic images, else empty."""
        return SYNTHETIC if self.read_facts().get("store_source") == PHANTOM else ""

    def origin(self) -> RunOrigin:
        """The origin that is stored in each draft of the run.

        Raises:
            RadScribeError: a part is missing or damaged.
        """
        digest = hashlib.sha256()
        for path in (self.config, self.vocabulary, self.language_model):
            if path != self.language_model or path.is_file():
                digest.update(sha256_of(path, _DAMAGED).encode())
        digest.update((self.read_facts().get("weights_sha256") or sha256_of(self.weights, _DAMAGED)).encode())
        needed = self.load_config().system.parts
        for name, part in read_parts(self.path).items():
            if name in needed:
                digest.update(part.content_hash.encode())
        return RunOrigin(self.path.resolve().name, digest.hexdigest(), self.trained_on, self.caution)

    def save_weights(self, system: System, **facts: Any) -> None:
        """Write the weights of a system, whole or not at all, and record their hash in run.json.

        Args:
            system: System whose weights are written; see `System.own_state_dict`.
            facts: Further entries for run.json.
        """
        save_weights(system.own_state_dict(), self.weights)
        self.update_facts(weights_sha256=sha256_of(self.weights), **facts)

    def update_facts(self, **facts: Any) -> None:
        """Set some entries of `run.json`."""
        write_whole(self.facts, json.dumps(self.read_facts() | facts, indent=2) + "\n")

    def load_config(self) -> RunConfig:
        """The run's configuration. A part that moved together with the run is named where it is now.

        Raises:
            RadScribeError: this is no run directory.
        """
        if not self.config.is_file():
            raise RadScribeError(
                f"'{self.path}' is no run directory: it has no config.yaml",
                "Give a directory that radscribe train or radscribe interop import wrote",
            )
        config = load_config(self.config)
        for field, kind in config.system.made_of_a_store.items():
            part, own = Path(attrgetter(field)(config.system)), self.stages / kind
            if part.parts[-2:] == own.parts[-2:] and own.is_dir() and not part.is_dir():
                config = override(config, nested({f"system.{field}": str(own.absolute())}))
        return config

    def open_store(self, store: Path | None = None) -> PreparedStore:
        """Open the store that the run was trained on, or another store.

        Args:
            store: Path of another store; None opens the run's own.

        Raises:
            RadScribeError: the run names no store, or the store does not exist.
        """
        return PreparedStore(store or self.find_store())

    def find_store(self) -> Path:
        """The present path of the store that the run was trained on.

        Two places are tried: the absolute path, and the path relative to the run directory, which still works
        if run and store were moved together. If both have a store, the store with the content that the run
        was trained on is chosen.

        Raises:
            RadScribeError: the run names no store, or neither place has one.
        """
        absolute, facts = self.load_config().store, self.read_facts()
        if not absolute:
            raise RadScribeError(
                f"the run '{self.path}' names no store", "Say where the studies are: --store STORE"
            )
        places = [Path(absolute)]
        if relative := facts.get("store_relative"):
            places.append(Path(os.path.normpath(self.path.absolute() / relative)))
        found = [place for place in places if (place / MANIFEST).is_file()]
        if not found:
            raise RadScribeError(
                f"the store '{absolute}' of the run '{self.path}' is gone",
                "Say where it is now with --store STORE, or make it again: "
                f"radscribe prepare {facts.get('store_source', 'SOURCE')} --out {absolute}",
            )
        learnt = facts.get("store_content_hash")
        same = [place for place in found if read_manifest(place).get("content_hash") == learnt]
        return (same or found)[0]

    def check_weights(self) -> None:
        """Check that the run has `run.json` and weights.

        Raises:
            RadScribeError: one of the two is missing.
        """
        facts = self.read_facts()
        if not facts:
            raise RadScribeError(f"'{self.path}' has no run.json, which says where it came from", _DAMAGED)
        if not self.weights.exists():
            unfinished = "Its training has not reached a validation yet"
            raise RadScribeError(
                f"'{self.path}' has no weights.safetensors", _DAMAGED if "best" in facts else unfinished
            )

    def kept_scores(self, store: PreparedStore, split: str) -> KeptScores:
        """The files that keep the scores of a split.

        Args:
            store: Store that was scored. The scores of the run's own store are kept in the run directory
                itself; any other store has a folder in `stores/`, named after it and the beginning of its
                content hash.
            split: Split that was scored: `train`, `val`, `test` or `all`.
        """
        own, trained_on = self.load_config().store, self.read_facts().get("store_content_hash")
        content_hash = store.manifest["content_hash"]
        folder = self.path
        if content_hash != trained_on and not (own and Path(own).resolve() == store.path.resolve()):
            folder = self.path / "stores" / f"{store.path.resolve().name}-{content_hash[:8]}"
        name = "metrics" if split == "test" else f"metrics.{split}"
        return KeptScores(folder / f"{name}.json", folder / f"{name}.txt", folder / f"drafts.{split}.jsonl")

    def load_system(self) -> System:
        """Build the system for drafting, and load its weights strictly.

        Raises:
            RadScribeError: a file is missing or damaged, the weights do not fit the configuration, or the
            language model or a part is not the one of the training.
        """
        config, facts = with_own_parts(self.path, self.load_config()), self.read_facts()
        vocabulary = Vocabulary.load(self.vocabulary)
        self.check_weights()
        # The run has all weights except the language model's, so nothing is downloaded.
        config.system.start_from_nothing()
        system = get_system(config.system_name).build(config.system, vocabulary, config.data.maximum_length)
        self.check_language_model(system)
        weights = self._load_weights(facts)
        load_strictly(system, weights, f"'{self.weights}'", own=system.own_state_dict())
        system.fold()
        return system.eval()

    def _load_weights(self, facts: dict[str, Any]) -> dict[str, Tensor]:
        """Load the weights, and check their hash and that all numbers are finite."""
        try:
            weights, sha256 = load_file(self.weights), sha256_of(self.weights, _DAMAGED)
        except (SafetensorError, OSError, ValueError) as error:
            raise RadScribeError(
                f"'{self.weights}' is damaged: it cannot be read ({error})", _DAMAGED
            ) from error
        expected = facts.get("weights_sha256")
        if expected is None:
            warn(
                f"'{self.path}' keeps no hash of its weights, for an older RadScribe wrote it",
                "A changed byte in them would not be seen",
            )
        elif sha256 != expected:
            train = f"radscribe train {facts.get('recipe')} --out {self.path} --resume"
            raise RadScribeError(
                f"'{self.weights}' is damaged or of another run: its sha256 is {sha256[:12]}..., not "
                f"{expected[:12]}... as {self.facts.name} says",
                _DAMAGED if facts.get("finished") else f"Go on with the training, which writes it: {train}",
            )
        for name, tensor in weights.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise RadScribeError(
                    f"'{self.weights}' is damaged: {name} holds a number that is not finite", _DAMAGED
                )
        return weights
