"""The classes of the stand-in; see the package's docstring."""

import collections
import contextlib
import dataclasses
import os
import re
import threading
from enum import Enum
from typing import Any, ClassVar

StreamRole = Enum("StreamRole", "Raw StillCapture VideoRecording Viewfinder")
ControlType = Enum("ControlType", "Plain Rectangle Size")
Orientation = Enum(
    "Orientation",
    "Rotate0 Rotate0Mirror Rotate180 Rotate180Mirror Rotate90 Rotate90Mirror Rotate270 Rotate270Mirror",
)


class Transform:
    def __init__(self, other: Any = None, *, hflip: Any = 0, vflip: Any = 0, transpose: Any = 0) -> None:
        self.hflip = other.hflip if other else bool(hflip)
        self.vflip = other.vflip if other else bool(vflip)
        self.transpose = other.transpose if other else bool(transpose)

    def __str__(self) -> str:
        return f"Transform({self.hflip}, {self.vflip}, {self.transpose})"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transform) and vars(self) == vars(other)


class ColorSpace:
    YcbcrEncoding = Enum("YcbcrEncoding", "Null Rec601 Rec709")
    Range = Enum("Range", "Full Limited")
    primaries: Any
    transferFunction: Any

    def __init__(self, other: Any) -> None:
        self.__dict__.update(other if isinstance(other, dict) else vars(other))

    def __str__(self) -> str:
        return f"{self.primaries}/{self.transferFunction}"

    __hash__ = object.__hash__

    @classmethod
    def _make(cls, primaries: Any, transfer: Any) -> Any:
        return cls(
            {
                "primaries": primaries,
                "transferFunction": transfer,
                "ycbcrEncoding": cls.YcbcrEncoding.Rec601,
                "range": cls.Range.Full,
            }
        )

    Raw = classmethod(lambda cls: cls._make("raw", "linear"))
    Sycc = classmethod(lambda cls: cls._make("rec709", "srgb"))
    Smpte170m = classmethod(lambda cls: cls._make("smpte170m", "rec709"))
    Rec709 = classmethod(lambda cls: cls._make("rec709", "rec709"))


@dataclasses.dataclass(frozen=True)
class Size:
    width: int = 0
    height: int = 0

    def to_tuple(self) -> tuple[int, int]:
        return self.width, self.height


@dataclasses.dataclass(frozen=True)
class Rectangle:
    x: int
    y: int
    width: int
    height: int

    def to_tuple(self) -> tuple[int, int, int, int]:
        return self.x, self.y, self.width, self.height


@dataclasses.dataclass(frozen=True)
class PixelFormat:
    name: str

    def __str__(self) -> Any:
        return self.name


@dataclasses.dataclass(frozen=True)
class ControlId:
    name: str
    type: ControlType = ControlType.Plain
    size: int = 0  # of an array; ANY_SIZE where it may have any

    @property
    def isArray(self) -> bool:
        return self.size > 0


ANY_SIZE = 2**64 - 1


@dataclasses.dataclass
class ControlInfo:
    min: object
    max: object
    default: object
    values: tuple[int, ...] = ()


def _check_kinds(controls: dict[Any, Any]) -> None:
    """libcamera reads a control as its kind, an array or one value, and ends the process where it is the other."""
    for control, value in controls.items():
        is_array = isinstance(value, list | tuple)
        if is_array != (control.size > 0) or (is_array and control.size not in (len(value), ANY_SIZE)):
            raise RuntimeError(f"{control.name}: Assertion `isArray_' failed: the process has ended")


