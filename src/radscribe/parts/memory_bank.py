"""Memory banks: features of regions or of report texts, one row each, that Hopfield layers retrieve from.

Wang et al., AM-MRG, section III-C. The directory of a bank has these files:

bank.safetensors   raw features of the rows, and the projection to the width of the bank
rows.jsonl         for each row: study, observation, and the region or the text that it is of
part.json          where the bank came from, and the hashes of the two files above; see `Part`
pretraining.json   how the bank was made
MODEL_CARD.md      what it is, and what it must not be used for

The released code projects features of another width with a linear layer that is neither trained nor seeded
nor kept, so that no row can be added to its banks. Here the raw features stay, and the projection is kept.
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
        raw: Features of the rows as the encoder gave them, float32 `[rows, raw width]`.
        rows: What each row is of: `study`, `observation`, and further fields of its kind.
        weight: Weight of the projection `[width, raw width]`; None if the raw width is that of the bank.
        bias: Bias of the projection `[width]`; None as above.
    """

    raw: Tensor
    rows: Sequence[Mapping[str, Any]]
    weight: Tensor | None = None
    bias: Tensor | None = None

    @classmethod
    def make(cls, raw: Tensor, rows: Sequence[Mapping[str, Any]], width: int, seed: int) -> Self:
        """A bank of this width, with a random projection if the features have another.

        The projection is that of a fresh linear layer: uniform up to 1 / sqrt(raw width).

        Args:
            raw: Features of the rows `[rows, raw width]`.
            rows: What each row is of.
            width: Width of the bank.
            seed: Random seed of the projection.
        """
        raw = raw.float().cpu()
        if raw.size(1) == width:
            return cls(raw, rows)
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(raw.size(1))
        weight = torch.rand(width, raw.size(1), generator=generator) * 2 * bound - bound
        bias = torch.rand(width, generator=generator) * 2 * bound - bound
        return cls(raw, rows, weight, bias)

    @property
    def patterns(self) -> Tensor:
        """The rows as a Hopfield layer stores them, float32 `[rows, width]`, without normalisation."""
        return self.raw if self.weight is None else F.linear(self.raw, self.weight, self.bias)

    def save(self, path: Path) -> None:
        """Write the features and the rows; `part.json` must be written after them.

        Args:
            path: Directory of the bank.
        """
        tensors = {"raw": self.raw}
        if self.weight is not None and self.bias is not None:
            tensors |= {"projection.weight": self.weight, "projection.bias": self.bias}
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
            raw = tensors["raw"]
            weight, bias = (tensors.get(f"projection.{name}") for name in ("weight", "bias"))
            if raw.dim() != 2 or len(raw) != len(rows) or not raw.isfinite().all():
                raise ValueError(f"features of shape {tuple(raw.shape)} for {len(rows)} rows")
            if not {row["observation"] for row in rows} <= set(OBSERVATIONS):
                raise ValueError("a row is of an unknown observation")
            if weight is not None and (weight.size(1) != raw.size(1) or bias is None):
                raise ValueError("a projection that does not fit")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise RadScribeError(f"the bank in '{path}' is damaged ({error})", again) from error
        return cls(raw, rows, weight, bias)
