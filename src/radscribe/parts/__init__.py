"""What systems start from, made beforehand: loaded strictly, and by itself."""
