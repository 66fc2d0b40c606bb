"""What the Linux kernel defines for cameras: structures, request numbers and constants.

The layouts are those of `linux/videodev2.h`, `linux/media.h` and `linux/v4l2-subdev.h`. ctypes lays them out for the
machine that it runs on, 64 or 32 bits, and a request number holds its structure's size; so both follow from the fields.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_int32, c_int64, c_long, c_uint8, c_uint16, c_uint32, c_uint64, c_ulong, c_void_p
from typing import Final

_READ, _WRITE = 2, 1


def _request(direction: int, group: str, number: int, kind: type[ctypes.Structure] | type[c_int32]) -> int:
    """The number of a request, as `_IOC` of `asm-generic/ioctl.h` makes it."""
    return direction << 30 | ctypes.sizeof(kind) << 16 | ord(group) << 8 | number


class Capability(ctypes.Structure):
    """`struct v4l2_capability`."""

    _fields_ = (
        ("driver", c_char * 16),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class FormatDescription(ctypes.Structure):
    """`struct v4l2_fmtdesc`."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_char * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class PixelFormat(ctypes.Structure):
    """`struct v4l2_pix_format`."""

    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
    )


class PlaneFormat(ctypes.Structure):
    """`struct v4l2_plane_pix_format`."""

    _pack_ = 1
    _fields_ = (("sizeimage", c_uint32), ("bytesperline", c_uint32), ("reserved", c_uint16 * 6))


class MultiplanarFormat(ctypes.Structure):
    """`struct v4l2_pix_format_mplane`."""

    _pack_ = 1
    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("colorspace", c_uint32),
        ("plane_fmt", PlaneFormat * 8),
        ("num_planes", c_uint8),
        ("flags", c_uint8),
        ("ycbcr_enc", c_uint8),
        ("quantization", c_uint8),
        ("xfer_func", c_uint8),
        ("reserved", c_uint8 * 7),
    )


class _FormatUnion(ctypes.Union):
    # The kernel's union also holds a structure with a pointer, which sets its alignment.
    _fields_ = (
        ("pix", PixelFormat),
        ("pix_mp", MultiplanarFormat),
        ("raw_data", c_uint8 * 200),
        ("alignment", c_void_p),
    )


class Format(ctypes.Structure):
    """`struct v4l2_format`."""

    _fields_ = (("type", c_uint32), ("fmt", _FormatUnion))


class Fraction(ctypes.Structure):
    """`struct v4l2_fract`."""

    _fields_ = (("numerator", c_uint32), ("denominator", c_uint32))


class CaptureParameters(ctypes.Structure):
    """`struct v4l2_captureparm`."""

    _fields_ = (
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("timeperframe", Fraction),
        ("extendedmode", c_uint32),
        ("readbuffers", c_uint32),
        ("reserved", c_uint32 * 4),
    )


class _ParametersUnion(ctypes.Union):
    _fields_ = (("capture", CaptureParameters), ("raw_data", c_uint8 * 200))


class StreamParameters(ctypes.Structure):
    """`struct v4l2_streamparm`."""

    _fields_ = (("type", c_uint32), ("parm", _ParametersUnion))


class StepwiseSize(ctypes.Structure):
    """`struct v4l2_frmsize_stepwise`; a discrete size is its first two fields, as width and height."""

    _fields_ = (
        ("min_width", c_uint32),
        ("max_width", c_uint32),
        ("step_width", c_uint32),
        ("min_height", c_uint32),
        ("max_height", c_uint32),
        ("step_height", c_uint32),
    )


class FrameSize(ctypes.Structure):
    """`struct v4l2_frmsizeenum`."""

    _fields_ = (
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("type", c_uint32),
        ("stepwise", StepwiseSize),
        ("reserved", c_uint32 * 2),
    )


class FrameInterval(ctypes.Structure):
    """`struct v4l2_frmivalenum`; a discrete interval is `min`."""

    _fields_ = (
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("type", c_uint32),
        ("min", Fraction),
        ("max", Fraction),
        ("step", Fraction),
        ("reserved", c_uint32 * 2),
    )


class RequestBuffers(ctypes.Structure):
    """`struct v4l2_requestbuffers`."""

    _fields_ = (
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    )


class _PlaneMemory(ctypes.Union):
    _fields_ = (("mem_offset", c_uint32), ("userptr", c_ulong), ("fd", c_int32))


