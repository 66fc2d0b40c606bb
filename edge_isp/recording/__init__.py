"""Recordings: MCAP and DNG files, written and read."""
