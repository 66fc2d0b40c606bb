"""Kernels over RAW bytes: numba, each beside its obvious NumPy reference in `reference.py`."""
