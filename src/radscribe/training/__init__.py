"""Training: it turns a recipe into a trained run directory."""
