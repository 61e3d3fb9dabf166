"""Bad inputs to `prepare` and `check` on stores: sources, images, tables and stores."""

from __future__ import annotations

from bad_inputs.rows import Row

ROWS: list[Row] = []
