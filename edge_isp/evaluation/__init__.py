"""How good pictures and detections are, and how fast."""
