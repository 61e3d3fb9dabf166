"""Turning report texts into the batches that a language model learns from and is measured on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from radscribe.errors import RadScribeError, unknown_name
from radscribe.files import read_text
from radscribe.studies.store import PreparedStore
from radscribe.text.cleaning import CLEANERS
from radscribe.text.prompts import REPORT_PROMPT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

#: Label of tokens that the model reads but does not predict.
IGNORED = -100
#: Largest number of cues: most reports have fewer tokens, and prompt and report still fit into one window.
_MOST_CUES = 100


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts that a language model is made from; the test split is not used.

    Attributes:
        reports: Reports of the train split, as systems write them; one that occurs twice is learnt twice.
        paragraphs: Paragraphs of text files, cleaned as the reports are; each paragraph occurs once.
        validation: Reports of the validation split.
        files: Name and SHA-256 of each text file, the number of paragraphs taken from it, and the number left
            out because they had occurred before.
    """

    reports: list[str]
    paragraphs: list[str]
    validation: list[str]
    files: list[dict[str, Any]]

    @classmethod
    def read(cls, store: PreparedStore, section: str, cleaning: str, files: Iterable[Path]) -> Texts:
        """Read the train and validation splits of a store, and text files.

        A blank line ends a paragraph, and each paragraph is a text of its own.

        Args:
            store: The prepared store with the studies.
            section: Section of the reports to read.
            cleaning: Name of the cleaning rules in `CLEANERS`, for reports and for text files.
            files: Text files to read too.

        Raises:
            RadScribeError: unknown cleaning rules, a split without such a section, a text file that cannot be
                read or has no text.
        """
        if cleaning not in CLEANERS:
            raise unknown_name("text cleaning", cleaning, CLEANERS)
        reports, validation = (_reports(store, split, section, cleaning) for split in ("train", "val"))
        paragraphs: dict[str, None] = {}
        read = []
        for file in files:
            text = read_text(file)
            found = [
                _cleaned(paragraph, cleaning) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()
            ]
            if not found:
                raise RadScribeError(f"there is no text in {file}")
            before = len(paragraphs)
            paragraphs |= dict.fromkeys(found)
            taken = len(paragraphs) - before
            read.append(
                {
                    "file": str(file),
                    "sha256": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
                    "paragraphs": taken,
                    "repeated": len(found) - taken,
                }
            )
        return cls(reports, list(paragraphs), validation, read)

    def facts(self) -> dict[str, Any]:
        """The text files with their hashes, and the number of texts of each kind, ready for JSON."""
        learnt = {*self.reports, *self.paragraphs}
        return {
            "text_files": self.files,
            "texts": {
                "train_reports": len(self.reports),
                "train_reports_distinct": len(set(self.reports)),
                "paragraphs": len(self.paragraphs),
                "validation_reports": len(self.validation),
                "validation_reports_seen_in_training": sum(text in learnt for text in self.validation),
            },
        }


def _reports(store: PreparedStore, split: str, section: str, cleaning: str) -> list[str]:
    studies = store.studies(split)
    reports = [study.report(section) for study in studies]
    found = [_cleaned(report, cleaning) for report in reports if report.strip()]
    if not found:
        sections = sorted(
            {name for study in studies for name, text in study.sections.items() if text.strip()}
        )
        raise RadScribeError(
            f"no study of the {split} split has a section '{section}'",
            f"It has: {', '.join(sections)}. Choose one with --section"
            if sections
            else "Prepare a source that has reports in its train and val splits",
        )
    return found


def _cleaned(text: str, cleaning: str) -> str:
    cleaned = CLEANERS[cleaning](text)
    return text.strip() if cleaning == "none" else " ".join(cleaned.split())


class Row(NamedTuple):
    """One row of a batch.

    Attributes:
        ids: Ids of the tokens.
        given: Number of tokens at the start that the model reads but does not predict.
    """

    ids: list[int]
    given: int


class Encoder:
    """Turns texts into rows, in the forms that systems use.

    Args:
        tokenizer: The tokenizer, made by `train_tokenizer`.
        window: Largest number of tokens of a row.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, window: int):
        self.tokenizer = tokenizer
        self.window = window
        self.begin, self.end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
        self.pad = int(tokenizer.pad_token_id)
        self.prompt = self.encode(REPORT_PROMPT)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without begin and end."""
        return self.tokenizer(list(texts), add_special_tokens=False).input_ids if texts else []

    def bare(self, ids: list[int]) -> list[Row]:
        """The rows of a text with only `<s>` before it."""
        return self._rows([self.begin], ids)

    def prompted(self, ids: list[int], cues: Sequence[int]) -> list[Row]:
        """The rows of a report after the prompt, with `cues` at the place of the visual tokens."""
        before, after = self.prompt
        return self._rows([self.begin, *before, *cues, *after], ids)

    def _rows(self, given: list[int], ids: list[int]) -> list[Row]:
        """Split a text into windows, so that each of `ids` and the end are predicted exactly once."""
        whole = [*given, *ids, self.end]
        rows = [Row(whole[: self.window], len(given))]
        # Each further window begins with the last token of the window before, which is not predicted again.
        for start in range(self.window - 1, len(whole) - 1, self.window - 1):
            rows.append(Row(whole[start : start + self.window], 1))
        return rows

    def batch(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Make tensors of several rows.

        Returns:
            ids: Ids `[rows, tokens]`, padded at the end: no token of a causal model attends to the padding.
            labels: Labels `[rows, tokens]`: `IGNORED` for padding and for tokens that are not predicted.
        """
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        labels = torch.full((len(rows), longest), IGNORED)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            labels[number, row.given : len(row.ids)] = ids[number, row.given : len(row.ids)]
        return ids, labels


def draw_cues(ids: Sequence[int], share: float, random: np.random.Generator) -> list[int]:
    """A share of a report's tokens, in random order."""
    return random.permutation(ids)[: min(round(share * len(ids)), _MOST_CUES)].tolist()


def epoch_rows(
    encoder: Encoder,
    reports: Sequence[list[int]],
    paragraphs: Sequence[list[int]],
    random: np.random.Generator,
) -> list[Row]:
    """The rows of one epoch, in which every text occurs once.

    On average one report in four is bare; the others come after the prompt, most of them with cues.

    Args:
        encoder: Makes the rows.
        reports: Token ids of each report.
        paragraphs: Token ids of each paragraph.
        random: Decides the form of each report, and its cues.
    """
    rows = [row for ids in paragraphs for row in encoder.bare(ids)]
    for ids in reports:
        if random.random() < 0.25:
            rows += encoder.bare(ids)
        else:
            share = random.uniform(0.3, 1.0) if random.random() < 0.85 else 0.0
            rows += encoder.prompted(ids, draw_cues(ids, share, random))
    return rows


def batches_by_length(rows: Sequence[Row], size: int, random: np.random.Generator) -> list[list[Row]]:
    """Batches in random order; the rows of a batch have similar lengths, and so need little padding."""
    shuffled = [rows[number] for number in random.permutation(len(rows))]
    shuffled.sort(key=lambda row: len(row.ids))
    batches = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    return [batches[number] for number in random.permutation(len(batches))]
