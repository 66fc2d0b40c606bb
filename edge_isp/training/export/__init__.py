"""From a trained network to a file that a runtime loads."""
