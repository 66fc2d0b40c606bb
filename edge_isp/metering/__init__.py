"""Exposure and white balance from RAW statistics."""
