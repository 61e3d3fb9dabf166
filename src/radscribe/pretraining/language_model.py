"""The language model: a tokenizer and a small Llama, trained on the reports of a prepared store.

Systems with a frozen language model can use it if no other can be downloaded. It writes reports and nothing
else, but it trains in minutes on a CPU. The training writes these files:

model.safetensors, config.json, generation_config.json   the model with the best validation loss
tokenizer.json, tokenizer_config.json                    its tokenizer
pretraining.json                                         where it came from, how it was trained, perplexities
MODEL_CARD.md                                            what it is, and what it must not be used for

A frozen model can follow an image only if it attends to the place of the image in the prompt. A model that
has read only reports has not learnt this. So most reports are learnt after R2GenGPT's prompt, with cues
between `<Img>` and `</Img>`: some of the report's own tokens, in random order. The training uses no image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radscribe.errors import RadScribeError, unknown_name
from radscribe.pretraining import language_model_card
from radscribe.pretraining.language_model_documents import (
    IGNORED,
    Encoder,
    Row,
    Texts,
    batches_by_length,
    draw_cues,
    epoch_rows,
)
from radscribe.pretraining.loop import Task
from radscribe.pretraining.settings import LanguageModelSettings
from radscribe.ranges import COUNT, check_options
from radscribe.studies.store import PreparedStore
from radscribe.text.byte_level_tokenizer import SMALLEST_VOCABULARY, train_tokenizer
from radscribe.text.prompts import REPORT_PROMPT
from radscribe.weights import without_bars

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

#: Number of positions of the model. Training rows are half as long, which leaves room for visual tokens.
POSITIONS = 1024
_WINDOW = POSITIONS // 2
_TOKENIZER = "tokenizer.json"
#: Number of rows that are measured together.
_MEASURED = 32


@dataclass(frozen=True, slots=True)
class Preset:
    """The size of a model.

    Attributes:
        layers, width, feed_forward, heads: Sizes of the Llama.
        vocabulary_size: Largest number of entries of its tokenizer.
        learning_rate: Highest learning rate of its training.
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


