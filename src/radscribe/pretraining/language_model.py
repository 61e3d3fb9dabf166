"""`radscribe pretrain-lm`: a tokenizer and a small Llama from the reports of a prepared store.

It is what the systems with a frozen language model use where none can be downloaded: it writes reports and
nothing else, but it trains in minutes on a CPU. What it leaves:

model.safetensors, config.json, generation_config.json   the model with the best validation loss
tokenizer.json, tokenizer_config.json                    its tokenizer
pretraining.json                                         where it came from, how it was trained, perplexities
MODEL_CARD.md                                            what it is, and what it must not be used for
checkpoint.pt, previous.pt                               only until it is finished: the state after the last
                                                         epoch and the one before it, for --resume

A frozen model can only follow an image if it looks at what stands where the image goes, and one that has
seen reports alone never learnt to look there. So most reports are learnt after R2GenGPT's prompt, with cues
between `<Img>` and `</Img>`: some of the report's own tokens, in random order. No image is seen.
"""

from __future__ import annotations

import json
import math
import platform
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.about import VERSION
from radscribe.device import chosen_device
from radscribe.errors import RadScribeError, unknown_name
from radscribe.files import write_whole
from radscribe.interruption import (
    StopRequest,
    check_empty,
    disk_errors_explained,
    memory_errors_explained,
    only_training,
)
from radscribe.pretraining.language_model_card import write_card
from radscribe.pretraining.language_model_documents import (
    IGNORED,
    Encoder,
    Row,
    Texts,
    batches_by_length,
    draw_cues,
    epoch_rows,
)
from radscribe.progress import track
from radscribe.ranges import BATCH, COUNT, LEARNING_RATE, SEED, THREADS, check_options
from radscribe.studies.store import PreparedStore
from radscribe.text.byte_level_tokenizer import SMALLEST_VOCABULARY, train_tokenizer
from radscribe.text.prompts import REPORT_PROMPT
from radscribe.weights import read_newest, save_checkpoint, without_bars

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

FACTS = "pretraining.json"
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "previous.pt"

#: Tokens that the model can look back on. Training rows are half as long: visual tokens take the rest.
POSITIONS = 1024
_WINDOW = POSITIONS // 2
#: Stop after so many epochs without a better validation loss.
_PATIENCE = 3
#: Rows that are measured side by side.
_MEASURED = 32
#: What a checkpoint has.
_PARTS = ("epoch", "steps", "best", "history", "model", "optimizer")


@dataclass(frozen=True, slots=True)
class Preset:
    """The size of a model.

    Attributes:
        layers, width, feed_forward, heads: of the Llama.
        vocabulary_size: most entries of its tokenizer.
        learning_rate: the highest of its training.
    """

    layers: int
    width: int
    feed_forward: int
    heads: int
    vocabulary_size: int
    learning_rate: float


