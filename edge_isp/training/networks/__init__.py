"""The networks of edge_isp, as PyTorch modules."""
