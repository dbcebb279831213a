"""One page for each method, in Markdown."""
