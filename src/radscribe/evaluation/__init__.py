"""Metrics, baselines, statistics and the protocols under which a score is computed."""