PRESETS = {
    "1m": Preset(4, 128, 352, 4, vocabulary_size=1024, learning_rate=3e-3),
    "8m": Preset(6, 320, 864, 5, vocabulary_size=2048, learning_rate=1e-3),
    "30m": Preset(8, 512, 1536, 8, vocabulary_size=4096, learning_rate=6e-4),
}


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What decides the weights, next to the texts.

    Attributes:
        size: name of a preset.
        section: of the reports.
        cleaning: name of the cleaning rules.
        vocabulary_size: most entries of the tokenizer; the preset's unless given.
        epochs: most passes over the texts.
        batch: texts per step.
        learning_rate: the highest; the preset's unless given.
        seed: of weights, order, forms and cues.
    """

    size: str = "1m"
    section: str = "findings"
    cleaning: str = "iu_xray"
    vocabulary_size: int | None = None
    epochs: int = 8
    batch: int = 8
    learning_rate: float | None = None
    seed: int = 0

    def preset(self) -> Preset:
        """The preset by its name.

        Raises:
            RadScribeError: there is none of that name, or a number is out of its range.
        """
        if self.size not in PRESETS:
            raise unknown_name("size", self.size, PRESETS)
        preset = PRESETS[self.size]
        if self.vocabulary_size is not None and self.vocabulary_size < SMALLEST_VOCABULARY:
            raise RadScribeError(
                f"--vocabulary_size {self.vocabulary_size} is too small",
                f"Bytes and special tokens alone are {SMALLEST_VOCABULARY}",
            )
        check_options(
            {
                "--vocabulary_size": (self.vocabulary_size or preset.vocabulary_size, COUNT),
                "--epochs": (self.epochs, COUNT),
                "--batch": (self.batch, BATCH),
                "--learning_rate": (
                    preset.learning_rate if self.learning_rate is None else self.learning_rate,
                    LEARNING_RATE,
                ),
                "--seed": (self.seed, SEED),
            }
        )
        return preset


def build_language_model(preset: Preset, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with random weights, whose input and output embeddings are one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=preset.width,
            intermediate_size=preset.feed_forward,
            num_hidden_layers=preset.layers,
            num_attention_heads=preset.heads,
            max_position_embeddings=POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def pretrain_language_model(
    store: PreparedStore,
    out: Path | str,
    settings: Pretraining,
    *,
    text: Iterable[Path | str] = (),
    threads: int = 0,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a tokenizer and a language model, and keep the weights with the best validation loss.

    Args:
        store: whose train split is learnt, and whose val split is measured on; its test split is left alone.
        out: the folder to write.
        settings: sizes, text rules and training.
        text: text files to learn from too.
        threads: CPU threads; 0 takes all.
        device: `auto`, `cpu` or `cuda`.
        resume: go on after the last whole epoch, exactly as if there had been no interruption.
        progress: show how far it is.

    Returns:
        The facts that `pretraining.json` holds.

    Raises:
        RadScribeError: there is something in `out` already or nothing to resume, texts are missing, settings
            are out of range or not those that the training was begun with, the loss is not finite, or the
            disk or the memory is full.
        InterruptionError: it was stopped by Ctrl-C; the error says what is saved.
    """
    out, files = Path(out), [Path(file) for file in text]
    preset = settings.preset()
    check_options({"--threads": (threads, THREADS)})
    command = _resume_command(store, out, settings, files)

    def what_is_saved() -> tuple[str, str]:
        if (out / FACTS).is_file():
            return f"stopped; the whole epochs so far are saved in '{out}'", f"Go on: {command}"
        return "stopped before the training began; nothing was saved", "Give the same command again"

    with (
        only_training(out),
        disk_errors_explained(out, f"Make room there or put it right, and go on: {command}"),
        memory_errors_explained("--batch"),
        StopRequest(what_is_saved),
    ):
        return _pretrain(
            store, out, settings, preset, files, threads, chosen_device(device), resume, progress
        )


def _pretrain(
    store: PreparedStore,
    out: Path,
    settings: Pretraining,
    preset: Preset,
    text: Sequence[Path],
    threads: int,
    device: torch.device,
    resume: bool,
    progress: bool,
) -> dict[str, Any]:
    texts = Texts.read(store, settings.section, settings.cleaning, text)
    facts = _facts(store, texts, settings)
    if resume:
        facts = _resumed(out, facts)
        if facts["finished"]:
            return facts
        tokenizer = _load_tokenizer(out)
    else:
        check_empty(out, "Go on with it by --resume, or choose another --out")
        tokenizer = train_tokenizer(
            _tokenizer_texts(texts), settings.vocabulary_size or preset.vocabulary_size
        )
        tokenizer.save_pretrained(out)
        _write_facts(out, facts)

    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    with device:
        model = build_language_model(preset, tokenizer)
    trainer = _Trainer(model, tokenizer, texts, settings, preset)
    trainer.train(out / CHECKPOINT, progress)

    model.load_state_dict(trainer.best["model"])
    with without_bars():
        model.save_pretrained(out)
    facts |= trainer.outcome() | {"finished": True}
    write_card(out, facts)
    _write_facts(out, facts)
    for name in (CHECKPOINT, PREVIOUS):
        (out / name).unlink(missing_ok=True)
    return facts


def _load_tokenizer(out: Path) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast.from_pretrained(out)
    except Exception as error:  # each damaged file fails in its own way
        raise RadScribeError(
            f"the tokenizer in '{out}' is missing or damaged ({' '.join(str(error).split())[:100]})",
            "Restore tokenizer.json and tokenizer_config.json from a copy, or begin anew with another --out",
        ) from error


def _resume_command(store: PreparedStore, out: Path, settings: Pretraining, text: Sequence[Path]) -> str:
    """The command that goes on with a training."""
    words = ["radscribe", "pretrain-lm", str(store.path), "--out", str(out), "--resume"]
    usual = asdict(Pretraining())
    for name, value in asdict(settings).items():
        if value != usual[name]:
            words += [f"--{name}", str(value)]
    return shlex.join([*words, *(["--text", *map(str, text)] if text else [])])


