"""Kernels over RAW bytes: numba, each beside its obvious NumPy reference in `reference.py`.

Each takes the rows to do (`rows`), runs without Python's lock, and may be called from several threads at once on rows
of the same output that do not overlap; `layout.row_ranges` splits a frame for a pool.
"""
