"""Quality and speed of pictures."""
