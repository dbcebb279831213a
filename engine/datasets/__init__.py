"""One file per format of data: what a folder or a file holds, as samples and labels."""
