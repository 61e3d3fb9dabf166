"""HTML pages and pictures that show scores, curves, drafts, and where a system looked."""
