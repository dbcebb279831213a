"""One file per thing that can be looked at in a network."""
