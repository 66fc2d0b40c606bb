"""Runs the node of ROS 2 until it is interrupted."""

from __future__ import annotations

from typing import Any

from edge_isp.errors import MissingDependencyError, PipelineError


def run_node(name: str, **parameters: Any) -> None:
    """Makes the node, configures and activates it, and spins until ROS shuts down.

    Args:
        name: of the node.
        **parameters: see `edge_isp.ros_node.node.PARAMETERS`.

    Raises:
        MissingDependencyError: there is no rclpy: ROS 2 is not installed, or its setup file was not sourced.
        PipelineError: the node cannot be configured or activated; it has logged why.
    """
    try:
        import rclpy
    except ModuleNotFoundError as error:
        raise MissingDependencyError("'edge-isp ros' (source the setup file of ROS 2)", "rclpy", "") from error
    from edge_isp.ros_node.node import CameraNode

    rclpy.init()
    try:
        node = CameraNode(name, **parameters)
        try:
            success = rclpy.lifecycle.TransitionCallbackReturn.SUCCESS
            for trigger in (node.trigger_configure, node.trigger_activate):
                if trigger() != success:
                    raise PipelineError(f"the node '{name}' cannot be started; see its messages")
            rclpy.spin(node)
        finally:
            node.trigger_shutdown()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
