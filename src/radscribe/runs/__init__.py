"""Trained runs: their directories, and how they draft, explain and are scored."""
