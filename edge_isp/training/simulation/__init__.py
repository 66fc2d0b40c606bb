"""Samples that networks learn from: simulated frames of photographs and of drawn patterns."""
