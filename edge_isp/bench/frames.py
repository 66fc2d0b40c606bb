"""Cameras for benchmarks: frames that lie ready in memory, and a camera that is watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from edge_isp.calibration.profile import load_profile
from edge_isp.cameras.base import Camera, ControlLimits, Controls
from edge_isp.errors import CameraError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack

# Together these frames are larger than the caches of a board's processor.
_FRAMES = 4
_COLOUR_TEMPERATURE_K = 5500.0


class MemoryCamera:
    """Delivers CSI-2 packed frames of random codes, made beforehand, so that a frame costs the camera no time.

    Args:
        width: in pixels, even.
        height: in pixels, even.
        fps: frames per second, by the clock: a frame that is not read in time is lost, and `sequence` leaves it out.
            None delivers frames as fast as they are read.
        sensor: the name of a shipped profile.
        seed: of the random codes.
    """

    def __init__(self, width: int, height: int, *, fps: float | None, sensor: str = "imx219", seed: int = 0) -> None:
        profile = load_profile(sensor)
        self.format = RawFormat(width, height, Cfa(profile.cfa), profile.bit_depth, Packing.CSI2P)
        self.live = fps is not None
        self._fps, self._profile = fps, profile
        rng = np.random.default_rng(seed)
        self._data = [
            pack(
                rng.integers(0, 2**profile.bit_depth, (height, width)).astype(np.uint16),
                packing=self.format.packing,
                bit_depth=profile.bit_depth,
            )
            for _ in range(_FRAMES)
        ]
        self._closed = threading.Event()
        self._start_ns: int | None = None
        self._next = 0

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """The next frame; see `Camera.read`."""
        if self._closed.is_set():
            return None
        now = time.monotonic_ns()
        if self._start_ns is None:
            self._start_ns = now
        index, timestamp_ns = self._next, now
        if self._fps is not None:
            index = max(self._next, int((now - self._start_ns) * self._fps / 1e9))
            timestamp_ns = self._start_ns + round(index * 1e9 / self._fps)
            if timestamp_ns > now and self._closed.wait((timestamp_ns - now) / 1e9):
                return None
        status = FrameStatus.OK if index == self._next else FrameStatus.GAP
        self._next = index + 1
        return RawFrame(
            data=self._data[index % _FRAMES],
            format=self.format,
            source="memory",
            sequence=index,
            timestamp_ns=timestamp_ns,
            black_level=self._profile.black_level,
            white_level=self._profile.white_level,
            sensor=self._profile.name,
            analogue_gain=1.0,
            colour_gains=self._profile.colour_gains(_COLOUR_TEMPERATURE_K),
            colour_temperature_k=_COLOUR_TEMPERATURE_K,
            lens_shading=False,
            status=status,
        )

    @property
    def limits(self) -> ControlLimits:
        """Raises CameraError: there is nothing to set."""
        raise CameraError("the benchmark's frames have no exposure to set")

    def control(self, controls: Controls) -> None:
        """Raises CameraError where a setting is asked for: there is nothing to set."""
        if controls.names():
            raise CameraError(f"the benchmark's frames have no {', '.join(controls.names())} to set")

    def close(self) -> None:
        """Ends the stream; a `read` that waits returns None."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WatchedOpener:
    """Opens cameras and remembers what they deliver; called without arguments.

    Args:
        open_camera: opens a camera.

    Attributes:
        kind: the class of the camera that was opened last.
        format: of the first frame; None before it.
        sensor: of the first frame.
    """

    def __init__(self, open_camera: Callable[[], Camera]) -> None:
        self._open = open_camera
        self.kind = ""
        self.format: RawFormat | None = None
        self.sensor: str | None = None

    def __call__(self) -> Camera:
        camera = self._open()
        self.kind = type(camera).__name__
        return _WatchedCamera(camera, self._remember)

    def _remember(self, frame: RawFrame) -> None:
        if self.format is None:
            self.format, self.sensor = frame.format, frame.sensor


class _WatchedCamera:
    """A camera whose frames are shown to a function; everything else is the camera's own."""

    def __init__(self, camera: Camera, watch: Callable[[RawFrame], None]) -> None:
        self._camera, self._watch = camera, watch
        self.live = bool(getattr(camera, "live", True))

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """See `Camera.read`."""
        frame = self._camera.read(timeout_s)
        if frame is not None:
            self._watch(frame)
        return frame

    @property
    def limits(self) -> ControlLimits:
        """See `Camera.limits`."""
        return self._camera.limits

    def control(self, controls: Controls) -> None:
        """See `Camera.control`."""
        self._camera.control(controls)

    def close(self) -> None:
        """See `Camera.close`."""
        self._camera.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