class Plane(ctypes.Structure):
    """`struct v4l2_plane`."""

    _fields_ = (
        ("bytesused", c_uint32),
        ("length", c_uint32),
        ("m", _PlaneMemory),
        ("data_offset", c_uint32),
        ("reserved", c_uint32 * 11),
    )


class Timeval(ctypes.Structure):
    """`struct timeval`."""

    _fields_ = (("tv_sec", c_long), ("tv_usec", c_long))


class Timecode(ctypes.Structure):
    """`struct v4l2_timecode`."""

    _fields_ = (
        ("type", c_uint32),
        ("flags", c_uint32),
        ("frames", c_uint8),
        ("seconds", c_uint8),
        ("minutes", c_uint8),
        ("hours", c_uint8),
        ("userbits", c_uint8 * 4),
    )


class _BufferMemory(ctypes.Union):
    _fields_ = (("offset", c_uint32), ("userptr", c_ulong), ("planes", c_void_p), ("fd", c_int32))


class Buffer(ctypes.Structure):
    """`struct v4l2_buffer`."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("timestamp", Timeval),
        ("timecode", Timecode),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _BufferMemory),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
    )


class ExportBuffer(ctypes.Structure):
    """`struct v4l2_exportbuffer`."""

    _fields_ = (
        ("type", c_uint32),
        ("index", c_uint32),
        ("plane", c_uint32),
        ("flags", c_uint32),
        ("fd", c_int32),
        ("reserved", c_uint32 * 11),
    )


class _ControlValue(ctypes.Union):
    _pack_ = 1
    _fields_ = (("value", c_int32), ("value64", c_int64), ("pointer", c_void_p))


class ExtendedControl(ctypes.Structure):
    """`struct v4l2_ext_control`."""

    _pack_ = 1
    _fields_ = (("id", c_uint32), ("size", c_uint32), ("reserved2", c_uint32), ("content", _ControlValue))


class ExtendedControls(ctypes.Structure):
    """`struct v4l2_ext_controls`."""

    _fields_ = (
        ("which", c_uint32),
        ("count", c_uint32),
        ("error_idx", c_uint32),
        ("request_fd", c_int32),
        ("reserved", c_uint32),
        ("controls", ctypes.POINTER(ExtendedControl)),
    )


class QueryControl(ctypes.Structure):
    """`struct v4l2_query_ext_ctrl`."""

    _fields_ = (
        ("id", c_uint32),
        ("type", c_uint32),
        ("name", c_char * 32),
        ("minimum", c_int64),
        ("maximum", c_int64),
        ("step", c_uint64),
        ("default_value", c_int64),
        ("flags", c_uint32),
        ("elem_size", c_uint32),
        ("elems", c_uint32),
        ("nr_of_dims", c_uint32),
        ("dims", c_uint32 * 4),
        ("reserved", c_uint32 * 32),
    )


class QueryMenu(ctypes.Structure):
    """`struct v4l2_querymenu`; an integer menu's value is `name`, read as a 64-bit integer."""

    _pack_ = 1
    _fields_ = (("id", c_uint32), ("index", c_uint32), ("name", c_uint8 * 32), ("reserved", c_uint32))


class MediaDeviceInfo(ctypes.Structure):
    """`struct media_device_info`."""

    _fields_ = (
        ("driver", c_char * 16),
        ("model", c_char * 32),
        ("serial", c_char * 40),
        ("bus_info", c_char * 32),
        ("media_version", c_uint32),
        ("hw_revision", c_uint32),
        ("driver_version", c_uint32),
        ("reserved", c_uint32 * 31),
    )


class MediaPadDescription(ctypes.Structure):
    """`struct media_pad_desc`."""

    _fields_ = (("entity", c_uint32), ("index", c_uint16), ("flags", c_uint32), ("reserved", c_uint32 * 2))


class MediaLinkDescription(ctypes.Structure):
    """`struct media_link_desc`."""

    _fields_ = (
        ("source", MediaPadDescription),
        ("sink", MediaPadDescription),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 2),
    )


class MediaEntity(ctypes.Structure):
    """`struct media_v2_entity`."""

    _pack_ = 1
    _fields_ = (
        ("id", c_uint32),
        ("name", c_char * 64),
        ("function", c_uint32),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 5),
    )


class MediaInterface(ctypes.Structure):
    """`struct media_v2_interface`; its union is that of a device node."""

    _pack_ = 1
    _fields_ = (
        ("id", c_uint32),
        ("intf_type", c_uint32),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 9),
        ("major", c_uint32),
        ("minor", c_uint32),
        ("raw", c_uint32 * 14),
    )


