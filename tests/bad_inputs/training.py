"""Bad inputs to `train`, the trainings of parts, `bench` and `interop`."""

from __future__ import annotations

from bad_inputs.rows import Row

ROWS: list[Row] = []
