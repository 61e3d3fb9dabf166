"""Audits of prepared stores: leaks between splits, what each split has, and odd reports."""
