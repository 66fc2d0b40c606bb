"""Results and frames as messages of ROS 2: plain dictionaries in the layout of the message definitions.

Arrays of bytes are NumPy arrays. `fill` puts a dictionary into a message of rclpy, and `edge_isp.ros.definitions`
serialises it without ROS.
"""

from __future__ import annotations

import array
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import SinkError
from edge_isp.frame import RawFrame
from edge_isp.kernels.unpack import unpack
from edge_isp.results import Detections, FrameResult, Picture

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
DETECTIONS = "vision_msgs/msg/Detection2DArray"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"

# DiagnosticStatus
OK, WARN, ERROR, STALE = 0, 1, 2, 3

_LARGEST_SECOND = 2**31 - 1
_JPEG_QUALITY = 90


def stamp(time_ns: int) -> dict[str, int]:
    """`builtin_interfaces/Time`.

    Args:
        time_ns: nanoseconds since 1970, or of ROS's own clock.

    Raises:
        SinkError: the time does not fit into a message.
    """
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    if not 0 <= seconds <= _LARGEST_SECOND:
        raise SinkError(f"a stamp of ROS must be from 0 to {_LARGEST_SECOND} seconds, found {seconds}")
    return {"sec": seconds, "nanosec": nanoseconds}


def header(time_ns: int, frame_id: str) -> dict[str, Any]:
    """`std_msgs/Header`.

    Args:
        time_ns: start of exposure, on ROS's clock.
        frame_id: the camera's coordinate frame.
    """
    return {"stamp": stamp(time_ns), "frame_id": frame_id}


def image(picture: Picture, time_ns: int, frame_id: str) -> dict[str, Any]:
    """`sensor_msgs/Image` of the encoding rgb8.

    Args:
        picture: of a frame.
        time_ns: see `header`.
        frame_id: see `header`.
    """
    height, width, _ = picture.rgb.shape
    return _image(time_ns, frame_id, (height, width), "rgb8", 3 * width, np.ascontiguousarray(picture.rgb))


def bayer_image(frame: RawFrame, time_ns: int, frame_id: str) -> dict[str, Any]:
    """`sensor_msgs/Image` of a Bayer mosaic, as image_proc takes it: bayer_rggb8 for 8 bits, bayer_rggb16 for more (or
    the frame's other order), little-endian, with codes moved to the upper bits, so that white is white.

    Args:
        frame: of any packing.
        time_ns: see `header`.
        frame_id: see `header`.
    """
    layout = frame.format.layout
    codes = unpack(frame.data, layout)
    height, width = codes.shape
    bits = 8 if layout.bit_depth <= 8 else 16
    data = (codes << (bits - layout.bit_depth)).astype("<u1" if bits == 8 else "<u2")
    encoding = f"bayer_{frame.format.cfa.lower()}{bits}"
    return _image(time_ns, frame_id, (height, width), encoding, width * bits // 8, data)


def compressed_image(picture: Picture, time_ns: int, frame_id: str) -> dict[str, Any]:
    """`sensor_msgs/CompressedImage` as JPEG, with the words of compressed_image_transport for its format.

    Args:
        picture: of a frame.
        time_ns: see `header`.
        frame_id: see `header`.
    """
    return {
        "header": header(time_ns, frame_id),
        "format": "rgb8; jpeg compressed bgr8",
        "data": np.frombuffer(picture.jpeg(_JPEG_QUALITY), np.uint8),
    }


def detections(found: Detections, time_ns: int, frame_id: str) -> dict[str, Any]:
    """`vision_msgs/Detection2DArray` (vision_msgs 4). A class's id is its name; an object's id its track.

    Args:
        found: in a frame.
        time_ns: see `header`.
        frame_id: see `header`.
    """
    stamp(time_ns)  # is it one?
    return found.to_vision_msgs(frame_id, stamp_ns=time_ns)


def diagnostics(
    time_ns: int, name: str, hardware_id: str, level: int, message: str, values: Mapping[str, object]
) -> dict[str, Any]:
    """`diagnostic_msgs/DiagnosticArray` with one status.

    Args:
        time_ns: when it was found, on ROS's clock.
        name: of what it is about.
        hardware_id: of the device.
        level: `OK`, `WARN`, `ERROR` or `STALE`.
        message: in words.
        values: figures by name.
    """
    status = {
        "level": level,
        "name": name,
        "message": message,
        "hardware_id": hardware_id,
        "values": [{"key": key, "value": str(value)} for key, value in values.items()],
    }
    return {"header": header(time_ns, ""), "status": [status]}


def result_message(result: FrameResult, frame_id: str, *, compressed: bool) -> tuple[str, dict[str, Any]]:
    """Type and message of a result: a picture, or detections.

    Args:
        result: stamped on ROS's clock (`StreamOptions.wall_clock`), or on CLOCK_REALTIME.
        frame_id: see `header`.
        compressed: whether a picture is JPEG.
    """
    time_ns = result.timestamp_realtime_ns
    if isinstance(result.result, Detections):
        return DETECTIONS, detections(result.result, time_ns, frame_id)
    if compressed:
        return COMPRESSED, compressed_image(result.result, time_ns, frame_id)
    return IMAGE, image(result.result, time_ns, frame_id)


def fill(message: Any, content: Mapping[str, Any]) -> Any:
    """Puts a dictionary into a message of rclpy.

    Args:
        message: a new message of a generated class.
        content: its fields.

    Returns:
        The message.
    """
    types: dict[str, str] = message.get_fields_and_field_types()
    for name, value in content.items():
        if isinstance(value, Mapping):
            fill(getattr(message, name), value)
        elif isinstance(value, np.ndarray):
            # rclpy takes an array of the right type as it is, and checks every element of anything else.
            setattr(message, name, array.array("B", value.tobytes()))
        elif types[name] == "octet":
            setattr(message, name, bytes([value]))
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            make = _class_of(types[name])
            setattr(message, name, [fill(make(), element) for element in value])
        else:
            setattr(message, name, value)
    return message


def message_class(msgtype: str) -> Any:
    """The generated class of a type such as "sensor_msgs/msg/Image"; needs a ROS installation.

    Args:
        msgtype: of the message.
    """
    package, kind, name = msgtype.split("/")
    return getattr(import_module(f"{package}.{kind}"), name)


def _class_of(field_type: str) -> Any:
    """The class of a sequence's elements: "sequence<vision_msgs/Detection2D>"."""
    match = re.fullmatch(r"sequence<(\w+)/(\w+)(?:, \d+)?>", field_type)
    assert match is not None, field_type
    return message_class(f"{match[1]}/msg/{match[2]}")


def _image(
    time_ns: int, frame_id: str, size: tuple[int, int], encoding: str, step: int, data: NDArray[Any]
) -> dict[str, Any]:
    height, width = size
    return {
        "header": header(time_ns, frame_id),
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": step,
        "data": data.reshape(-1).view(np.uint8),
    }
