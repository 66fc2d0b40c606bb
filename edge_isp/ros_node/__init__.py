"""The camera as a node of ROS 2. Needs a ROS installation: rclpy is not on PyPI."""
