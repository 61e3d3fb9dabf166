"""Pretrained models that systems start from; each is checked and loaded by itself."""
