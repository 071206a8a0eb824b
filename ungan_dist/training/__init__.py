"""Models, their training and their evaluation."""
