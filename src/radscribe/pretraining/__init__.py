"""Pretraining: models that systems start from are made from a prepared store."""
