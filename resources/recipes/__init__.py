"""Shipped files: recipes that the benchmark of the record runs."""
