"""What is known of a sensor, and the forward model that simulates it."""
