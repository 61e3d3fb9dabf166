"""Bad inputs to the command line itself: commands, options, fields, and the lists."""

from __future__ import annotations

from bad_inputs.rows import Row

ROWS: list[Row] = [
    Row("a command that is not there", "trian", "Did you mean 'train'"),
    Row("a recipe that is not there", "recipes x", "unknown recipe 'x'"),
]
