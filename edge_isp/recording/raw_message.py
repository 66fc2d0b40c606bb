"""A RAW frame as one message of a recording: a Protocol Buffers message, see docs/raw_frame.proto.

The sensor's bytes are the message's last field, so that they are written without a copy; the picture of the board's
own ISP stands before them. Every other field is as the camera gave it, values that count as absent (see
`edge_isp.frame_check`) included.
"""

from __future__ import annotations

import json
import math
import operator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.corrections import Origins
from edge_isp.errors import FormatError, MissingDependencyError
from edge_isp.frame import FrameStatus, Packing, RawFormat, RawFrame, RecordedFrame
from edge_isp.kernels.layout import Flips, row_bytes
from edge_isp.kernels.squeeze import can_squeeze
from edge_isp.kernels.unpack import unpack
from edge_isp.sensor_window import SensorWindow

MESSAGE = "edge_isp.RawFrame"
_WINDOW = "edge_isp.SensorWindow"

# Name, number, type, and whether it is "", "optional" or "repeated".
FIELDS = (
    ("source", 1, "string", ""),
    ("sequence", 2, "int64", ""),
    ("timestamp_ns", 3, "int64", ""),
    ("width", 4, "uint32", ""),
    ("height", 5, "uint32", ""),
    ("stride", 6, "uint32", ""),
    ("cfa", 7, "string", ""),
    ("bit_depth", 8, "uint32", ""),
    ("packing", 9, "string", ""),
    ("black_level", 10, "double", "repeated"),
    ("white_level", 11, "double", ""),
    ("sensor", 12, "string", "optional"),
    ("exposure_ns", 13, "int64", "optional"),
    ("data", 15, "bytes", ""),
    ("unusual_exposure_ns", 16, "double", "optional"),
    ("analogue_gain", 17, "double", "optional"),
    ("digital_gain", 18, "double", "optional"),
    ("colour_gains", 19, "double", "repeated"),
    ("colour_temperature_k", 20, "double", "optional"),
    ("colour_matrix", 21, "double", "repeated"),
    ("window", 22, _WINDOW, "optional"),
    ("lens_shading", 23, "bool", ""),
    ("orientation", 24, "int64", ""),
    ("noise_profile", 25, "double", "repeated"),
    ("baseline_exposure_ev", 26, "double", "optional"),
    ("status", 27, "uint32", ""),
    ("auto_brightness", 28, "double", ""),
    ("origins", 29, "string", ""),
    ("stored_packing", 30, "string", "optional"),
    ("metadata", 31, "string", ""),
    ("isp_width", 32, "uint32", ""),
    ("isp_height", 33, "uint32", ""),
    ("isp_picture", 34, "bytes", "optional"),
    ("taken_at", 35, "string", "optional"),
)
WINDOW_FIELDS = (
    ("left", 1, "uint32", ""),
    ("top", 2, "uint32", ""),
    ("width", 3, "uint32", ""),
    ("height", 4, "uint32", ""),
    ("sensor_width", 5, "uint32", "optional"),
    ("sensor_height", 6, "uint32", "optional"),
    ("flipped_vertically", 7, "bool", "optional"),
    ("flipped_horizontally", 8, "bool", "optional"),
)

_DATA_NUMBER, _PICTURE_NUMBER, _LENGTH_DELIMITED = 15, 34, 2
# Times beyond these are none: the recorder writes the nearest one that fits.
_UTC_ZERO, _LATEST_NS = datetime(1970, 1, 1, tzinfo=UTC), 2**63 - 1
_REALS = ("analogue_gain", "digital_gain", "colour_temperature_k", "baseline_exposure_ev")
_LISTS = ("colour_gains", "colour_matrix", "noise_profile")


def raw_schema() -> bytes:
    """The schema of the message, a serialised FileDescriptorSet, as MCAP's encoding "protobuf" wants it.

    Raises:
        MissingDependencyError: protobuf is not installed.
    """
    schema: bytes = _types()[0]
    return schema


