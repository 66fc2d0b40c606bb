"""Kernels over RAW bytes, compiled by numba; `reference.py` holds a plain NumPy reference of each.

A kernel runs without Python's global interpreter lock. Kernels over frames take a `layout.RawLayout`, which says where
the pixels lie in the bytes, and the rows to do (`rows`). They may be called from several threads at once on rows of the
same output that do not overlap; `layout.row_ranges` splits a frame for a pool of threads.
"""
