"""Shipped files: icons."""
