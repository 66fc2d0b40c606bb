"""A kernel with cameras, in the place of `edge_isp.cameras.v4l2.kernel`: our understanding of V4L2, not V4L2 itself.

Time is simulated: it moves when the camera waits. Every request can be made to fail.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_isp.cameras.v4l2 import abi
from edge_isp.cameras.v4l2.formats import fourcc, fourcc_name


@dataclass
class Control:
    """A control of a fake device."""

    name: str
    value: int
    least: int = 0
    greatest: int = 1 << 20
    step: int = 1
    kind: int = abi.CTRL_TYPE_INTEGER
    flags: int = 0
    menu: dict[int, str] = field(default_factory=dict)
    makes: Callable[[int], int] = int  # what the driver makes of a value


@dataclass
class Filled:
    """A frame to deliver."""

    data: bytes | None = None  # None leaves the buffer as it is
    sequence: int | None = None  # None counts on
    timestamp_ns: int | None = None  # None is the fake's clock
    flags: int = abi.BUF_FLAG_TIMESTAMP_MONOTONIC | abi.BUF_FLAG_TSTAMP_SRC_SOE
    bytesused: int | None = None
    data_offset: int = 0


class Node:
    """A device node; requests are methods by their name in the kernel."""

    def __init__(self, path: str, name: str = "", controls: tuple[Control, ...] = ()) -> None:
        self.path, self.name = path, name
        self.controls = {0x00980900 + number: control for number, control in enumerate(controls)}
        self.by_name = {control.name: control for control in controls}
        self.failures: dict[str, deque[int]] = defaultdict(deque)
        self.calls: list[str] = []
        self.gone = False

    def fail(self, request: str, *numbers: int) -> None:
        """Has the next requests of a kind fail, one a number."""
        self.failures[request].extend(numbers)

    def ioctl(self, request: int, argument: Any) -> None:
        name = abi.REQUEST_NAMES[request]
        self.calls.append(name)
        if len(self.calls) > 1000:
            del self.calls[:500]
        if self.gone:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if self.failures[name] and (number := self.failures[name].popleft()):
            raise OSError(number, os.strerror(number))
        method = getattr(self, name, None)
        if method is None:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        if number := method(argument):
            raise OSError(number, os.strerror(number))

    def VIDIOC_QUERY_EXT_CTRL(self, query: abi.QueryControl) -> int:
        after = query.id & ~abi.CTRL_FLAG_NEXT_CTRL
        following = [number for number in self.controls if number > after]
        if not following:
            return errno.EINVAL
        control = self.controls[following[0]]
        query.id, query.type, query.name, query.flags = (
            following[0],
            control.kind,
            control.name.encode(),
            control.flags,
        )
        query.minimum, query.maximum, query.step = control.least, control.greatest, control.step
        return 0

    def VIDIOC_QUERYMENU(self, item: abi.QueryMenu) -> int:
        control = self.controls[item.id]
        if item.index not in control.menu:
            return errno.EINVAL
        text = control.menu[item.index]
        integer = control.kind == abi.CTRL_TYPE_INTEGER_MENU
        content = int(text).to_bytes(8, "little", signed=True) if integer else text.encode()
        item.name[: len(content)] = content
        return 0

    def VIDIOC_G_EXT_CTRLS(self, request: abi.ExtendedControls) -> int:
        for index in range(request.count):
            content = request.controls[index]
            control = self.controls[content.id]
            if control.kind == abi.CTRL_TYPE_INTEGER64:
                content.content.value64 = control.value
            else:
                content.content.value = control.value
        return 0

    def VIDIOC_S_EXT_CTRLS(self, request: abi.ExtendedControls) -> int:
        for index in range(request.count):
            content = request.controls[index]
            control = self.controls[content.id]
            wide = control.kind == abi.CTRL_TYPE_INTEGER64
            control.value = control.makes(content.content.value64 if wide else content.content.value)
        return 0


def _select(rectangles: dict[int, tuple[int, int, int, int]], content: Any) -> int:
    """Answers a request for a selection rectangle."""
    if content.target not in rectangles:
        return errno.EINVAL
    content.r.left, content.r.top, content.r.width, content.r.height = rectangles[content.target]
    return 0


class VideoNode(Node):
    """A video device with Bayer formats.

    Attributes:
        rectangles: left, top, width and height by selection target.
        modes: code to sizes to rates.
        frames: what to deliver next; when empty, `period_ns` decides: 0 delivers nothing more, else frames go on.
        driver: its name.
        by_bus: behind a media controller (V4L2_CAP_IO_MC), the formats of each format on the bus.
        linked_to: then also the sub-device and pad whose format the device's must fit at STREAMON.
        field: order of rows that the driver makes of any.
    """

    def __init__(
        self,
        path: str = "/dev/video0",
        *,
        codes: tuple[str, ...] = ("RG10",),
        sizes: tuple[tuple[int, int], ...] = ((64, 48), (128, 96)),
        rates: tuple[int, ...] = (30, 15),
        multiplanar: bool = False,
        padding: int = 0,
        period_ns: int = 0,
        controls: tuple[Control, ...] = (),
        capabilities: int | None = None,
    ) -> None:
        super().__init__(path, "fake", controls)
        self.codes, self.sizes, self.rates = codes, sizes, rates
        self.multiplanar, self.padding, self.period_ns = multiplanar, padding, period_ns
        kind = abi.CAP_VIDEO_CAPTURE_MPLANE if multiplanar else abi.CAP_VIDEO_CAPTURE
        self.capabilities = kind | abi.CAP_STREAMING if capabilities is None else capabilities
        self.type = abi.BUF_TYPE_VIDEO_CAPTURE_MPLANE if multiplanar else abi.BUF_TYPE_VIDEO_CAPTURE
        self.current = (codes[0], *sizes[0]) if codes else ("YUYV", *sizes[0])
        self.rate: tuple[int, int] | None = (1, rates[0]) if rates else None
        self.granted: int | None = None  # buffers that there is memory for
        self.buffers: list[memoryview] = []
        self.free: deque[int] = deque()
        self.full: deque[tuple[int, Filled]] = deque()
        self.frames: deque[Filled] = deque()
        self.streaming = False
        self.sequence = 0
        self.clock_ns = 1_000_000_000
        self.queue_error = False
        self.rectangles: dict[int, tuple[int, int, int, int]] = {}
        self.driver = "fake"
        self.by_bus: dict[int, tuple[str, ...]] = {}
        self.linked_to: tuple[SubdeviceNode, int] | None = None
        self.field = abi.FIELD_NONE

    # Formats.

    def follow_media_controller(self, by_bus: dict[int, tuple[str, ...]], source: SubdeviceNode, pad: int) -> None:
        """Makes it a device whose format follows the pad that it is linked to."""
        self.by_bus, self.linked_to = by_bus, (source, pad)
        self.capabilities |= abi.CAP_IO_MC

    def VIDIOC_QUERYCAP(self, capability: abi.Capability) -> int:
        capability.driver, capability.card = self.driver.encode(), b"Fake camera"
        capability.bus_info = b"platform:fake"
        capability.capabilities = self.capabilities | abi.CAP_DEVICE_CAPS
        capability.device_caps = self.capabilities
        return 0

    def VIDIOC_ENUM_FMT(self, description: abi.FormatDescription) -> int:
        codes = self.codes
        # Only devices behind a media controller look at the format on the bus.
        if self.capabilities & abi.CAP_IO_MC and description.mbus_code:
            codes = self.by_bus.get(description.mbus_code, ())
        if description.type != self.type or description.index >= len(codes):
            return errno.EINVAL
        description.pixelformat = fourcc(codes[description.index])
        return 0

    def VIDIOC_ENUM_FRAMESIZES(self, size: abi.FrameSize) -> int:
        if size.index >= len(self.sizes):
            return errno.EINVAL
        size.type = abi.FRMSIZE_TYPE_DISCRETE
        size.stepwise.min_width, size.stepwise.max_width = self.sizes[size.index]
        return 0

    def VIDIOC_ENUM_FRAMEINTERVALS(self, interval: abi.FrameInterval) -> int:
        if interval.index >= len(self.rates):
            return errno.EINVAL
        interval.type = abi.FRMIVAL_TYPE_DISCRETE
        interval.min.numerator, interval.min.denominator = 1, self.rates[interval.index]
        return 0

    def VIDIOC_G_SELECTION(self, selection: abi.Selection) -> int:
        return _select(self.rectangles, selection) if selection.type == abi.BUF_TYPE_VIDEO_CAPTURE else errno.EINVAL

    @property
    def stride(self) -> int:
        code, width, _ = self.current
        if code.startswith("ip3"):
            return -(-width // 25) * 32 + self.padding
        if code.startswith("p"):
            return width * {"A": 10, "C": 12, "E": 14}[code[2]] // 8 + self.padding
        return width * (1 if code in ("BA81", "GBRG", "GRBG", "RGGB") else 2) + self.padding

    @property
    def size(self) -> int:
        return self.stride * self.current[2]

    def VIDIOC_G_FMT(self, content: abi.Format) -> int:
        code, width, height = self.current
        if self.multiplanar:
            pixels, plane = content.fmt.pix_mp, content.fmt.pix_mp.plane_fmt[0]
            pixels.num_planes = 1
        else:
            pixels = plane = content.fmt.pix
        pixels.pixelformat, pixels.width, pixels.height, pixels.field = fourcc(code), width, height, self.field
        plane.bytesperline, plane.sizeimage = self.stride, self.size
        return 0

    def VIDIOC_S_FMT(self, content: abi.Format) -> int:
        pixels = content.fmt.pix_mp if self.multiplanar else content.fmt.pix
        code = fourcc_name(pixels.pixelformat)
        if self.linked_to is not None:  # any size: whether it fits is seen at STREAMON
            self.current = (code if code in self.codes else self.current[0], pixels.width, pixels.height)
            return self.VIDIOC_G_FMT(content)
        nearest = min(self.sizes, key=lambda size: abs(size[0] - pixels.width) + abs(size[1] - pixels.height))
        # As vivid does: a format that is not known keeps the one before.
        self.current = (code if code in self.codes else self.current[0], *nearest)
        return self.VIDIOC_G_FMT(content)

    def VIDIOC_G_PARM(self, parameters: abi.StreamParameters) -> int:
        if self.rate is None:
            return errno.ENOTTY
        capture = parameters.parm.capture
        capture.capability = abi.CAP_TIMEPERFRAME
        capture.timeperframe.numerator, capture.timeperframe.denominator = self.rate
        return 0

    def VIDIOC_S_PARM(self, parameters: abi.StreamParameters) -> int:
        period = parameters.parm.capture.timeperframe
        nearest = min(self.rates, key=lambda rate: abs(rate - period.denominator / period.numerator))
        self.rate = (1, nearest)
        return self.VIDIOC_G_PARM(parameters)

    # Buffers.

    def VIDIOC_REQBUFS(self, request: abi.RequestBuffers) -> int:
        request.count = min(request.count, self.granted) if self.granted is not None else request.count
        self.buffers = [memoryview(bytearray(self.size + 16)) for _ in range(request.count)]
        self.free.clear()
        self.full.clear()
        return 0

    def VIDIOC_QUERYBUF(self, buffer: abi.Buffer) -> int:
        offset, length = buffer.index << 12, len(self.buffers[buffer.index])
        if self.multiplanar:
            plane = self._plane(buffer)
            plane.length, plane.m.mem_offset = length, offset
        else:
            buffer.length, buffer.m.offset = length, offset
        return 0

    def VIDIOC_QBUF(self, buffer: abi.Buffer) -> int:
        if buffer.index in self.free or any(buffer.index == index for index, _ in self.full):
            return errno.EINVAL
        self.free.append(buffer.index)
        return 0

    def VIDIOC_EXPBUF(self, request: abi.ExportBuffer) -> int:
        request.fd = os.memfd_create(f"buffer{request.index}")
        return 0

    def VIDIOC_STREAMON(self, _: ctypes.c_int32) -> int:
        if self.linked_to is not None:
            source, pad = self.linked_to
            bus_code, width, height = source.bus.get(pad, (0, 0, 0))
            if self.current[1:] != (width, height) or self.current[0] not in self.by_bus.get(bus_code, ()):
                return errno.EPIPE
        self.streaming = True
        return 0

    def VIDIOC_STREAMOFF(self, _: ctypes.c_int32) -> int:
        self.streaming = False
        self.free.clear()
        self.full.clear()
        return 0

    def VIDIOC_DQBUF(self, buffer: abi.Buffer) -> int:
        if self.queue_error:
            return errno.EIO
        if not self.full:
            return errno.EAGAIN
        index, frame = self.full.popleft()
        buffer.index, buffer.flags, buffer.sequence = index, frame.flags, frame.sequence or 0
        stamp_ns = frame.timestamp_ns or 0
        buffer.timestamp.tv_sec, buffer.timestamp.tv_usec = stamp_ns // 10**9, stamp_ns % 10**9 // 1000
        used = self.size if frame.bytesused is None else frame.bytesused
        if self.multiplanar:
            plane = self._plane(buffer)
            plane.bytesused, plane.data_offset = used + frame.data_offset, frame.data_offset
        else:
            buffer.bytesused = used
        return 0

    def _plane(self, buffer: abi.Buffer) -> abi.Plane:
        return abi.Plane.from_address(buffer.m.planes)

    def deliver(self) -> bool:
        """Lets the time of one frame pass; whether there was a frame to deliver."""
        if not self.streaming or not (self.frames or self.period_ns):
            return False
        frame = self.frames.popleft() if self.frames else Filled()
        self.clock_ns += self.period_ns or 33_000_000
        if frame.sequence is None:
            frame.sequence = self.sequence
        if frame.timestamp_ns is None:
            frame.timestamp_ns = self.clock_ns
        self.sequence = (frame.sequence + 1) % 2**32
        if self.free:
            index = self.free.popleft()
            if frame.data is not None:
                self.buffers[index][frame.data_offset : frame.data_offset + len(frame.data)] = frame.data
            self.full.append((index, frame))
        return True


class MediaNode(Node):
    """A media device: entities with their nodes, pads and links."""

    def __init__(
        self,
        path: str,
        entities: dict[str, tuple[Node | None, int]],
        links: list[list[Any]],
        *,
        driver: str = "fake-media",
        bus: str = "platform:fake",
        number: int = 0,
    ) -> None:
        super().__init__(path)
        self.driver, self.bus, self.number = driver, bus, number
        self.entities, self.links = entities, links  # name: (node, function); [source, pad, sink, pad, flags]

    def VIDIOC_QUERYCAP(self, _: abi.Capability) -> int:
        return errno.ENOTTY

    def MEDIA_IOC_DEVICE_INFO(self, info: abi.MediaDeviceInfo) -> int:
        info.driver, info.model, info.bus_info = self.driver.encode(), b"Fake board", self.bus.encode()
        return 0

    def MEDIA_IOC_G_TOPOLOGY(self, topology: abi.MediaTopology) -> int:
        names = list(self.entities)
        with_node = [name for name in names if self.entities[name][0] is not None]
        topology.num_entities, topology.num_interfaces = len(names), len(with_node)
        topology.num_pads, topology.num_links = 2 * len(names), len(self.links) + len(with_node)
        if topology.ptr_entities:
            for number, (name, (_, function)) in enumerate(self.entities.items()):
                entity = (abi.MediaEntity * len(names)).from_address(topology.ptr_entities)[number]
                entity.id, entity.name, entity.function = number + 1, name.encode(), function
                for index in range(2):
                    pad = (abi.MediaPad * (2 * len(names))).from_address(topology.ptr_pads)[2 * number + index]
                    pad.id, pad.entity_id, pad.index = 100 + 2 * number + index, number + 1, index
            links = (abi.MediaLink * topology.num_links).from_address(topology.ptr_links)
            for link, (source, source_pad, sink, sink_pad, flags) in zip(links, self.links, strict=False):
                link.source_id = 100 + 2 * names.index(source) + source_pad
                link.sink_id, link.flags = 100 + 2 * names.index(sink) + sink_pad, flags
            interfaces = (abi.MediaInterface * len(with_node)).from_address(topology.ptr_interfaces)
            for number, name in enumerate(with_node):
                node = self.entities[name][0]
                video = isinstance(node, VideoNode)
                interfaces[number].id = 1000 + number
                interfaces[number].intf_type = abi.MEDIA_INTF_T_V4L_VIDEO if video else abi.MEDIA_INTF_T_V4L_SUBDEV
                interfaces[number].major, interfaces[number].minor = 81 + self.number, names.index(name)
                link = links[len(self.links) + number]
                link.source_id, link.sink_id = 1000 + number, names.index(name) + 1
                link.flags = abi.MEDIA_LNK_FL_INTERFACE_LINK | abi.MEDIA_LNK_FL_ENABLED
        return 0

    def MEDIA_IOC_SETUP_LINK(self, link: abi.MediaLinkDescription) -> int:
        names = list(self.entities)
        ends = [names[link.source.entity - 1], link.source.index, names[link.sink.entity - 1], link.sink.index]
        for known in self.links:
            if known[:4] == ends:
                known[4] = link.flags
                return 0
        return errno.EINVAL


class SubdeviceNode(Node):
    """A sub-device, with the same format on all its pads."""

    def __init__(self, path: str, name: str, *, size: tuple[int, int], controls: tuple[Control, ...] = ()) -> None:
        super().__init__(path, name, controls)
        self.bus: dict[int, tuple[int, int, int]] = {}
        self.sizes = [size]
        self.rectangles: dict[int, tuple[int, int, int, int]] = {}

    def VIDIOC_QUERYCAP(self, _: abi.Capability) -> int:
        return errno.ENOTTY

    def VIDIOC_SUBDEV_G_SELECTION(self, selection: abi.SubdeviceSelection) -> int:
        return _select(self.rectangles, selection)

    def VIDIOC_SUBDEV_G_FMT(self, content: abi.SubdeviceFormat) -> int:
        code, width, height = self.bus.get(content.pad, (0x300F, *self.sizes[0]))
        content.format.code, content.format.width, content.format.height = code, width, height
        return 0

    def VIDIOC_SUBDEV_S_FMT(self, content: abi.SubdeviceFormat) -> int:
        asked = (content.format.width, content.format.height)
        size = asked if asked in self.sizes else self.sizes[0]
        self.bus[content.pad] = (content.format.code, *size)
        return self.VIDIOC_SUBDEV_G_FMT(content)


class FakeKernel:
    """Puts nodes in the place of the machine's; FUNCTIONS are those of `edge_isp.cameras.v4l2.kernel`."""

    FUNCTIONS = (
        "open_device",
        "close_device",
        "ioctl",
        "map_buffer",
        "wait_readable",
        "nodes",
        "node_of",
        "node_name",
    )

    def __init__(self) -> None:
        self.all: dict[str, Node] = {}
        self.open_errors: dict[str, int] = {}
        self.map_error = 0
        self._open: dict[int, Node] = {}

    def add(self, node: Any) -> Any:
        self.all[node.path] = node
        return node

    @property
    def open_nodes(self) -> list[str]:
        return sorted(node.path for node in self._open.values())

    def open_device(self, path: str) -> int:
        number = self.open_errors.get(path, 0 if path in self.all else errno.ENOENT)
        if number == 0 and self.all[path].gone:
            number = errno.ENODEV
        if number:
            raise OSError(number, os.strerror(number), path)
        descriptor = os.memfd_create("device")  # a real number, so that a wrong one is found
        self._open[descriptor] = self.all[path]
        return descriptor

    def close_device(self, descriptor: int) -> None:
        del self._open[descriptor]
        os.close(descriptor)

    def ioctl(self, descriptor: int, request: int, argument: Any) -> None:
        self._open[descriptor].ioctl(request, argument)

    def map_buffer(self, descriptor: int, length: int, offset: int) -> memoryview:
        if self.map_error:
            raise OSError(self.map_error, os.strerror(self.map_error))
        node = self._open[descriptor]
        assert isinstance(node, VideoNode)
        buffer = node.buffers[offset >> 12]
        assert len(buffer) == length
        return buffer

    def wait_readable(self, descriptor: int, wake_descriptor: int, timeout_s: float | None) -> bool:
        node = self._open[descriptor]
        assert isinstance(node, VideoNode)
        if node.gone or node.queue_error or node.full or (node.deliver() and node.full):
            return True
        # Nothing will come any more: only the wake-up or the time-out ends this.
        select.select([wake_descriptor], [], [], None if timeout_s is None else max(0.0, timeout_s))
        return False

    def nodes(self, kind: str) -> list[str]:
        return [path for path in self.all if path.startswith(f"/dev/{kind}")]

    def node_of(self, major: int, minor: int) -> str | None:
        media = next(node for node in self.all.values() if isinstance(node, MediaNode) and node.number == major - 81)
        node = list(media.entities.values())[minor][0]
        return node.path if node else None

    def node_name(self, path: str) -> str:
        return self.all[path].name


def random_frame(node: VideoNode, seed: int = 0) -> bytes:
    """Random bytes of a frame."""
    return np.random.default_rng(seed).integers(0, 256, node.size).astype(np.uint8).tobytes()
