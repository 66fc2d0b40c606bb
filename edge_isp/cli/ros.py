"""`edge-isp ros`: the camera as a node of ROS 2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_isp.cli import options


def ros(
    camera: options.Camera = None,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="Name of a shipped model, or the path of a .tflite or .onnx.")
    ] = "raw-detector",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the node.")] = "edge_isp",
    frame_id: Annotated[
        str, typer.Option("--frame-id", metavar="NAME", help="Coordinate frame of the camera.")
    ] = "camera",
    qos: Annotated[
        str,
        typer.Option(
            "--qos", metavar="NAME", help="Quality of service of images and detections: sensor_data or reliable."
        ),
    ] = "sensor_data",
    camera_info: Annotated[
        Path | None,
        typer.Option(
            "--camera-info", metavar="FILE", help="Calibration of the camera, a YAML file of camera_info_manager."
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Publish the Bayer mosaic as image_raw, too.")] = False,
) -> None:
    """Publish detections or pictures as a node of ROS 2, which must be installed and sourced.

    The node is a lifecycle node that configures and activates itself. Every option is one of its parameters.
    """
    from edge_isp.ros_node.run import run_node

    run_node(
        name,
        camera=camera or "",
        model=model,
        frame_id=frame_id,
        qos=qos,
        camera_info=str(camera_info or ""),
        raw=raw,
    )
