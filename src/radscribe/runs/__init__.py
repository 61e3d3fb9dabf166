"""A trained run: its directory, how it drafts, explains and is scored."""