class _Trainer:
    """A model on its way, and the texts that it learns from and is measured on."""

    def __init__(
        self,
        model: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        texts: Texts,
        settings: Pretraining,
        preset: Preset,
    ):
        self.model = model
        self.settings = settings
        self.learning_rate = settings.learning_rate or preset.learning_rate
        self.texts = texts
        self.encoder = Encoder(tokenizer, _WINDOW)
        self.reports = self.encoder.encode(texts.reports)
        self.paragraphs = self.encoder.encode(texts.paragraphs)
        self.validation = self.encoder.encode(texts.validation)
        self.forms = _validation_forms(self.encoder, self.validation, settings.seed)
        matrices = [each for each in model.parameters() if each.ndim > 1]
        vectors = [each for each in model.parameters() if each.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
            lr=self.learning_rate,
            betas=(0.9, 0.95),
        )
        self.epoch = 0
        self.steps = 0
        self.best: dict[str, Any] = {"loss": math.inf}
        self.history: list[dict[str, float]] = []

    def train(self, checkpoint: Path, progress: bool) -> None:
        """All epochs that are left, each followed by a checkpoint."""
        previous = checkpoint.with_name(PREVIOUS)
        if found := read_newest(checkpoint, previous, _PARTS):
            self._load(*found)
        epochs = self.settings.epochs
        while self.epoch < epochs and self.epoch - self.best.get("epoch", 0) < _PATIENCE:
            learnt = self._train_epoch(progress)
            losses = {form: self._measure(rows) for form, rows in self.forms.items()}
            loss = sum(losses.values()) / len(losses)
            if not math.isfinite(loss):
                raise RadScribeError(
                    f"the validation loss is {loss} after epoch {self.epoch}",
                    "Begin anew in another --out with a lower rate, such as --learning_rate "
                    f"{self.learning_rate / 10:g}",
                )
            self.history.append({"training loss": learnt} | losses)
            if loss < self.best["loss"]:
                model = {name: value.cpu().clone() for name, value in self.model.state_dict().items()}
                self.best = {"loss": loss, "epoch": self.epoch, "losses": losses, "model": model}
            self._save(checkpoint, previous)

    def _train_epoch(self, progress: bool) -> float:
        """One epoch; the mean of its losses. All that is random in it follows from seed and epoch."""
        random = np.random.default_rng([self.settings.seed, self.epoch])
        rows = epoch_rows(self.encoder, self.reports, self.paragraphs, random)
        batches = batches_by_length(rows, self.settings.batch, random)
        name = f"epoch {self.epoch + 1} of {self.settings.epochs}"
        self.model.train()
        total = 0.0
        for number, batch in enumerate(track(batches, len(batches), name, "steps", show=progress)):
            done = (self.epoch + number / len(batches)) / self.settings.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * _schedule(done)
            nats, tokens = self._loss(batch)
            loss = nats / tokens
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            total += loss.item()
        self.steps += len(batches)
        self.epoch += 1
        return total / len(batches)

    def _loss(self, rows: Sequence[Row]) -> tuple[Tensor, int]:
        """Minus the log-probability, in nats, of the tokens that are not given; and their number."""
        ids, labels = self.encoder.batch(rows)
        predicted, labels = self.model(input_ids=ids.to(self.model.device)).logits[:, :-1], labels[:, 1:]
        nats = F.cross_entropy(
            predicted.flatten(0, 1).float(),
            labels.flatten().to(predicted.device),
            ignore_index=IGNORED,
            reduction="sum",
        )
        return nats, int((labels != IGNORED).sum())

    @torch.inference_mode()
    def _measure(self, rows: Sequence[Row]) -> float:
        """Mean loss in nats per token."""
        self.model.eval()
        rows = sorted(rows, key=lambda row: len(row.ids))
        batches = [self._loss(rows[start : start + _MEASURED]) for start in range(0, len(rows), _MEASURED)]
        return sum(float(nats) for nats, _ in batches) / sum(tokens for _, tokens in batches)

    def _save(self, checkpoint: Path, previous: Path) -> None:
        state = {
            "epoch": self.epoch,
            "steps": self.steps,
            "best": self.best,
            "history": self.history,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(checkpoint, previous, lambda path: torch.save(state, path))

    def _load(self, checkpoint: Path, state: Mapping[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise RadScribeError(
                f"'{checkpoint}' is of another training ({' '.join(str(error).split())[:100]})",
                "Restore it from a copy, or begin anew with another --out",
            ) from error
        self.epoch, self.steps = state["epoch"], state["steps"]
        self.best, self.history = state["best"], state["history"]

    def outcome(self) -> dict[str, Any]:
        """Facts of a training that is over."""
        tokens = sum(len(ids) + 1 for ids in self.validation)
        return {
            "parameters": self.model.num_parameters(),
            "vocabulary": self.model.config.vocab_size,
            "tokens": {
                "train": sum(len(ids) + 1 for ids in (*self.reports, *self.paragraphs)),
                "validation": tokens,
            },
            "steps": self.steps,
            "epochs": self.epoch,
            "best_epoch": self.best["epoch"],
            "validation": {
                form: _perplexities(loss * tokens, tokens, self.texts.validation)
                for form, loss in (
                    self.best["losses"]
                    | {"unigram": _unigram_loss(self.reports, self.validation, self.encoder)}
                ).items()
            },
            "history": self.history,
        }


def _schedule(done: float) -> float:
    """Share of the highest learning rate by the share of training that is done: a rise, then a cosine."""
    return min(1.0, 0.01 + done / 0.05) * (0.55 + 0.45 * math.cos(math.pi * done))


def _tokenizer_texts(texts: Texts) -> list[str]:
    """What the tokenizer learns from: all that the model trains on, the prompt among it."""
    return [*texts.reports, *texts.paragraphs, *REPORT_PROMPT * len(texts.reports)]


def _validation_forms(encoder: Encoder, reports: Sequence[list[int]], seed: int) -> dict[str, list[Row]]:
    """The reports as they are measured: bare, after the prompt, and after it with half of their tokens."""
    random = np.random.default_rng(seed)
    return {
        "bare": [row for ids in reports for row in encoder.bare(ids)],
        "prompted": [row for ids in reports for row in encoder.prompted(ids, [])],
        "cued": [row for ids in reports for row in encoder.prompted(ids, draw_cues(ids, 0.5, random))],
    }


def _unigram_loss(train: Sequence[list[int]], validation: Sequence[list[int]], encoder: Encoder) -> float:
    """Nats per token of a model that knows how often each token stands in reports, and nothing else."""
    counts = Counter(token for ids in train for token in (*ids, encoder.end))
    seen = [token for ids in validation for token in (*ids, encoder.end)]
    total = counts.total() + len(encoder.tokenizer)
    return -sum(math.log((counts[token] + 1) / total) for token in seen) / len(seen)


def _perplexities(nats: float, tokens: int, texts: Sequence[str]) -> dict[str, float]:
    """Perplexities of texts whose tokens, each end among them, have minus log-probability `nats` together.

    Tokens are those of one tokenizer; words and bytes are the same for all.
    """
    units = {
        "perplexity": tokens,
        "word_perplexity": sum(len(text.split()) for text in texts),
        "byte_perplexity": sum(len(text.encode("utf-8", "surrogatepass")) for text in texts),
    }
    return {"loss": nats / tokens} | {name: math.exp(nats / number) for name, number in units.items()}


def _facts(store: PreparedStore, texts: Texts, settings: Pretraining) -> dict[str, Any]:
    import transformers

    learnt = {*texts.reports, *texts.paragraphs}
    return {
        "radscribe": VERSION,
        "settings": asdict(settings),
        "store": str(store.path),
        "store_source": store.manifest["source"],
        "store_content_hash": store.manifest["content_hash"],
        "text_files": texts.files,
        "texts": {
            "train_reports": len(texts.reports),
            "train_reports_distinct": len(set(texts.reports)),
            "paragraphs": len(texts.paragraphs),
            "validation_reports": len(texts.validation),
            "validation_reports_seen_in_training": sum(text in learnt for text in texts.validation),
        },
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "finished": False,
    }


def _write_facts(out: Path, facts: Mapping[str, Any]) -> None:
    write_whole(out / FACTS, json.dumps(facts, indent=2) + "\n")


def _resumed(out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the training in `out`, if it is this one.

    Raises:
        RadScribeError: there is none, or it was begun with other settings or texts.
    """
    if not (out / FACTS).is_file():
        raise RadScribeError(
            f"there is no training to resume in '{out}'",
            "Leave out --resume to begin it, with an empty --out",
        )
    try:
        before = json.loads((out / FACTS).read_text(encoding="utf-8"))
        hashes = [[file["sha256"] for file in each["text_files"]] for each in (before, facts)]
        different = [
            f"{name} was {before['settings'][name]}, is {value}"
            for name, value in facts["settings"].items()
            if before["settings"][name] != value
        ]
        if before["store_content_hash"] != facts["store_content_hash"]:
            different.append(f"the store was {before['store']} with another content")
        before["finished"]
    except (ValueError, KeyError, TypeError) as error:
        raise RadScribeError(
            f"'{out / FACTS}' is damaged ({type(error).__name__}: {error})",
            "Restore it from a copy, or begin anew with another --out",
        ) from error
    if hashes[0] != hashes[1]:
        different.append("the text files are not the same")
    if different:
        raise RadScribeError(
            f"the training in '{out}' was begun otherwise: {'; '.join(different)}",
            "Resume it with what it was begun with, or begin anew with another --out",
        )
    return before
