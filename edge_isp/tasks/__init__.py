"""Tasks: what models are used for, from a frame to the input tensor and from the output tensors to the result."""