def encode_metadata(frame: RawFrame, stored_bytes: int, stored_packing: str | None = None) -> bytes:
    """The message up to the sensor's bytes, which follow.

    Args:
        frame: with data of `format.frame_bytes` bytes.
        stored_bytes: how many follow.
        stored_packing: how the codes lie in them, where that is not the frame's own packing: rows without padding.

    Raises:
        FormatError: a value is of a type that no message holds.
    """
    layout, message = frame.format, _types()[1]()
    try:
        message.source, message.sequence = frame.source, operator.index(frame.sequence)
        message.timestamp_ns = operator.index(frame.timestamp_ns)
        message.width, message.height, message.stride = layout.width, layout.height, layout.stride
        message.cfa, message.bit_depth, message.packing = str(layout.cfa), layout.bit_depth, str(layout.packing)
        message.black_level.extend(frame.black_level)
        message.white_level = frame.white_level
        if frame.sensor is not None:
            message.sensor = frame.sensor
        _set_exposure(message, frame.exposure_ns)
        for name in _REALS:
            if getattr(frame, name) is not None:
                setattr(message, name, float(getattr(frame, name)))
        for name in _LISTS:
            getattr(message, name).extend(getattr(frame, name) or ())
        if frame.window is not None:
            _set_window(message.window, frame.window)
        message.lens_shading, message.orientation = frame.lens_shading, frame.orientation
        message.status, message.auto_brightness = frame.status.value, frame.auto_brightness
        if stored_packing is not None:
            message.stored_packing = stored_packing
        message.origins = json.dumps([frame.origins.source, dict(frame.origins.others)])
        if frame.metadata:
            message.metadata = json.dumps(dict(frame.metadata), default=_plain)
        if isinstance(frame, RecordedFrame):
            message.taken_at = "" if frame.taken_at is None else frame.taken_at.isoformat()
        if frame.isp_picture is not None:
            message.isp_height, message.isp_width, _ = frame.isp_picture.shape
        content: bytes = message.SerializeToString()
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise FormatError(
            f"{frame.source}: frame {frame.sequence} cannot be recorded: {type(error).__name__}: {error}"
        ) from error
    data = _head(_DATA_NUMBER, stored_bytes)
    if frame.isp_picture is None:
        return content + data
    picture = np.ascontiguousarray(frame.isp_picture).data.cast("B")
    return b"".join((content, _head(_PICTURE_NUMBER, picture.nbytes), picture, data))


