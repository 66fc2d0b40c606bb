"""The stream of a video device: the driver's buffers, mapped once, queued, filled, lent and given back."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from edge_isp.cameras.v4l2.abi import (
    BUF_FLAG_ERROR,
    BUF_FLAG_TIMESTAMP_MASK,
    BUF_FLAG_TIMESTAMP_MONOTONIC,
    BUF_FLAG_TSTAMP_SRC_MASK,
    BUF_FLAG_TSTAMP_SRC_SOE,
    MEMORY_MMAP,
    VIDIOC_DQBUF,
    VIDIOC_EXPBUF,
    VIDIOC_QBUF,
    VIDIOC_QUERYBUF,
    VIDIOC_REQBUFS,
    VIDIOC_STREAMOFF,
    VIDIOC_STREAMON,
    Buffer,
    ExportBuffer,
    Plane,
    RequestBuffers,
)
from edge_isp.cameras.v4l2.device import CaptureDevice
from edge_isp.cameras.v4l2.formats import BufferLayout
from edge_isp.errors import CameraDisconnectedError, CameraError, CameraTimeoutError, FormatError
from edge_isp.frame import RawFrame

# One buffer is being filled, and the driver needs to know the next one before it is done.
BUFFERS_OF_THE_DRIVER = 2


@dataclass(frozen=True, slots=True)
class FilledBuffer:
    """A buffer that the driver has filled.

    Attributes:
        index: number of the buffer.
        data: uint8 (height, stride), a view of the driver's memory.
        sequence: the driver's number of the frame.
        timestamp_ns: when the driver stamped it, CLOCK_MONOTONIC; now, where its stamp is of another clock.
        stamped_at_start: whether the stamp is of the start of exposure; else it is of the end of the frame.
        corrupted: whether the driver reports its content as damaged.
        truncated: whether it has fewer bytes than a frame.
    """

    index: int
    data: NDArray[np.uint8]
    sequence: int
    timestamp_ns: int
    stamped_at_start: bool
    corrupted: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class _MappedBuffer:
    """A buffer of the driver, mapped once; `length` in bytes."""

    data: NDArray[np.uint8]
    length: int


class BufferStream:
    """Streams a video device's frames into the driver's buffers, and lends them.

    Only one thread may call `next` at a time, and none while `close` runs.

    Args:
        device: the video device, open; the stream does not close it.
        source: the camera, for messages.
        closed: set when the camera is closed, before `wake` is called.
    """

    def __init__(self, device: CaptureDevice, source: str, closed: threading.Event) -> None:
        self._device, self._source, self._closed = device, source, closed
        self._lock = threading.Lock()  # of _leases and _failure
        self._buffers: list[_MappedBuffer] = []
        self._leases: dict[int, RawFrame | None] = {}
        # To give a buffer back: kind and text. The exception itself would keep the stack that it was raised in, and so
        # frames and with them the device, alive until the garbage collector comes.
        self._failure: tuple[type[CameraError], str] | None = None
        self._layout: BufferLayout | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def start(self, layout: BufferLayout, wanted: int) -> None:
        """Maps the driver's buffers, queues them and starts the stream.

        Args:
            layout: of the frames, as the device is set.
            wanted: how many buffers to ask for; the driver may have memory for fewer.

        Raises:
            CameraError: the driver has too few buffers, or they cannot be mapped.
            FormatError: a buffer is smaller than a frame.
        """
        self._layout = layout
        request = self._request_buffers(wanted)
        self._device.request(VIDIOC_REQBUFS, request)
        if request.count <= BUFFERS_OF_THE_DRIVER:
            raise CameraError(
                f"{self._source}: asked for {wanted} buffers, but the driver gives {request.count}, and keeps "
                f"{BUFFERS_OF_THE_DRIVER} for itself; where its memory does not suffice, give the kernel more "
                "contiguous memory (cma=), or take a smaller size; where it has a setting for it (max_buffers of "
                "v4l2loopback), raise that"
            )
        self._buffers += [self._map(index, layout) for index in range(request.count)]
        for index in range(request.count):
            self._queue(index)
        self._device.request(VIDIOC_STREAMON, ctypes.c_int32(self._device.buffer_type))

    def next(self, timeout_s: float | None) -> FilledBuffer | None:
        """Waits for a filled buffer; None where the camera is closed meanwhile.

        Args:
            timeout_s: longest time to wait, in seconds; None waits without a limit.

        Raises:
            CameraTimeoutError: no frame within `timeout_s`.
            CameraDisconnectedError: the camera is gone.
            CameraError: the driver has failed, or as many frames are held as it can spare.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._closed.is_set():
            self._check_leases()
            wait_s = None if deadline_s is None else deadline_s - time.monotonic()
            ready = v4l2_kernel.wait_readable(self._device.descriptor, self._wake, wait_s)
            if self._closed.is_set():
                break
            if ready and (filled := self._dequeue()) is not None:
                return filled
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise CameraTimeoutError(
                    f"{self._source}: no frame within {timeout_s} s; see the kernel's messages (dmesg), and check "
                    "that the camera's cable is seated"
                )
        return None

    def lend(self, index: int, frame: RawFrame | None) -> None:
        """Notes that a frame holds a buffer, until `give_back`.

        Args:
            index: number of the buffer.
            frame: made of its content; None where that is only being copied.
        """
        with self._lock:
            self._leases[index] = frame

    def give_back(self, index: int) -> None:
        """Queues a frame's buffer again. A failure is raised by the next `next`.

        Args:
            index: number of the buffer.
        """
        with self._lock:
            if index not in self._leases:
                return
            del self._leases[index]
            if self._closed.is_set():
                return
            try:
                self._queue(index)
            except CameraError as error:
                self._failure = type(error), str(error)

    def export(self, frame: RawFrame) -> int:
        """The buffer of a frame that is held, as a DMA-BUF.

        Args:
            frame: that holds it.

        Returns:
            A new file descriptor.

        Raises:
            CameraError: the frame is not held, or the driver cannot export buffers.
        """
        with self._lock:
            index = next((number for number, held in self._leases.items() if held is frame), None)
            if index is None or self._closed.is_set():
                raise CameraError(
                    f"{self._source}: frame {frame.sequence} is not held: its buffer is the driver's again"
                )
            request = ExportBuffer(type=self._device.buffer_type, index=index, flags=os.O_CLOEXEC | os.O_RDWR)
            if self._device.request(VIDIOC_EXPBUF, request, (errno.ENOTTY, errno.EINVAL)):
                raise CameraError(f"{self._source}: the driver cannot export its buffers as DMA-BUF")
            return int(request.fd)

    def wake(self) -> None:
        """Ends a `next` that waits."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Stops the stream. Frames still held stay readable; their memory goes with the last one."""
        with self._lock:
            try:
                # The device may be gone, or never have begun.
                failures = (errno.EINVAL, errno.EBUSY, errno.EIO)
                self._device.request(VIDIOC_STREAMOFF, ctypes.c_int32(self._device.buffer_type), failures)
                self._buffers.clear()  # unmaps those that no frame holds
                self._device.request(VIDIOC_REQBUFS, self._request_buffers(0), failures)
            except CameraDisconnectedError:
                pass  # there is nothing to stop any more
            finally:
                self._buffers.clear()
                self._leases.clear()
                os.close(self._wake)

    def _request_buffers(self, count: int) -> RequestBuffers:
        return RequestBuffers(count=count, type=self._device.buffer_type, memory=MEMORY_MMAP)

    def _buffer(self, index: int) -> tuple[Buffer, ctypes.Array[Plane] | None]:
        """A structure for a request about a buffer, and its planes, to be kept alive with it."""
        buffer = Buffer(index=index, type=self._device.buffer_type, memory=MEMORY_MMAP)
        if not self._device.multiplanar:
            return buffer, None
        planes = (Plane * 8)()
        buffer.m.planes, buffer.length = ctypes.addressof(planes), len(planes)
        return buffer, planes

    def _map(self, index: int, layout: BufferLayout) -> _MappedBuffer:
        buffer, planes = self._buffer(index)
        self._device.request(VIDIOC_QUERYBUF, buffer)
        offset = planes[0].m.mem_offset if planes is not None else buffer.m.offset
        length = planes[0].length if planes is not None else buffer.length
        if length < layout.frame_bytes:
            raise FormatError(f"{self._source}: a buffer of {length} bytes cannot hold a frame of {layout}")
        try:
            memory = v4l2_kernel.map_buffer(self._device.descriptor, length, offset)
        except OSError as error:
            raise CameraError(
                f"{self._source}: buffer {index} cannot be mapped: {error.strerror}; see the kernel's messages (dmesg)"
            ) from error
        return _MappedBuffer(np.frombuffer(memory, np.uint8), length)

    def _queue(self, index: int) -> None:
        buffer, _planes = self._buffer(index)
        self._device.request(VIDIOC_QBUF, buffer)

    def _dequeue(self) -> FilledBuffer | None:
        """A filled buffer; None where there is none after all."""
        layout = self._layout
        assert layout is not None  # `start` has set it
        buffer, planes = self._buffer(0)
        if self._device.request(VIDIOC_DQBUF, buffer, (errno.EAGAIN,)):
            return None
        used, offset = buffer.bytesused, 0
        if planes is not None:
            offset = planes[0].data_offset
            used = planes[0].bytesused - offset
        mapped = self._buffers[buffer.index]
        # Padding after the last row may be missing.
        truncated = used < layout.frame_bytes - (layout.stride - layout.row_bytes)
        if offset + layout.frame_bytes > mapped.length:
            truncated, offset = True, 0
        timestamp_ns = buffer.timestamp.tv_sec * 1_000_000_000 + buffer.timestamp.tv_usec * 1000
        if buffer.flags & BUF_FLAG_TIMESTAMP_MASK != BUF_FLAG_TIMESTAMP_MONOTONIC:
            timestamp_ns = time.monotonic_ns()  # of another clock, or none
        return FilledBuffer(
            index=buffer.index,
            data=mapped.data[offset : offset + layout.frame_bytes].reshape(layout.height, layout.stride),
            sequence=buffer.sequence,
            timestamp_ns=timestamp_ns,
            stamped_at_start=buffer.flags & BUF_FLAG_TSTAMP_SRC_MASK == BUF_FLAG_TSTAMP_SRC_SOE,
            corrupted=bool(buffer.flags & BUF_FLAG_ERROR),
            truncated=truncated,
        )

    def _check_leases(self) -> None:
        """Raises CameraError where a buffer could not be given back, or all that the driver can spare are held."""
        lendable = len(self._buffers) - BUFFERS_OF_THE_DRIVER
        with self._lock:
            held, failure = len(self._leases), self._failure
        if failure is not None:
            kind, text = failure
            raise kind(text)
        if held >= lendable:
            raise CameraError(
                f"{self._source}: {held} frames are held, which is all that the camera can spare; release one before "
                f"reading the next, or open the camera with more than buffers={len(self._buffers)}"
            )
