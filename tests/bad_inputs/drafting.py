"""Bad inputs to `generate`, `explain`, `page`, `embeddings` and `check` on runs."""

from __future__ import annotations

from bad_inputs.rows import Row

ROWS: list[Row] = []
