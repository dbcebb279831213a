"""Layers trained one by one to give the outputs of the original."""