class MediaPad(ctypes.Structure):
    """`struct media_v2_pad`."""

    _pack_ = 1
    _fields_ = (
        ("id", c_uint32),
        ("entity_id", c_uint32),
        ("flags", c_uint32),
        ("index", c_uint32),
        ("reserved", c_uint32 * 4),
    )


class MediaLink(ctypes.Structure):
    """`struct media_v2_link`."""

    _pack_ = 1
    _fields_ = (
        ("id", c_uint32),
        ("source_id", c_uint32),
        ("sink_id", c_uint32),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 6),
    )


class MediaTopology(ctypes.Structure):
    """`struct media_v2_topology`."""

    _pack_ = 1
    _fields_ = (
        ("topology_version", c_uint64),
        ("num_entities", c_uint32),
        ("reserved1", c_uint32),
        ("ptr_entities", c_uint64),
        ("num_interfaces", c_uint32),
        ("reserved2", c_uint32),
        ("ptr_interfaces", c_uint64),
        ("num_pads", c_uint32),
        ("reserved3", c_uint32),
        ("ptr_pads", c_uint64),
        ("num_links", c_uint32),
        ("reserved4", c_uint32),
        ("ptr_links", c_uint64),
    )


class BusFormat(ctypes.Structure):
    """`struct v4l2_mbus_framefmt`."""

    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("code", c_uint32),
        ("field", c_uint32),
        ("colorspace", c_uint32),
        ("ycbcr_enc", c_uint16),
        ("quantization", c_uint16),
        ("xfer_func", c_uint16),
        ("flags", c_uint16),
        ("reserved", c_uint16 * 10),
    )


class SubdeviceFormat(ctypes.Structure):
    """`struct v4l2_subdev_format`."""

    _fields_ = (("which", c_uint32), ("pad", c_uint32), ("format", BusFormat), ("reserved", c_uint32 * 8))


class Rectangle(ctypes.Structure):
    """`struct v4l2_rect`."""

    _fields_ = (("left", c_int32), ("top", c_int32), ("width", c_uint32), ("height", c_uint32))


class Selection(ctypes.Structure):
    """`struct v4l2_selection`."""

    _fields_ = (
        ("type", c_uint32),
        ("target", c_uint32),
        ("flags", c_uint32),
        ("r", Rectangle),
        ("reserved", c_uint32 * 9),
    )


class SubdeviceSelection(ctypes.Structure):
    """`struct v4l2_subdev_selection`."""

    _fields_ = (
        ("which", c_uint32),
        ("pad", c_uint32),
        ("target", c_uint32),
        ("flags", c_uint32),
        ("r", Rectangle),
        ("reserved", c_uint32 * 8),
    )


# Requests, by the kernel's names.
VIDIOC_QUERYCAP: Final = _request(_READ, "V", 0, Capability)
VIDIOC_ENUM_FMT: Final = _request(_READ | _WRITE, "V", 2, FormatDescription)
VIDIOC_G_FMT: Final = _request(_READ | _WRITE, "V", 4, Format)
VIDIOC_S_FMT: Final = _request(_READ | _WRITE, "V", 5, Format)
VIDIOC_REQBUFS: Final = _request(_READ | _WRITE, "V", 8, RequestBuffers)
VIDIOC_QUERYBUF: Final = _request(_READ | _WRITE, "V", 9, Buffer)
VIDIOC_QBUF: Final = _request(_READ | _WRITE, "V", 15, Buffer)
VIDIOC_EXPBUF: Final = _request(_READ | _WRITE, "V", 16, ExportBuffer)
VIDIOC_DQBUF: Final = _request(_READ | _WRITE, "V", 17, Buffer)
VIDIOC_STREAMON: Final = _request(_WRITE, "V", 18, c_int32)
VIDIOC_STREAMOFF: Final = _request(_WRITE, "V", 19, c_int32)
VIDIOC_G_PARM: Final = _request(_READ | _WRITE, "V", 21, StreamParameters)
VIDIOC_S_PARM: Final = _request(_READ | _WRITE, "V", 22, StreamParameters)
VIDIOC_QUERYMENU: Final = _request(_READ | _WRITE, "V", 37, QueryMenu)
VIDIOC_G_EXT_CTRLS: Final = _request(_READ | _WRITE, "V", 71, ExtendedControls)
VIDIOC_S_EXT_CTRLS: Final = _request(_READ | _WRITE, "V", 72, ExtendedControls)
VIDIOC_ENUM_FRAMESIZES: Final = _request(_READ | _WRITE, "V", 74, FrameSize)
VIDIOC_ENUM_FRAMEINTERVALS: Final = _request(_READ | _WRITE, "V", 75, FrameInterval)
VIDIOC_QUERY_EXT_CTRL: Final = _request(_READ | _WRITE, "V", 103, QueryControl)
VIDIOC_SUBDEV_G_FMT: Final = _request(_READ | _WRITE, "V", 4, SubdeviceFormat)
VIDIOC_G_SELECTION: Final = _request(_READ | _WRITE, "V", 94, Selection)
VIDIOC_SUBDEV_G_SELECTION: Final = _request(_READ | _WRITE, "V", 61, SubdeviceSelection)
VIDIOC_SUBDEV_S_FMT: Final = _request(_READ | _WRITE, "V", 5, SubdeviceFormat)
MEDIA_IOC_DEVICE_INFO: Final = _request(_READ | _WRITE, "|", 0, MediaDeviceInfo)
MEDIA_IOC_SETUP_LINK: Final = _request(_READ | _WRITE, "|", 3, MediaLinkDescription)
MEDIA_IOC_G_TOPOLOGY: Final = _request(_READ | _WRITE, "|", 4, MediaTopology)

