"""Memory banks: features of regions or of report texts, one row each, that Hopfield layers retrieve from.

Wang et al., AM-MRG, section III-C. The directory of a bank has these files:

bank.safetensors   raw features of the rows, the projection to the width of the bank, and disease queries
rows.jsonl         for each row: observation, study, and the region or the text that it is of, if known
part.json          where the bank came from, and the hashes of the two files above; see `Part`
pretraining.json   how the bank was made
MODEL_CARD.md      what it is, and what it must not be used for

The released code projects features of another width with a linear layer that is neither trained nor seeded
nor kept, so that no row can be added to its banks. Here the raw features stay, and the projection is kept.
Its visual bank begins with the 14 disease queries of stage 1; that is a switch here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.files import read_json_lines, write_whole
from radscribe.observations import OBSERVATIONS
from radscribe.parts.part import Part, make_command
from radscribe.weights import save_weights

BankKind = Literal["visual-bank", "report-bank"]
FEATURES = "bank.safetensors"
ROWS = "rows.jsonl"
#: The files that a bank is loaded from.
FILES = (FEATURES, ROWS)


@dataclass(frozen=True, slots=True)
class MemoryBank:
    """A memory bank.

    Attributes:
        raw: Features as the encoder gave them, float32 `[rows without queries, raw width]`.
        rows: What each row is of, those of queries first: `observation`, mostly `study`, and further fields
            of its kind.
        weight: Weight of the projection `[width, raw width]`; None if the raw width is that of the bank.
        bias: Bias of the projection `[width]`; None as above.
        queries: Disease queries, float32 `[queries, width]`, which are the first rows; None without them.
    """

    raw: Tensor
    rows: Sequence[Mapping[str, Any]]
    weight: Tensor | None = None
    bias: Tensor | None = None
    queries: Tensor | None = None

    @classmethod
    def make(
        cls,
        raw: Tensor,
        rows: Sequence[Mapping[str, Any]],
        width: int,
        seed: int,
        queries: Tensor | None = None,
    ) -> Self:
        """A bank of this width, with a random projection if the features have another.

        The projection is that of a fresh linear layer: uniform up to 1 / sqrt(raw width).

        Args:
            raw: Features `[rows without queries, raw width]`.
            rows: What each row is of, those of queries first.
            width: Width of the bank.
            seed: Random seed of the projection.
            queries: Disease queries `[queries, width]` that are rows too.
        """
        raw = raw.float().cpu()
        if queries is not None:
            queries = queries.detach().float().cpu()
        if raw.size(1) == width:
            return cls(raw, rows, queries=queries)
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(raw.size(1))
        weight = torch.rand(width, raw.size(1), generator=generator) * 2 * bound - bound
        bias = torch.rand(width, generator=generator) * 2 * bound - bound
        return cls(raw, rows, weight, bias, queries)

    @property
    def width(self) -> int:
        """Width of the bank."""
        return self.raw.size(1) if self.weight is None else len(self.weight)

    @property
    def patterns(self) -> Tensor:
        """The rows as a Hopfield layer stores them, float32 `[rows, width]`, without normalisation."""
        projected = self.raw if self.weight is None else F.linear(self.raw, self.weight, self.bias)
        return projected if self.queries is None else torch.cat([self.queries, projected])

    def save(self, path: Path) -> None:
        """Write the features and the rows; `part.json` must be written after them.

        Args:
            path: Directory of the bank.
        """
        tensors = {"raw": self.raw}
        if self.weight is not None and self.bias is not None:
            tensors |= {"projection.weight": self.weight, "projection.bias": self.bias}
        if self.queries is not None:
            tensors["queries"] = self.queries
        save_weights(tensors, path / FEATURES)
        lines = [json.dumps(row, ensure_ascii=False) for row in self.rows]
        write_whole(path / ROWS, "\n".join(lines) + "\n")

    @classmethod
    def load(cls, path: Path | str, kind: BankKind) -> Self:
        """Load a bank from its directory.

        Args:
            path: Directory of the bank.
            kind: Kind that it must have.

        Raises:
            RadScribeError: there is no bank of this kind, or a file of it is missing, damaged, or not the one
                that was written.
        """
        assert kind in get_args(BankKind)
        path = Path(path)
        Part.read(path, kind, FILES)
        again = f"Take it from a copy, or make it again: {make_command(kind)}"
        rows = read_json_lines(path / ROWS, again)
        try:
            tensors = load_file(path / FEATURES)
            raw, queries = tensors["raw"], tensors.get("queries")
            weight, bias = (tensors.get(f"projection.{name}") for name in ("weight", "bias"))
            count = len(raw) + (0 if queries is None else len(queries))
            if raw.dim() != 2 or count != len(rows) or not raw.isfinite().all():
                raise ValueError(f"features of shape {tuple(raw.shape)} for {len(rows)} rows")
            if not {row["observation"] for row in rows} <= set(OBSERVATIONS):
                raise ValueError("a row is of an unknown observation")
            if weight is not None and (weight.size(1) != raw.size(1) or bias is None):
                raise ValueError("a projection that does not fit")
            width = raw.size(1) if weight is None else len(weight)
            if queries is not None and (queries.size(1) != width or not queries.isfinite().all()):
                raise ValueError("queries that do not fit")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise RadScribeError(f"the bank in '{path}' is damaged ({error})", again) from error
        return cls(raw, rows, weight, bias, queries)
