"""Text rules of each protocol, and vocabularies."""
