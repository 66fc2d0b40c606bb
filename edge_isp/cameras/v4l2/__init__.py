"""Cameras through Video4Linux2."""
