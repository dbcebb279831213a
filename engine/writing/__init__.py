"""One file per format that can be written; each write is checked and atomic."""
