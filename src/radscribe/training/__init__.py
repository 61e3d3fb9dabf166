"""Turning a recipe into a trained run directory."""
