"""What the window and the command line tell of methods."""
