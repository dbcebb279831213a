"""Shipped files: templates."""
