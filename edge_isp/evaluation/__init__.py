"""Quality and speed of models, of weights in PyTorch, and of the methods that they are compared with.

PyTorch is needed for weights alone, never for a shipped model.
"""
