"""Exports: each writes the studies of a prepared store in a form that other programs read."""
