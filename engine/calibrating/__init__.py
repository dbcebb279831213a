"""Measures on samples of the task what methods ask of the data: see `evidence`."""
