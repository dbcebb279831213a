"""Featherweight: make neural networks smaller and faster, and see where it hurts."""

__version__ = "0.1.0"
