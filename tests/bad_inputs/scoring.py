"""Bad inputs to `evaluate`, `compare` and `label`."""

from __future__ import annotations

from bad_inputs.rows import Row

ROWS: list[Row] = []