REQUEST_NAMES: Final = {
    number: name for name, number in globals().copy().items() if name.startswith(("VIDIOC_", "MEDIA_IOC_"))
}

CAP_VIDEO_CAPTURE: Final = 0x1
CAP_VIDEO_OUTPUT: Final = 0x2
CAP_VIDEO_CAPTURE_MPLANE: Final = 0x1000
CAP_STREAMING: Final = 0x04000000
CAP_IO_MC: Final = 0x20000000
CAP_DEVICE_CAPS: Final = 0x80000000

BUF_TYPE_VIDEO_CAPTURE: Final = 1
BUF_TYPE_VIDEO_OUTPUT: Final = 2
BUF_TYPE_VIDEO_CAPTURE_MPLANE: Final = 9
MEMORY_MMAP: Final = 1
FIELD_NONE: Final = 1
COLORSPACE_SRGB: Final = 8
YCBCR_ENC_601: Final = 1
QUANTIZATION_LIM_RANGE: Final = 2
XFER_FUNC_SRGB: Final = 2

BUF_FLAG_ERROR: Final = 0x40
BUF_FLAG_TIMESTAMP_MASK: Final = 0xE000
BUF_FLAG_TIMESTAMP_MONOTONIC: Final = 0x2000
BUF_FLAG_TSTAMP_SRC_MASK: Final = 0x70000
BUF_FLAG_TSTAMP_SRC_SOE: Final = 0x10000

CAP_TIMEPERFRAME: Final = 0x1000
FRMSIZE_TYPE_DISCRETE: Final = 1
FRMIVAL_TYPE_DISCRETE: Final = 1

CTRL_TYPE_INTEGER: Final = 1
CTRL_TYPE_BOOLEAN: Final = 2
CTRL_TYPE_MENU: Final = 3
CTRL_TYPE_BUTTON: Final = 4
CTRL_TYPE_INTEGER64: Final = 5
CTRL_TYPE_BITMASK: Final = 8
CTRL_TYPE_INTEGER_MENU: Final = 9
CTRL_FLAG_DISABLED: Final = 0x1
CTRL_FLAG_READ_ONLY: Final = 0x4
CTRL_FLAG_WRITE_ONLY: Final = 0x40
CTRL_FLAG_NEXT_CTRL: Final = 0x80000000

MEDIA_ENT_F_CAM_SENSOR: Final = 0x20001
MEDIA_INTF_T_V4L_VIDEO: Final = 0x200
MEDIA_INTF_T_V4L_SUBDEV: Final = 0x203
MEDIA_LNK_FL_ENABLED: Final = 0x1
MEDIA_LNK_FL_IMMUTABLE: Final = 0x2
MEDIA_LNK_FL_LINK_TYPE: Final = 0xF0000000
MEDIA_LNK_FL_INTERFACE_LINK: Final = 0x10000000
SUBDEV_FORMAT_ACTIVE: Final = 1
SEL_TGT_CROP: Final = 0x0
SEL_TGT_CROP_DEFAULT: Final = 0x1
