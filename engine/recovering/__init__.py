"""Training that gives accuracy back to a compressed network."""
