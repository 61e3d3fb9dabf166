"""Reproducing the tables of a paper: grids of recipes and seeds, run in processes or as Ray tasks."""
