"""Making models that systems start from, from a prepared store."""
