"""A camera that is opened again when it fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import cast

from edge_isp.cameras.base import Camera
from edge_isp.errors import CameraError, FormatError, PipelineError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.drops import PipelineState
from edge_isp.pipeline.reconnect import ReconnectPolicy
from edge_isp.pipeline.watchdog import Heartbeat

_log = logging.getLogger(__name__)

# Failures after which a camera is opened again: unplugged, silent, damaged data, a driver's error.
_FAILURES = (CameraError, FormatError, OSError)

_EXPECTED = "a camera (with `read` and `close`), or a function or class that opens one, such as lambda: V4l2Camera()"


def camera_or_opener(camera: object) -> tuple[Camera | None, Callable[[], Camera] | None]:
    """Tells a camera that is open from a function, or a class, that opens one.

    Args:
        camera: one of these.

    Returns:
        The camera and None, or None and the function.

    Raises:
        PipelineError: it is neither, or the function needs arguments.
    """
    if _is_camera(camera):
        return cast(Camera, camera), None
    if not callable(camera):
        hint = "; edge_isp.open_camera opens a camera by its specification" if isinstance(camera, str | Path) else ""
        raise PipelineError(f"camera must be {_EXPECTED}, found {type(camera).__name__} {str(camera)!r}{hint}")
    try:
        signature(camera).bind()
    except ValueError:
        pass  # a function of an extension module whose signature nobody knows
    except TypeError as error:
        name = getattr(camera, "__name__", repr(camera))
        raise PipelineError(
            f"camera: {name} is called without arguments, but: {error}; give a function that opens it, such as "
            f"lambda: {name}(...)"
        ) from error
    return None, cast(Callable[[], Camera], camera)


def _is_camera(value: object) -> bool:
    """Whether it is an instance with the methods that every camera has."""
    return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in ("read", "close"))


class Source:
    """Frames of a camera, which is opened again when it fails, if a function is given that opens it.

    Args:
        camera: that is open; it cannot be opened again, so its failure ends the stream. None where `open_camera` is
            given.
        open_camera: opens the camera, whenever that is needed; None where `camera` is given.
        reconnect: when to give up, and how long to wait.
        clock: the pipeline's.
        heartbeat: shows since when the camera has been asked for a frame.
        report: called with each new state and the reason for it.
        stop: ends the waiting.

    Attributes:
        camera: the one that is open, or None.
        restarts: how many times it was opened again.
    """

    def __init__(
        self,
        camera: Camera | None,
        open_camera: Callable[[], Camera] | None,
        *,
        reconnect: ReconnectPolicy,
        clock: Clock,
        heartbeat: Heartbeat,
        report: Callable[[PipelineState, str], None],
        stop: threading.Event,
    ) -> None:
        self.camera, self._opener = camera, open_camera
        self._reconnect, self._clock, self._heartbeat = reconnect, clock, heartbeat
        self._report, self._stop = report, stop
        self._interrupted = False
        self.restarts = 0
        self._failures = 0  # in succession
        self._last: tuple[str, int] | None = None  # source and sequence

    @property
    def live(self) -> bool:
        """Whether frames come at the camera's own pace, and are lost if nobody takes them."""
        return bool(getattr(self.camera, "live", True))

    def start(self) -> None:
        """Opens the camera, if it is the source that opens it.

        Raises:
            CameraError: it cannot be opened.
            PipelineError: what was opened is no camera.
        """
        self._last = None
        if self.camera is None and self._opener is not None:
            self.camera = self._opened(self._opener)

    def read(self) -> tuple[RawFrame, int] | None:
        """The next frame, and how many were lost before it; None at the end, or when the source was stopped.

        Raises:
            CameraError, FormatError, OSError: the camera has failed and cannot be opened again.
        """
        while not self._stop.is_set():
            try:
                frame = self._read()
            except _FAILURES as error:
                if self._stop.is_set():
                    return None
                if not self.failed(error):
                    raise
                continue
            finally:
                self._heartbeat.rest()
            if frame is None:
                return None
            self._failures = 0
            return frame, self._missing(frame)
        return None

    def _read(self) -> RawFrame | None:
        camera = self.camera or self._reopen()
        if camera is None:
            return None
        self._heartbeat.begin(self._clock.now_ns())
        frame = camera.read(timeout_s=self._reconnect.stall_s if self.live else None)
        if frame is None and self._interrupted:
            self._interrupted = False
            raise CameraError(f"the camera did not respond within the {self._reconnect.stall_s} s that it was given")
        return frame

    def interrupt(self) -> None:
        """Closes a camera whose `read` does not return, if it can be opened again."""
        if self._opener is not None and not self._stop.is_set() and not self._interrupted:
            self._interrupted = True
            with suppress(*_FAILURES):
                self.close()

    def stop(self) -> None:
        """Closes the camera, if `start` can open it again."""
        if self._opener is not None:
            self.close()

    def close(self) -> None:
        """Closes the camera; a `read` that waits returns."""
        camera, self.camera = self.camera, None
        if camera is not None:
            camera.close()

    def failed(self, error: Exception) -> bool:
        """Closes a camera that has failed.

        Args:
            error: that it failed with.

        Returns:
            Whether the next `read` opens it again.
        """
        self._failures += 1
        attempts = self._reconnect.attempts
        if self._opener is None or not self.live or (attempts is not None and self._failures > attempts):
            return False
        _log.warning("the camera failed, it will be opened again: %s", error)
        self._report(PipelineState.RECOVERING, str(error))
        with suppress(*_FAILURES):  # it is broken already
            self.close()
        return True

    def _reopen(self) -> Camera | None:
        """The camera, opened again after a wait; None if the wait was stopped."""
        wait_s = self._reconnect.first_wait_s * 2 ** min(max(self._failures - 1, 0), 32)
        if self._opener is None or self._clock.wait(self._stop, min(wait_s, self._reconnect.longest_wait_s)):
            return None
        self._heartbeat.begin(self._clock.now_ns())
        camera = self._opened(self._opener)
        if self._stop.is_set():  # stopped in the meantime, when there was nothing to close
            camera.close()
            return None
        self.camera, self._last, self._interrupted = camera, None, False
        self.restarts += 1
        return camera

    @staticmethod
    def _opened(opener: Callable[[], Camera]) -> Camera:
        camera = opener()
        if not _is_camera(camera):
            raise PipelineError(
                f"camera: {getattr(opener, '__name__', opener)} must return a camera (with `read` and `close`), "
                f"returned {type(camera).__name__}"
            )
        return camera

    def _missing(self, frame: RawFrame) -> int:
        """How many frames were lost between the last one and this one: by their numbers, or one if the numbers are
        consecutive but the driver reports a gap. Nothing is known about frames before the first."""
        last, self._last = self._last, (frame.source, frame.sequence)
        if last is None or last[0] != frame.source or frame.sequence <= last[1]:
            return 0
        return max(frame.sequence - last[1] - 1, int(FrameStatus.GAP in frame.status))