def decode_frame(content: bytes | memoryview, published_ns: int, where: str) -> RecordedFrame:
    """A message's frame, with data of its own.

    Args:
        content: of the message.
        published_ns: time that the message is of, nanoseconds of UTC.
        where: it was found, for errors.

    Raises:
        FormatError: it is no such message, or what it says contradicts itself.
        MissingDependencyError: protobuf is not installed.
    """
    from google.protobuf.message import DecodeError

    message = _types()[1]()
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise FormatError(f"{where}: not a message {MESSAGE}: {error}") from error
    try:
        layout = RawFormat(
            message.width, message.height, message.cfa, message.bit_depth, message.packing, message.stride
        )
        window = _window(message.window) if message.HasField("window") else None
        status, origins = FrameStatus(message.status), _origins(message.origins)
        metadata, taken_at = _metadata(message.metadata), _taken_at(message, published_ns)
    except (FormatError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{where}: {str(error)[:300]}") from error
    data = _data(message, layout, where)
    isp_picture = _isp_picture(message, where) if message.HasField("isp_picture") else None
    if len(message.black_level) != 4:
        raise FormatError(f"{where}: expected 4 black levels, found {len(message.black_level)}")
    red, green_red, green_blue, blue = message.black_level
    optional: dict[str, Any] = {n: getattr(message, n) if message.HasField(n) else None for n in _REALS}
    optional |= {name: tuple(getattr(message, name)) or None for name in _LISTS}
    return RecordedFrame(
        data=data,
        format=layout,
        source=message.source,
        sequence=message.sequence,
        timestamp_ns=message.timestamp_ns,
        black_level=(red, green_red, green_blue, blue),
        white_level=message.white_level,
        sensor=message.sensor if message.HasField("sensor") else None,
        exposure_ns=_exposure(message),
        window=window,
        lens_shading=message.lens_shading,
        orientation=message.orientation,
        isp_picture=isp_picture,
        metadata=metadata,
        status=status,
        auto_brightness=message.auto_brightness,
        origins=origins,
        taken_at=taken_at,
        **optional,
    )


def _data(message: Any, layout: RawFormat, where: str) -> NDArray[np.uint8]:
    """The sensor's bytes as they were, (height, stride)."""
    stored, size = message.data, layout.frame_bytes
    squeezed = message.HasField("stored_packing")
    if squeezed:
        if message.stored_packing != "csi2p" or not can_squeeze(layout.layout):
            raise FormatError(f"{where}: {layout} cannot be stored as '{message.stored_packing[:20]}'")
        size = row_bytes("csi2p", layout.bit_depth, layout.width) * layout.height
    if len(stored) != size:
        raise FormatError(f"{where}: expected {size} bytes of data, found {len(stored)}")
    if not squeezed:
        return np.frombuffer(bytearray(stored), np.uint8).reshape(layout.height, layout.stride)
    rows = np.frombuffer(stored, np.uint8).reshape(layout.height, -1)
    codes = unpack(rows, replace(layout.layout, packing="csi2p"))
    if layout.packing is Packing.U16_LEFT:
        codes <<= 16 - layout.bit_depth
    data = np.zeros((layout.height, layout.stride), np.uint8)
    data[:, : layout.row_bytes] = codes.astype("<u2", copy=False).view(np.uint8)
    return data


def _isp_picture(message: Any, where: str) -> NDArray[np.uint8]:
    """The picture of the board's own ISP, (height, width, 3)."""
    shape, found = (message.isp_height, message.isp_width, 3), message.isp_picture
    if len(found) != math.prod(shape):
        raise FormatError(f"{where}: expected a picture of {math.prod(shape)} bytes, found {len(found)}")
    return np.frombuffer(bytearray(found), np.uint8).reshape(shape)


def _taken_at(message: Any, published_ns: int) -> datetime | None:
    """The start of the exposure; raises ValueError where it is no time."""
    if message.HasField("taken_at"):
        return datetime.fromisoformat(message.taken_at) if message.taken_at else None
    if message.timestamp_ns <= 0 or not 0 < published_ns < _LATEST_NS:
        return None
    return _UTC_ZERO + timedelta(microseconds=published_ns // 1000)


def _metadata(text: str) -> dict[str, Any]:
    """What else the driver said; raises ValueError where it is no object of JSON."""
    found = json.loads(text) if text else {}
    if not isinstance(found, dict):
        raise ValueError(f"metadata must be an object of JSON, found {text[:80]}")
    return found


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"metadata must be numbers, texts and lists of them, found {type(value).__name__}")


def _origins(text: str) -> Origins:
    """The origins of a frame's values; raises ValueError where they are none."""
    source, others = json.loads(text)
    texts = [source, *others, *others.values()] if isinstance(others, dict) else [None]
    if not all(isinstance(each, str) for each in texts):
        raise ValueError(f"origins must be texts, found {text[:80]}")
    return Origins(source, others)


def _set_exposure(message: Any, exposure_ns: Any) -> None:
    if exposure_ns is None:
        return
    try:
        message.exposure_ns = operator.index(exposure_ns)
    except (TypeError, ValueError):  # a driver's NaN, or a number of more than 64 bits
        message.unusual_exposure_ns = float(exposure_ns)


def _exposure(message: Any) -> Any:
    if message.HasField("exposure_ns"):
        return message.exposure_ns
    return message.unusual_exposure_ns if message.HasField("unusual_exposure_ns") else None


def _set_window(message: Any, window: SensorWindow) -> None:
    message.left, message.top, message.width, message.height = window.left, window.top, window.width, window.height
    if window.sensor_size is not None:
        message.sensor_width, message.sensor_height = window.sensor_size
    if window.flips is not None:
        message.flipped_vertically, message.flipped_horizontally = window.flips


def _window(message: Any) -> SensorWindow:
    size = (message.sensor_width, message.sensor_height) if message.HasField("sensor_width") else None
    flips = None
    if message.HasField("flipped_vertically"):
        flips = Flips(message.flipped_vertically, message.flipped_horizontally)
    return SensorWindow(message.left, message.top, message.width, message.height, size, flips)


def _head(number: int, length: int) -> bytes:
    """What stands before a field of bytes."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(number: int) -> bytes:
    """A whole number as Protocol Buffers write it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@lru_cache(maxsize=1)
def _types() -> tuple[bytes, Any]:
    """The serialised FileDescriptorSet, and the class of the message."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ModuleNotFoundError as error:
        raise MissingDependencyError("recording and replaying MCAP files", "protobuf", "recording") from error
    file = descriptor_pb2.FileDescriptorProto(name="edge_isp/raw_frame.proto", package="edge_isp", syntax="proto3")
    for name, fields in ((_WINDOW, WINDOW_FIELDS), (MESSAGE, FIELDS)):
        described = file.message_type.add(name=name.rpartition(".")[2])
        for field in fields:
            _add_field(described, *field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(MESSAGE))
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString(), message


def _add_field(described: Any, name: str, number: int, kind: str, label: str) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    field = described.field.add(name=name, number=number, json_name=_json_name(name))
    field.label = Field.LABEL_REPEATED if label == "repeated" else Field.LABEL_OPTIONAL
    if "." in kind:
        field.type, field.type_name = Field.TYPE_MESSAGE, f".{kind}"
    else:
        field.type = getattr(Field, f"TYPE_{kind.upper()}")
    if label == "optional":
        field.proto3_optional = True
        field.oneof_index = len(described.oneof_decl)
        described.oneof_decl.add(name=f"_{name}")


def _json_name(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
