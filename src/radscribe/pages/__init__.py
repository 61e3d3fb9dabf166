"""Showing what a system did: scores, curves, and drafts beside images, lesions and reference reports."""
