"""Compilers of NPUs' vendors, as a table and one runner for each kind."""
