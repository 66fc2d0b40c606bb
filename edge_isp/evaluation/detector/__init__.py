"""Quality and speed of detections."""
