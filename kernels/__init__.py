"""Kernels over RAW bytes: numba, each beside its obvious NumPy reference in `reference.py`.

Each runs without Python's lock. Those over frames take the rows to do (`rows`), and may be called from several threads
at once on rows of the same output that do not overlap; `layout.row_ranges` splits a frame for a pool.
"""
