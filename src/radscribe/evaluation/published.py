"""Scores that papers published, as typed from their tables into `published_rows.json`, with what to know.

They are of other programs, other runs and often other text rules, so they stand beside our scores for
orientation, and are never tested against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from radscribe.files import parse_json
from radscribe.values import typed

#: Data sets on which published scores are known.
Benchmark = Literal["iu_xray", "mimic_cxr"]


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """The scores of one system in one table of a paper.

    Attributes:
        system: Name of the system, as in RadScribe's recipes.
        variant: Name of the ablation; empty for the whole system.
        paper: Paper that has the table.
        table: Number of the table in the paper.
        data: Data set that was scored.
        protocol: Text rules of the scores, as far as they are known.
        scores: Published scores by name. Scores named `CE` are clinical scores by another labeller.
        caveat: What to know before comparing the scores with others.
    """

    system: str
    variant: str
    paper: str
    table: str
    data: Benchmark
    protocol: str
    scores: Mapping[str, float]
    caveat: str

    @property
    def name(self) -> str:
        """The name of the system with its variant."""
        return f"{self.system} / {self.variant}" if self.variant else self.system


def published_rows(data: Benchmark) -> list[PublishedRow]:
    """The published rows of a data set, in the order of the file."""
    return [row for row in _rows() if row.data == data]


@cache
def _rows() -> tuple[PublishedRow, ...]:
    text = files("radscribe.evaluation").joinpath("published_rows.json").read_text(encoding="utf-8")
    return tuple(typed(row, PublishedRow) for row in parse_json(text))
