"""A recording of `edge-isp record` as a camera: bit for bit, flat out or at its own pace."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge_isp.cameras.base import CameraBase, ControlLimits
from edge_isp.errors import CameraError, CameraTimeoutError
from edge_isp.frame import RawFrame
from edge_isp.recording.mcap_recording import McapRecording

# Between the last frame of a loop and the first one of the next, where the recording has only one.
_LONE_FRAME_NS = 33_333_333


class PlaybackClock:
    """The pace of a playback: cameras that share it stay in step.

    Args:
        speed: 1 is the recorded pace, 2 twice as fast.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._lock = threading.Lock()
        self._origin: tuple[int, int] | None = None  # recorded time, and the time it is played at

    def due_ns(self, recorded_ns: int) -> int:
        """When to deliver what was recorded at a time; CLOCK_MONOTONIC. The first question starts the clock.

        Args:
            recorded_ns: the time in the recording.
        """
        with self._lock:
            if self._origin is None:
                self._origin = recorded_ns, time.monotonic_ns()
            recorded, played = self._origin
        return played + round((recorded_ns - recorded) / self.speed)

    def restart(self) -> None:
        """The next question starts the clock anew: after a jump in the recording."""
        with self._lock:
            self._origin = None


class McapCamera(CameraBase):
    """Delivers the frames of one camera of a recording, with the metadata that the camera gave.

    Without `speed` the next frame is there as soon as it is asked for, so that a reader steps through the recording.
    Nothing is lost: a reader that is slower than the pace gets every frame, later.

    Args:
        path: of the .mcap file; one that was cut off is read up to its last complete chunk.
        name: of the camera in the recording; None where there is only one.
        speed: 1 is the recorded pace, 2 twice as fast; None is flat out.
        start_s: where to begin, in seconds from the beginning of the recording.
        loop: whether to begin again at the end. `sequence` and `timestamp_ns` then go on rising.
        clock: shared with other cameras of the recording; None is one of its own, of `speed`. See `open_in_step`.

    Raises:
        CameraError: there is no such camera in the recording, or a value is out of range.
        FormatError: the file is no recording.
        MissingDependencyError: a package of the extra "recording" is not installed.
    """

    live = False
    settable_hint = "a recording's exposure, gain and white balance are those it was taken with"

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        speed: float | None = None,
        start_s: float = 0.0,
        loop: bool = False,
        clock: PlaybackClock | None = None,
    ) -> None:
        super().__init__(str(path))
        for what, value in (("speed", speed), ("start_s", start_s)):
            if value is not None and not (0 <= value < math.inf and (value or what == "start_s")):
                raise CameraError(f"{path}: {what} must be a number above 0, found {value}")
        self._clock = clock or (None if speed is None else PlaybackClock(speed))
        self._loop = loop
        self._reading = threading.Lock()
        self._pending: tuple[int, RawFrame] | None = None
        self._shift_ns = self._shift_sequence = 0  # of the loops so far
        self._last: tuple[RawFrame, RawFrame] | None = None  # the last two, as they were recorded
        self._frames: Iterator[tuple[int, RawFrame]] = iter(())
        self._recording = McapRecording(path)
        self._opened = True
        try:
            self.name = self._chosen(name)
            self.seek(start_s)
        except BaseException:
            self.close()
            raise

    @property
    def limits(self) -> ControlLimits:
        """A recording has none.

        Raises:
            CameraError: always.
        """
        raise CameraError(f"{self.source}: the exposure and gain of a recording cannot be set")

    @property
    def recording(self) -> McapRecording:
        """The recording itself: its other messages, attachments and metadata."""
        return self._recording

    def seek(self, seconds: float) -> None:
        """Continues elsewhere: the next frame is the first one at or after a time.

        Args:
            seconds: from the beginning of the recording.

        Raises:
            CameraError: the camera is closed, or the time is negative.
        """
        self._check_open()
        if not 0 <= seconds < 1e12:
            raise CameraError(f"{self.source}: a recording begins at 0 s, found {seconds}")
        with self._reading:
            span = self._recording.span_ns
            begin_ns = 0 if span is None or not seconds else span[0] + round(seconds * 1e9)
            self._frames = self._recording.frames(self.name, begin_ns)
            self._pending = self._last = None
            if self._clock is not None:
                self._clock.restart()

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """Returns the next frame, or None after the last; see `Camera.read`.

        Args:
            timeout_s: longest time to wait for the frame's turn, in seconds; None waits without a limit.

        Raises:
            CameraTimeoutError: it is not the next frame's turn yet.
            FormatError: the file has become shorter, or a message is no frame.
        """
        with self._reading:
            if self.closed.is_set():
                return None
            found = self._pending or self._next()
            if found is None:
                return None
            self._pending = found
            if self._clock is not None:
                wait_s = (self._clock.due_ns(found[0] + self._shift_ns) - time.monotonic_ns()) / 1e9
                longest_s = wait_s if timeout_s is None else min(wait_s, timeout_s)
                if wait_s > 0 and wait_for_close(self.closed, longest_s):
                    return None
                if timeout_s is not None and wait_s > timeout_s:
                    raise CameraTimeoutError(f"{self.source}: the next frame comes in {wait_s - timeout_s:.3f} s")
            self._pending = None
            return self._looped(found[1])

    def _next(self) -> tuple[int, RawFrame] | None:
        found = next(self._frames, None)
        if found is None and self._loop and self._last is not None:
            self._frames = self._recording.frames(self.name)
            found = next(self._frames, None)
            if found is not None:
                self._shift(found[1], *self._last)
        return found

    def _shift(self, first: RawFrame, before: RawFrame, last: RawFrame) -> None:
        """Makes a loop follow the last two frames of the one before."""
        period_ns = max(last.timestamp_ns - before.timestamp_ns, 0) or _LONE_FRAME_NS
        self._shift_ns += last.timestamp_ns + period_ns - first.timestamp_ns
        self._shift_sequence += last.sequence + 1 - first.sequence

    def _looped(self, frame: RawFrame) -> RawFrame:
        """A frame, later by the loops that were played."""
        if not self._loop:
            return frame
        self._last = (self._last[1] if self._last else frame, frame)
        return replace(
            frame,
            sequence=frame.sequence + self._shift_sequence,
            timestamp_ns=frame.timestamp_ns + self._shift_ns,
        )

    def _chosen(self, name: str | None) -> str:
        cameras = self._recording.cameras
        if name is None and len(cameras) == 1:
            return str(cameras[0])
        if name is None or name not in cameras:
            asked = "there are several cameras in it: give name=" if name is None else f"no camera '{name}' in it;"
            raise CameraError(f"{self.source}: {asked} {' or '.join(cameras) or 'there is none'}")
        return name

    def _release(self) -> None:
        with self._reading:  # a `read` that is in the file ends first
            self._recording.close()


def wait_for_close(closed: threading.Event, timeout_s: float) -> bool:
    """Waits for a frame's turn; whether the camera was closed meanwhile.

    Args:
        closed: set when the camera is closed.
        timeout_s: until the frame's turn.
    """
    return closed.wait(timeout_s)


def open_in_step(path: str | Path, *, speed: float = 1.0) -> dict[str, McapCamera]:
    """All cameras of a recording, by name, which are played by one clock. Each is read in a thread of its own.

    Args:
        path: of the .mcap file.
        speed: 1 is the recorded pace.

    Raises:
        CameraError: the speed is out of range.
        FormatError: the file is no recording.
        MissingDependencyError: a package of the extra "recording" is not installed.
    """
    if not 0 < speed < math.inf:
        raise CameraError(f"{path}: speed must be a number above 0, found {speed}")
    clock = PlaybackClock(speed)
    with McapRecording(path) as recording:
        names = recording.cameras
    return {name: McapCamera(path, name=name, clock=clock) for name in names}