class _FrameStatus:
    """As pybind11 makes it of `FrameMetadata::Status`: libcamera has a fourth status, of frames while a Raspberry Pi's
    camera starts up, which its Python module does not name."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _FrameStatus) and self._value == other._value

    def __hash__(self) -> int:
        return self._value

    @property
    def name(self) -> str:
        return next((name for name, member in self.__members__.items() if member == self), "???")

    __members__: ClassVar[dict[str, Any]] = {}
    Success: Any
    Error: Any
    Cancelled: Any


for _number, _name in enumerate(("Success", "Error", "Cancelled")):
    _FrameStatus.__members__[_name] = _FrameStatus(_number)
    setattr(_FrameStatus, _name, _FrameStatus.__members__[_name])

STARTUP = 3  # FrameMetadata::Status::FrameStartup


class FrameMetadata:
    Status = _FrameStatus

    def __init__(self) -> None:
        self.status: Any = _FrameStatus.Success
        self.sequence, self.timestamp = 0, 0


class FrameBuffer:
    class Plane:
        """Keeps a duplicate of the file descriptor that it is given, as libcamera does."""

        def __init__(self) -> None:
            self.offset = self.length = 0
            self._fd = -1

        @property
        def fd(self) -> Any:
            return self._fd

        @fd.setter
        def fd(self, value: Any) -> None:
            self._fd = os.dup(value)

        def __del__(self) -> None:
            if self._fd >= 0:
                os.close(self._fd)

    def __init__(self, planes: Any) -> None:
        self.planes = planes
        self.metadata = FrameMetadata()


class FrameBufferAllocator:
    """Only there to be named: picamera2 makes its buffers itself."""


@dataclasses.dataclass
class SensorConfiguration:
    bit_depth: int = 0
    output_size: Size = dataclasses.field(default_factory=Size)


class Stream:
    configuration = None


class StreamFormats:
    def __init__(self, sizes: Any) -> None:
        self._sizes = sizes

    @property
    def pixel_formats(self) -> Any:
        return list(self._sizes)

    def sizes(self, pixel_format: Any) -> Any:
        return self._sizes[pixel_format]


class StreamConfiguration:
    def __init__(self, role: Any, camera: Any) -> None:
        self.role, self.stream = role, Stream()
        self.size, self.pixel_format = Size(640, 480), PixelFormat("XBGR8888")
        self.buffer_count, self.stride, self.frame_size = 4, 0, 0
        self.color_space = ColorSpace.Sycc()
        sizes = collections.defaultdict(list)
        for mode in camera.sensor.modes:
            suffix = "" if mode.bit_depth == 8 or camera.board == "simple" else "_CSI2P"
            sizes[PixelFormat(f"S{camera.sensor.cfa}{mode.bit_depth}{suffix}")].append(Size(mode.width, mode.height))
        self.formats = StreamFormats(dict(sizes))


class CameraConfiguration:
    Status = Enum("Status", "Valid Adjusted Invalid")

    def __init__(self, camera: Any, roles: Any) -> None:
        self._camera = camera
        self._streams = [StreamConfiguration(role, camera) for role in roles]
        self.sensor_config: Any = None
        self.orientation = Orientation.Rotate0

    def __iter__(self) -> Any:
        return iter(self._streams)

    def at(self, index: Any) -> Any:
        return self._streams[index]

    def validate(self) -> Any:
        if not self._camera.can_flip:
            self.orientation = Orientation.Rotate0
        for stream in self._streams:
            if stream.role is StreamRole.Raw:
                self._adjust_raw(stream)
            else:
                planar = stream.pixel_format.name == "YUV420"
                stream.stride = -(-stream.size.width * (1 if planar else 3) // 64) * 64
                stream.frame_size = stream.stride * stream.size.height * (3 if planar else 2) // 2
        return self.Status.Adjusted

    def _adjust_raw(self, stream: Any) -> None:
        """What the board makes of a RAW request (raspberrypi/libcamera: pipeline/rpi, vc4.cpp and pisp.cpp)."""
        camera, width = self._camera, self.sensor_config.output_size.width
        packed, cfa, bits = "_" in stream.pixel_format.name, camera.sensor.cfa, self.sensor_config.bit_depth
        if camera.sensor.cfa_follows_flips:
            cfa = _flipped(cfa, self.orientation)
        if camera.board == "simple":  # a driver that has the formats of its list and no others
            listed = [f"S{cfa}{mode.bit_depth}" for mode in camera.sensor.modes]
            name = stream.pixel_format.name if stream.pixel_format.name in listed else f"S{cfa}8"
            row, align = width if name.endswith("8") else 2 * width, 8
        elif camera.board == "pisp":
            name, row, align = (f"{cfa}_PISP_COMP1", width, 64) if packed else (f"S{cfa}16", 2 * width, 64)
        elif packed:
            name, row, align = f"S{cfa}{bits}_CSI2P", -(-width * bits // 8), 32
        else:
            name, row, align = f"S{cfa}{bits}", width if bits == 8 else 2 * width, 32
        if camera.sensor.mono:
            name = re.sub("^S?[RGB]{4}", "R", name)
        stream.pixel_format, stream.size = PixelFormat(name), self.sensor_config.output_size
        stream.stride = -(-row // align) * align + camera.extra_padding
        stream.frame_size = stream.stride * stream.size.height


def _flipped(cfa: str, orientation: Any) -> str:
    """The colour order of a sensor that is read out mirrored."""
    if orientation in (Orientation.Rotate0Mirror, Orientation.Rotate180):
        cfa = cfa[1] + cfa[0] + cfa[3] + cfa[2]
    if orientation in (Orientation.Rotate180Mirror, Orientation.Rotate180):
        cfa = cfa[2:] + cfa[:2]
    return cfa


class Request:
    Status = Enum("Status", "Pending Complete Cancelled")

    def __init__(self, camera: Any, cookie: Any) -> None:
        self._camera, self.cookie = camera, cookie
        self.buffers: dict[Any, Any] = {}
        self.metadata: dict[Any, Any] = {}
        self.controls: dict[Any, Any] = {}
        self.status = self.Status.Pending

    def add_buffer(self, stream: Any, buffer: Any) -> None:
        self.buffers[stream] = buffer

    def set_control(self, control: Any, value: Any) -> None:
        self.controls[control] = value

    def reuse(self) -> None:
        self.status, self.metadata, self.controls = self.Status.Pending, {}, {}


@dataclasses.dataclass(frozen=True)
class Mode:
    """A sensor mode: size, bits, and the part of the sensor that it sees (x, y, width, height)."""

    width: int
    height: int
    bit_depth: int
    fps: float
    view: tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Sensor:
    model: str
    cfa: str
    modes: tuple[Mode, ...]
    mono: bool = False
    lens: bool = False
    af_modes: tuple[int, ...] = (0, 1, 2)
    cfa_follows_flips: bool = True


class Camera:
    """A camera on a board ("vc4": Raspberry Pi 4 and earlier, "pisp": Raspberry Pi 5, "simple": any other).

    On other boards libcamera advertises neither frame rate nor exposure, and packs nothing.

    Attributes:
        can_flip: the sensor can be read out mirrored.
        applied: every control that reached the camera, by name.
        queued: how many requests it has to fill.
        extra_padding: bytes at the end of each row beyond the board's own alignment.
        busy: another program has it.
        lacks: names of the controls that it does not offer.
        failure: raised by the next `configure` or `start`.
        connected: False after `unplug`.
    """

    def __init__(self, manager: Any, sensor: Any, board: Any, number: Any) -> None:
        self.sensor, self.board, self.extra_padding, self.busy = sensor, board, 0, False
        self.lacks: set[str] = set() if board != "simple" else {*_RASPBERRY_PI_ONLY}
        self.can_flip = True
        self.failure: Exception | None = None
        self.connected = True
        self.frontend_stopped = False
        self.transform: Any = None
        self.id = f"/base/i2c@{number}/{sensor.model}@10"
        self.applied: dict[str, Any] = {}
        self.sequence, self.timestamp_ns = -1, 0
        self._manager = manager
        self._requests: collections.deque[Any] = collections.deque()
        self._queued = threading.Condition()
        self._raw: Any = None
        self.properties = {
            ControlId("Model"): sensor.model,
            ControlId("ColorFilterArrangement"): sensor.cfa,
            ControlId("Location"): 2,
            ControlId("Rotation"): 0,
            ControlId("PixelArraySize"): Size(*sensor.modes[0].view[2:]),
        }
        self._set_mode(sensor.modes[0])

    @property
    def queued(self) -> Any:
        with self._queued:
            return len(self._requests)

    def acquire(self) -> None:
        if self.busy:
            raise RuntimeError("Failed to acquire camera: Device or resource busy")

    def release(self) -> None:
        pass

    def generate_configuration(self, roles: Any) -> Any:
        return CameraConfiguration(self, roles)

    def configure(self, configuration: Any) -> Any:
        self._fail()
        self.orientation = configuration.orientation
        raw = [stream for stream in configuration if stream.role is StreamRole.Raw]
        if raw:
            self._raw = raw[0]
            wanted = (self._raw.size.width, self._raw.size.height, configuration.sensor_config.bit_depth)
            self._set_mode(next(m for m in self.sensor.modes if (m.width, m.height, m.bit_depth) == wanted))
        return 0

    def create_request(self, cookie: Any) -> Any:
        return Request(self, cookie)

    def _fail(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    def unplug(self) -> None:
        """As libcamera does: the camera leaves its list, its requests stay where they are, new ones are refused."""
        self.connected = False
        self._manager.cameras.remove(self)

    def stop_frontend(self) -> None:
        """As a loose cable does on a Raspberry Pi: every request is cancelled, at once and from now on."""
        self.frontend_stopped = True
        self._cancel()

    def _cancel(self) -> None:
        with self._queued:
            requests, self._requests = self._requests, collections.deque()
        for request in requests:
            request.status = Request.Status.Cancelled
            for buffer in request.buffers.values():
                buffer.metadata.status = _FrameStatus.Cancelled
            self._manager.complete(request)

    def start(self, controls: Any) -> None:
        self._fail()
        _check_kinds(controls)
        self.frontend_stopped = False
        self.sequence = -1
        self.applied.update({control.name: value for control, value in controls.items()})

    def stop(self) -> None:
        self._cancel()

    def queue_request(self, request: Any) -> None:
        if not self.connected:
            raise RuntimeError("Failed to queue request: No such device")
        _check_kinds(request.controls)
        with self._queued:
            self.applied.update({control.name: value for control, value in request.controls.items()})
            self._requests.append(request)
            self._queued.notify_all()
        if self.frontend_stopped:
            self._cancel()

    def wait_until_queued(self, count: Any) -> None:
        with self._queued:
            if not self._queued.wait_for(lambda: len(self._requests) >= count, 10):
                raise AssertionError(f"{count} requests expected back, found {len(self._requests)}")

    def expose(
        self,
        data: Any = b"",
        *,
        status: Any = "Success",
        raw_status: Any = "Success",
        lost_before: Any = 0,
        metadata: Any = None,
        picture: Any = b"",
    ) -> None:
        """Fills the oldest queued request: `data` into its RAW buffer, `metadata` by name, `picture` into the other.

        Args:
            status, raw_status: of the main stream's buffer and of the RAW stream's; "Startup" is libcamera's fourth.
            lost_before: so many frames of the sensor found no buffer.
        """
        self.wait_until_queued(1)
        with self._queued:
            request = self._requests.popleft()
        self.sequence += 1 + lost_before
        for stream, buffer in request.buffers.items():
            is_raw = stream is self._raw.stream
            found = raw_status if is_raw else status
            buffer.metadata.status = _FrameStatus(STARTUP) if found == "Startup" else _FrameStatus.__members__[found]
            buffer.metadata.sequence, buffer.metadata.timestamp = self.sequence, self.timestamp_ns
            os.pwrite(buffer.planes[0].fd, data if is_raw else picture, 0)
        request.metadata = {ControlId(name): value for name, value in (metadata or {}).items()}
        request.status = Request.Status.Complete
        self._manager.complete(request)

    def _set_mode(self, mode: Any) -> None:
        from libcamera import controls

        shortest_us = round(1e6 / mode.fps)
        full = Rectangle(*mode.view)
        offered = {
            controls.FrameDurationLimits: ControlInfo(shortest_us, 11_000_000, 33_333),
            controls.ExposureTime: ControlInfo(75, 11_000_000, 20_000),
            controls.AnalogueGain: ControlInfo(1.0, 10.67, 1.0),
            controls.ScalerCrop: ControlInfo(full, full, full),
            controls.AeEnable: ControlInfo(False, True, True),
            controls.AwbEnable: ControlInfo(False, True, True),
            controls.ColourGains: ControlInfo(0.0, 32.0, None),
            controls.ColourCorrectionMatrix: ControlInfo(0.0, 8.0, None),
            controls.NoiseReductionMode: ControlInfo(0, 4, 0),
            controls.Sharpness: ControlInfo(0.0, 16.0, 1.0),
            controls.AwbMode: ControlInfo(0, 7, 0),
            controls.HdrMode: ControlInfo(0, 4, 0),
            controls.AeFlickerMode: ControlInfo(0, 1, 0, (0, 1)),
            controls.AeFlickerPeriod: ControlInfo(100, 1_000_000, None),
        }
        if self.board == "pisp":
            offered[controls.rpi.SyncMode] = ControlInfo(0, 2, 0)
        if self.sensor.lens:
            offered |= {
                controls.AfMode: ControlInfo(0, 2, 0, self.sensor.af_modes),
                controls.AfTrigger: ControlInfo(0, 1, 0),
                controls.LensPosition: ControlInfo(0.0, 15.0, 1.0),
                controls.AfWindows: ControlInfo(Rectangle(0, 0, 0, 0), full, (Rectangle(0, 0, 0, 0),)),
            }
        self.controls = {control: info for control, info in offered.items() if control.name not in self.lacks}


_RASPBERRY_PI_ONLY = (
    "FrameDurationLimits",
    "ExposureTime",
    "AnalogueGain",
    "ScalerCrop",
    "AeEnable",
    "AwbEnable",
    "AwbMode",
    "ColourGains",
    "ColourCorrectionMatrix",
    "NoiseReductionMode",
    "Sharpness",
    "HdrMode",
    "AeFlickerMode",
    "AeFlickerPeriod",
)


class CameraManager:
    _only = None

    def __init__(self) -> None:
        self.cameras: list[Any] = []
        self._ready: collections.deque[Any] = collections.deque()
        self._lock = threading.Lock()
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK)

    @classmethod
    def singleton(cls) -> Any:
        cls._only = cls._only or cls()
        return cls._only

    def plug(self, sensor: Any, board: Any) -> Any:
        """Connects a camera, and gives it."""
        self.cameras.append(Camera(self, sensor, board, 90 - len(self.cameras)))
        return self.cameras[-1]

    def unplug_all(self) -> None:
        self.cameras = []

    def complete(self, request: Any) -> None:
        with self._lock:
            self._ready.append(request)
        os.eventfd_write(self.event_fd, 1)

    def get_ready_requests(self) -> Any:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.event_fd)
        with self._lock:
            ready, self._ready = list(self._ready), collections.deque()
        return ready
