"""From report texts to the batches that a language model learns from and is measured on."""

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

#: Label of tokens that are given and not predicted.
IGNORED = -100
#: Most cues: more than most reports have tokens, and few enough that prompt and report fit one window.
_MOST_CUES = 100


@dataclass(frozen=True, slots=True)
class Texts:
    """What a language model is made from. The test split is not in it.

    Attributes:
        reports: of the train split, as systems write them; what stands twice is learnt twice.
        paragraphs: of text files, cleaned likewise, each once.
        validation: reports of the validation split.
        files: of each text file its name, SHA-256, and how many paragraphs were taken and how many
            left out because they had been there already.
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
            store: has the studies.
            section: of the reports.
            cleaning: name of the cleaning rules in `CLEANERS`; for reports and text files alike.
            files: text files.

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
        """Of the text files their content, and how many texts of each kind there are, ready for JSON."""
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
    """What stands in one row of a batch.

    Attributes:
        ids: tokens.
        given: how many of them, from the first on, are given and not predicted.
    """

    ids: list[int]
    given: int


class Encoder:
    """Texts to rows, in the forms that systems use.

    Args:
        tokenizer: made by `train_tokenizer`.
        window: most tokens of a row.
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
        """A text after nothing but `<s>`."""
        return self._rows([self.begin], ids)

    def prompted(self, ids: list[int], cues: Sequence[int]) -> list[Row]:
        """A report after the prompt, with `cues` where a system has its visual tokens."""
        before, after = self.prompt
        return self._rows([self.begin, *before, *cues, *after], ids)

    def _rows(self, given: list[int], ids: list[int]) -> list[Row]:
        """Windows in which each of `ids`, and the end, is predicted exactly once."""
        whole = [*given, *ids, self.end]
        rows = [Row(whole[: self.window], len(given))]
        # A further window begins with the last token of the one before, from which its first is predicted.
        for start in range(self.window - 1, len(whole) - 1, self.window - 1):
            rows.append(Row(whole[start : start + self.window], 1))
        return rows

    def batch(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Rows side by side.

        Returns:
            ids: `[rows, tokens]`, padded at the end, where a causal model cannot look from any real token.
            labels: `[rows, tokens]`, `IGNORED` for what is given and for padding.
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
    """One epoch: every text once, one report in four bare and the others after the prompt, most with cues.

    Args:
        encoder: makes the rows.
        reports: ids of each.
        paragraphs: ids of each.
        random: decides form and cues.
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
    """Batches of rows of like length, which need little padding, in random order."""
    shuffled = [rows[number] for number in random.permutation(len(rows))]
    shuffled.sort(key=lambda row: len(row.ids))
    batches = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    return [batches[number] for number in random.permutation(len(batches))]
