"""Models: a file and a card that says everything about its numbers."""
