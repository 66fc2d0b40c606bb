"""A camera that is opened again when it fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from edge_isp.cameras.base import Camera
from edge_isp.errors import CameraError, FormatError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.drops import PipelineState
from edge_isp.pipeline.watchdog import Heartbeat

_log = logging.getLogger(__name__)

# What a camera may fail with and come back from: unplugged, silent, damaged data, a driver's error.
_FAILURES = (CameraError, FormatError, OSError)


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """How much may go wrong before a pipeline ends, and how it tries again.

    Attributes:
        stall_s: a camera that delivers nothing for so long has failed; a stage that takes so long is stalled.
        first_wait_s, longest_wait_s: before a camera is opened again; doubled from try to try.
        attempts: to open it, one after the other with no frame between; None tries for ever.
        engine_errors: frames in a row that the engine may fail on; None: any number. Of cameras only: a recording is
            not to be skipped over, so that its first engine error ends the pipeline.
    """

    stall_s: float = 5.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    attempts: int | None = None
    engine_errors: int | None = 30


class Source:
    """Frames of a camera, or of one camera after the other, each opened when the one before has failed.

    Args:
        camera: a camera, which cannot be opened again, so that its failure is the end; or a function that opens one.
        recovery: when to give up, and how long to wait.
        heartbeat: says since when the camera is being asked.
        tell: called with each new state and the reason for it.
        stop: ends the waiting.

    Attributes:
        camera: the one that is open, or None.
        restarts: how many times it was opened again.
    """

    def __init__(
        self,
        camera: Camera | Callable[[], Camera],
        recovery: ReconnectPolicy,
        clock: Clock,
        heartbeat: Heartbeat,
        tell: Callable[[PipelineState, str], None],
        stop: threading.Event,
    ) -> None:
        is_open = hasattr(camera, "read")
        self.camera = cast(Camera, camera) if is_open else None
        self._open = None if is_open else cast(Callable[[], Camera], camera)
        self._recovery, self._clock, self._heartbeat = recovery, clock, heartbeat
        self._tell, self._stop = tell, stop
        self._interrupted = False
        self.restarts = 0
        self._failures = 0  # in a row
        self._last: tuple[str, int] | None = None  # source and sequence

    @property
    def live(self) -> bool:
        """Whether frames come in their own time, and are lost where nobody takes them."""
        return bool(getattr(self.camera, "live", True))

    def start(self) -> None:
        """Opens the camera where it is ours to open.

        Raises:
            CameraError: it cannot be opened.
        """
        self._last = None
        if self.camera is None and self._open is not None:
            self.camera = self._open()

    def read(self) -> tuple[RawFrame, int] | None:
        """The next frame, and how many were lost before it; None at the end, or when it was stopped.

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
        frame = camera.read(timeout_s=self._recovery.stall_s if self.live else None)
        if frame is None and self._interrupted:
            self._interrupted = False
            raise CameraError(f"the camera did not answer, though it was asked for {self._recovery.stall_s} s at most")
        return frame

    def interrupt(self) -> None:
        """Gives up on a `read` that does not come back, where the camera can be opened again."""
        if self._open is not None and not self._stop.is_set() and not self._interrupted:
            self._interrupted = True
            with suppress(*_FAILURES):
                self.close()

    def stop(self) -> None:
        """Closes the camera where it is ours to open, so that `start` opens it anew."""
        if self._open is not None:
            self.close()

    def close(self) -> None:
        """Closes the camera; a `read` that waits comes back."""
        camera, self.camera = self.camera, None
        if camera is not None:
            camera.close()

    def failed(self, error: Exception) -> bool:
        """Lets a camera go that has failed.

        Returns:
            Whether there is hope: the next `read` opens it again.
        """
        self._failures += 1
        attempts = self._recovery.attempts
        if self._open is None or not self.live or (attempts is not None and self._failures > attempts):
            return False
        _log.warning("the camera failed, it will be opened again: %s", error)
        self._tell(PipelineState.RECOVERING, str(error))
        with suppress(*_FAILURES):  # it is broken already
            self.close()
        return True

    def _reopen(self) -> Camera | None:
        """The camera, opened again after a while; None where the waiting was stopped."""
        wait_s = self._recovery.first_wait_s * 2 ** min(max(self._failures - 1, 0), 32)
        if self._open is None or self._clock.wait(self._stop, min(wait_s, self._recovery.longest_wait_s)):
            return None
        self._heartbeat.begin(self._clock.now_ns())
        camera = self._open()
        if self._stop.is_set():  # stopped meanwhile, when there was nothing to close
            camera.close()
            return None
        self.camera, self._last, self._interrupted = camera, None, False
        self.restarts += 1
        return camera

    def _missing(self, frame: RawFrame) -> int:
        """How many frames were lost between the last one and this one: by their numbers, and where these follow each
        other but the driver says that there is a gap, one. Of frames before the first nothing is known."""
        last, self._last = self._last, (frame.source, frame.sequence)
        if last is None or last[0] != frame.source or frame.sequence <= last[1]:
            return 0
        return max(frame.sequence - last[1] - 1, int(FrameStatus.GAP in frame.status))
