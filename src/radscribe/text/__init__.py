"""Texts: cleaning rules, protocols, vocabularies, tokenizers, and the observation labeller."""
