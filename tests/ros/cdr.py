"""CDR, written from its definition (OMG DDS-XTypes, PLAIN_CDR, little-endian), as the reference of the tests.

It knows nothing of rosbags, and takes the fields' types from texts of message definitions.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

# Of ROS 2's common interfaces (Humble), and vision_msgs 4.
DEFINITIONS: dict[str, str] = {
    "Time": "int32 sec; uint32 nanosec",
    "Header": "Time stamp; string frame_id",
    "Image": (
        "Header header; uint32 height; uint32 width; string encoding; uint8 is_bigendian; uint32 step; uint8[] data"
    ),
    "CompressedImage": "Header header; string format; uint8[] data",
    "RegionOfInterest": "uint32 x_offset; uint32 y_offset; uint32 height; uint32 width; bool do_rectify",
    "CameraInfo": (
        "Header header; uint32 height; uint32 width; string distortion_model; float64[] d; float64[9] k; float64[9] r; "
        "float64[12] p; uint32 binning_x; uint32 binning_y; RegionOfInterest roi"
    ),
    "KeyValue": "string key; string value",
    "DiagnosticStatus": "uint8 level; string name; string message; string hardware_id; KeyValue[] values",
    "DiagnosticArray": "Header header; DiagnosticStatus[] status",
    "Point": "float64 x; float64 y; float64 z",
    "Quaternion": "float64 x; float64 y; float64 z; float64 w",
    "Pose": "Point position; Quaternion orientation",
    "PoseWithCovariance": "Pose pose; float64[36] covariance",
    "Point2D": "float64 x; float64 y",
    "Pose2D": "Point2D position; float64 theta",
    "BoundingBox2D": "Pose2D center; float64 size_x; float64 size_y",
    "ObjectHypothesis": "string class_id; float64 score",
    "ObjectHypothesisWithPose": "ObjectHypothesis hypothesis; PoseWithCovariance pose",
    "Detection2D": "Header header; ObjectHypothesisWithPose[] results; BoundingBox2D bbox; string id",
    "Detection2DArray": "Header header; Detection2D[] detections",
}
_NUMBERS = {"int32": "i", "uint32": "I", "uint8": "B", "bool": "?", "float64": "d"}


def fields(name: str) -> list[tuple[str, str]]:
    """Types and names of a message's fields."""
    return [(kind, field) for kind, field in (part.split() for part in DEFINITIONS[name].split(";"))]


def encode(msgtype: str, message: Mapping[str, Any]) -> bytes:
    """A message with the header that says little-endian."""
    body = bytearray()
    _message(body, msgtype.split("/")[-1], message)
    return b"\x00\x01\x00\x00" + bytes(body)


def _message(body: bytearray, name: str, message: Mapping[str, Any]) -> None:
    assert set(message) == {field for _, field in fields(name)}, (name, set(message))
    for kind, field in fields(name):
        _value(body, kind, message[field])


def _value(body: bytearray, kind: str, value: Any) -> None:
    match = re.fullmatch(r"(\w+)\[(\d*)\]", kind)
    if match is not None:
        element, length = match[1], match[2]
        if length:
            assert len(value) == int(length)
        else:
            _value(body, "uint32", len(value))
        if element == "uint8" and isinstance(value, np.ndarray):
            body += value.tobytes()
        else:
            for item in value:
                _value(body, element, item)
    elif kind == "string":
        text = value.encode() + b"\0"
        _value(body, "uint32", len(text))
        body += text
    elif kind in _NUMBERS:
        size = struct.calcsize("<" + _NUMBERS[kind])
        body += bytes(-len(body) % size) + struct.pack("<" + _NUMBERS[kind], value)
    else:
        _message(body, kind, value)
