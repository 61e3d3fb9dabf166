"""Backbones that turn views into visual tokens, and image transforms."""
