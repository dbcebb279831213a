"""Shipped files: demo."""
