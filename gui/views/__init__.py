"""What the window is made of; views never import each other, they meet in the document."""
