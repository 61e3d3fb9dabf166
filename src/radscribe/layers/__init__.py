"""Blocks that systems are built from."""
