"""Messages of ROS 2, without ROS: conversions, definitions and serialisation."""
