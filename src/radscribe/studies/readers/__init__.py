"""Readers: from one form of data each to studies."""
