"""The PyTorch wing: networks, data, training, quantisation, export. Needs the extra `[train]`."""
