"""Importing released checkpoints, and comparing systems with golden tensors of the released code."""
