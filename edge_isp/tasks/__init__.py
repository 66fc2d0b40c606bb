"""What a model is used for: frame to input tensor, output tensors to result."""
