"""Training of networks that turn RAW into pictures."""
