"""The forms of exports. Nothing heavy is imported here, for the command line is quick."""

from __future__ import annotations

from typing import Literal, TypeAlias

#: Forms in which a store can be exported.
ExportForm: TypeAlias = Literal["r2gen", "csv", "jsonl", "rexrank", "hf"]
