"""Training of a network before it is compressed: what will go is led to zero."""
