"""One file per format that can be opened; opening never runs code of the file."""
