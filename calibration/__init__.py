"""What is known of a sensor, how it is measured, and the forward model that simulates it."""
