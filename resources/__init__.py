"""Files that ship with Featherweight."""
