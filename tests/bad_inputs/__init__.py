"""The table of bad inputs, one module per area; `tests/test_bad_inputs.py` runs every row."""