def build_language_model(preset: Preset, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with random weights; its input and output embeddings share one matrix."""
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


class LanguageModelTask(Task):
    """Learn the reports of the train split, and keep the weights with the best loss on the val split.

    Args:
        store: A prepared store that has reports.
        settings: Size of the model, texts to learn, and training settings.

    Raises:
        RadScribeError: there is no such size, a number is out of its range, or texts are missing.
    """

    kind = "language-model"
    patience = 3

    def __init__(self, store: PreparedStore, settings: LanguageModelSettings):
        self.settings = settings
        if settings.size not in PRESETS:
            raise unknown_name("size", settings.size, PRESETS)
        self.preset = PRESETS[settings.size]
        self.vocabulary_size = self.preset.vocabulary_size
        if settings.vocabulary_size is not None:
            self.vocabulary_size = settings.vocabulary_size
        if self.vocabulary_size < SMALLEST_VOCABULARY:
            raise RadScribeError(
                f"--vocabulary_size {self.vocabulary_size} is too small",
                f"Bytes and special tokens alone are {SMALLEST_VOCABULARY}",
            )
        check_options({"--vocabulary_size": (self.vocabulary_size, COUNT)})
        self.highest_rate = settings.learning_rate or self.preset.learning_rate
        files = map(Path, settings.text or ())
        self.texts = Texts.read(store, settings.section, settings.cleaning, files)
        self.inputs = self.texts.facts()

    def build(self, out: Path, device: torch.device) -> None:
        """Make the model, and the tokenizer unless an interrupted training has made it; encode the texts.

        Raises:
            RadScribeError: the tokenizer in `out` is damaged.
        """
        if not (out / _TOKENIZER).is_file():
            train_tokenizer(_tokenizer_texts(self.texts), self.vocabulary_size).save_pretrained(out)
        tokenizer = _load_tokenizer(out)
        self.encoder = Encoder(tokenizer, _WINDOW)
        self.reports = self.encoder.encode(self.texts.reports)
        self.paragraphs = self.encoder.encode(self.texts.paragraphs)
        self.validation = self.encoder.encode(self.texts.validation)
        self.forms = _validation_forms(self.encoder, self.validation, self.settings.seed)
        with device:
            self.model = build_language_model(self.preset, tokenizer)
        matrices = [weight for weight in self.model.parameters() if weight.ndim > 1]
        vectors = [weight for weight in self.model.parameters() if weight.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
            lr=self.highest_rate,
            betas=(0.9, 0.95),
        )

    def batches(self, epoch: int) -> list[list[Row]]:
        """See `Task.batches`; every text is in the batches of an epoch once."""
        random = np.random.default_rng([self.settings.seed, epoch])
        rows = epoch_rows(self.encoder, self.reports, self.paragraphs, random)
        return batches_by_length(rows, self.settings.batch, random)

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """See `Task.rate`; the rate rises first, and then falls along half a cosine."""
        done = (epoch + step / steps) / self.settings.epochs
        return min(1.0, 0.01 + done / 0.05) * (0.55 + 0.45 * math.cos(math.pi * done))

    def loss(self, batch: Sequence[Row]) -> Tensor:
        """Negative log-probability, in nats, of the tokens to predict, averaged over these tokens."""
        nats, tokens = self._nats(batch)
        return nats / tokens

    def _nats(self, rows: Sequence[Row]) -> tuple[Tensor, int]:
        """Negative log-probability, in nats, of all tokens to predict together, and their number."""
        ids, labels = self.encoder.batch(rows)
        predicted, labels = self.model(input_ids=ids.to(self.model.device)).logits[:, :-1], labels[:, 1:]
        nats = F.cross_entropy(
            predicted.flatten(0, 1).float(),
            labels.flatten().to(predicted.device),
            ignore_index=IGNORED,
            reduction="sum",
        )
        return nats, int((labels != IGNORED).sum())

    def validate(self) -> dict[str, float]:
        """Mean loss of each form of the validation reports, in nats per token."""
        return {form: self._measure(rows) for form, rows in self.forms.items()}

    @torch.inference_mode()
    def _measure(self, rows: Sequence[Row]) -> float:
        rows = sorted(rows, key=lambda row: len(row.ids))
        batches = [self._nats(rows[start : start + _MEASURED]) for start in range(0, len(rows), _MEASURED)]
        return sum(float(nats) for nats, _ in batches) / sum(tokens for _, tokens in batches)

    def outcome(self, losses: Mapping[str, float]) -> dict[str, Any]:
        """Sizes, and perplexities of each form of the validation reports and of a unigram model."""
        tokens = sum(len(ids) + 1 for ids in self.validation)
        unigram = _unigram_loss(self.reports, self.validation, self.encoder)
        measured = {form: losses[form] for form in self.forms} | {"unigram": unigram}
        return {
            "parameters": self.model.num_parameters(),
            "vocabulary": self.model.config.vocab_size,
            "tokens": {
                "train": sum(len(ids) + 1 for ids in (*self.reports, *self.paragraphs)),
                "validation": tokens,
            },
            "validation": {
                form: _perplexities(loss * tokens, tokens, self.texts.validation)
                for form, loss in measured.items()
            },
        }

    def save(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Write the model; its tokenizer is in the directory already."""
        with without_bars():
            self.model.save_pretrained(out)

    section = staticmethod(language_model_card.section)
    summary = staticmethod(language_model_card.summary)


def _tokenizer_texts(texts: Texts) -> list[str]:
    """The texts that the tokenizer learns from: all training texts of the model, including the prompt."""
    return [*texts.reports, *texts.paragraphs, *REPORT_PROMPT * len(texts.reports)]


def _load_tokenizer(out: Path) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast.from_pretrained(out)
    except Exception as error:  # each damaged file fails in its own way
        raise RadScribeError(
            f"the tokenizer in '{out}' is damaged ({' '.join(str(error).split())[:100]})",
            "Restore tokenizer.json and tokenizer_config.json from a copy, or begin anew with another --out",
        ) from error


def _validation_forms(encoder: Encoder, reports: Sequence[list[int]], seed: int) -> dict[str, list[Row]]:
    """The forms of the reports to measure: bare, after the prompt, and with half of their tokens as cues."""
    random = np.random.default_rng(seed)
    return {
        "bare": [row for ids in reports for row in encoder.bare(ids)],
        "prompted": [row for ids in reports for row in encoder.prompted(ids, [])],
        "cued": [row for ids in reports for row in encoder.prompted(ids, draw_cues(ids, 0.5, random))],
    }


def _unigram_loss(train: Sequence[list[int]], validation: Sequence[list[int]], encoder: Encoder) -> float:
    """Loss in nats per token of a model that knows only how often each token occurs in reports."""
    counts = Counter(token for ids in train for token in (*ids, encoder.end))
    seen = [token for ids in validation for token in (*ids, encoder.end)]
    total = counts.total() + len(encoder.tokenizer)
    return -sum(math.log((counts[token] + 1) / total) for token in seen) / len(seen)


def _perplexities(nats: float, tokens: int, texts: Sequence[str]) -> dict[str, float]:
    """Perplexities of texts per token, per word and per byte.

    Tokens depend on the tokenizer; words and bytes are the same for every tokenizer.

    Args:
        nats: Negative log-probability, in nats, of all tokens of the texts together.
        tokens: Number of these tokens; the end of each text counts as a token.
        texts: The texts.
    """
    units = {
        "perplexity": tokens,
        "word_perplexity": sum(len(text.split()) for text in texts),
        "byte_perplexity": sum(len(text.encode("utf-8", "surrogatepass")) for text in texts),
    }
    return {"loss": nats / tokens} | {name: math.exp(nats / number) for name, number in units.items()}
