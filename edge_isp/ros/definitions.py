"""Definitions of messages, and their serialisation in CDR without ROS, by the package rosbags."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from edge_isp.errors import MissingDependencyError

# vision_msgs 4 (ROS 2 Humble and later), which rosbags does not bring.
_VISION_MSGS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}


@cache
def typestore() -> Any:
    """The definitions of all messages that edge_isp writes.

    Raises:
        MissingDependencyError: rosbags is not installed.
    """
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("rosbags"):
            raise
        raise MissingDependencyError("messages of ROS", "rosbags", "ros") from error
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, definition in _VISION_MSGS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def serialise(msgtype: str, message: Mapping[str, Any]) -> bytes:
    """A message in CDR, little-endian, with its header of four bytes, as rosbag2 and DDS have it.

    Args:
        msgtype: such as "sensor_msgs/msg/Image".
        message: its fields, see `edge_isp.ros.messages`.

    Raises:
        MissingDependencyError: rosbags is not installed.
    """
    return bytes(typestore().serialize_cdr(_made(msgtype, message), msgtype))


def _made(msgtype: str, content: Mapping[str, Any]) -> Any:
    """A message of rosbags."""
    from rosbags.interfaces import Nodetype

    store = typestore()
    values = {}
    for name, (kind, detail) in store.fielddefs[msgtype][1]:
        value = content[name]
        if kind is Nodetype.NAME:
            value = _made(detail, value)
        elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            (inner_kind, inner), _ = detail
            if inner_kind is Nodetype.NAME:
                value = [_made(inner, element) for element in value]
            elif inner[0] != "string":
                value = np.asarray(value, dtype=inner[0])
        values[name] = value
    return store.types[msgtype](**values)
