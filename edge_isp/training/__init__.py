"""Networks in PyTorch: simulated data, training, quantisation, export. Needs the extra `[train]`."""
