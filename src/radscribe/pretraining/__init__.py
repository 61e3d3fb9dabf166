"""What systems start from, made from a prepared store."""
