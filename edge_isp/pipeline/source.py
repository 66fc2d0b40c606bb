"""A camera that is opened again when it fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import cast

from edge_isp.cameras.base import Adjustable, Camera, ControlLimits, Controls
from edge_isp.errors import CameraDisconnectedError, CameraError, EdgeIspError, PipelineError
from edge_isp.frame import RawFrame
from edge_isp.pipeline.allocator import give_back_free_memory
from edge_isp.pipeline.arrival import Arrival
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.drops import Event, PipelineState
from edge_isp.pipeline.reconnect import ReconnectPolicy
from edge_isp.pipeline.watchdog import Calls, Heartbeat

_log = logging.getLogger(__name__)

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

    Any exception of a camera that can be opened again, SystemExit included, is a failure of that camera: of opening,
    reading, setting or closing it, or of giving a frame back. The camera of a recording is not opened again: the frames
    before the failure would come twice.

    Args:
        camera: that is open; it cannot be opened again, so its failure ends the stream. None where `open_camera` is
            given.
        open_camera: opens the camera, whenever that is needed; None where `camera` is given.
        reconnect: when to give up, and how long to wait.
        clock: the pipeline's.
        report: called with each state and the reason for it.
        report_event: called with each `MetadataIgnored`.
        failed: called with an error that ends the stream, where no `read` can raise it.
        stop: ends the waiting.
        taps: called with each frame as the camera gave it, before it is checked; they must not raise.

    Attributes:
        camera: the one that is open, or None.
        heartbeat: shows since when the camera has been asked for something.
        releases: the heartbeats of frames that are being given back, in any thread.
        restarts: how many times it was opened again.
    """

    def __init__(
        self,
        camera: Camera | None,
        open_camera: Callable[[], Camera] | None,
        *,
        reconnect: ReconnectPolicy,
        clock: Clock,
        report: Callable[[PipelineState, str], None],
        report_event: Callable[[Event], None],
        failed: Callable[[BaseException], None],
        stop: threading.Event,
        taps: Sequence[Callable[[RawFrame], object]] = (),
    ) -> None:
        self._taps = taps
        self.camera, self._opener = camera, open_camera
        self._reconnect, self._clock = reconnect, clock
        # A read returns after `stall_s`; one that takes twice as long does not respond.
        self.heartbeat = Heartbeat("camera", 2 * reconnect.stall_s)
        self._closes = Calls("camera: close", 2 * reconnect.stall_s, clock.now_ns)
        self.releases = Calls("camera: release", 2 * reconnect.stall_s, clock.now_ns)
        self._report, self._failed, self._stop = report, failed, stop
        self._arrival = Arrival(report_event, clock.now_ns)
        self._closing = threading.Lock()  # of `camera`
        self._interrupted = False
        self._release_error: Exception | None = None
        self.restarts = 0
        self._failures = 0  # in succession

    def heartbeats(self) -> list[Heartbeat]:
        """Of everything that a camera may hang in."""
        return [self.heartbeat, *self.releases.heartbeats(), *self._closes.heartbeats()]

    @property
    def live(self) -> bool:
        """Whether frames come at the camera's own pace, and are lost if nobody takes them."""
        return bool(getattr(self.camera, "live", True))

    @property
    def can_reopen(self) -> bool:
        """Whether a camera that fails is opened again."""
        return self._opener is not None and self.live

    def start(self) -> None:
        """Opens the camera, if it is the source that opens it.

        Raises:
            CameraError: it cannot be opened.
            EdgeIspError: another one that the function raises which opens it.
            PipelineError: what it returns is no camera.
        """
        if self._opener is None or self.camera is not None:
            return
        self.heartbeat.begin(self._clock.now_ns(), self._reconnect.prepare_s)
        try:
            self.camera = self._opened(self._opener)
        except (EdgeIspError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise CameraError(f"the camera cannot be opened: {type(error).__name__}: {error}") from error
        finally:
            self.heartbeat.rest()

    def read(self) -> tuple[RawFrame, int] | None:
        """The next frame and how many were lost before it; None at the end, or when the source was stopped.

        Raises:
            Exception: the camera has failed and cannot be opened again.
        """
        while not self._stop.is_set():
            try:
                frame = self._read()
                if frame is None:
                    self._raise_pending()
                    return None
                arrived = self._arrival.check(frame, live=self.live)
            except BaseException as raised:  # noqa: BLE001 - a camera may raise anything
                if self._stop.is_set():
                    return None
                error = _failure(raised)
                if not self.failed(error):
                    raise error from error.__cause__
                continue
            finally:
                self.heartbeat.rest()
            self._failures = 0
            return arrived
        return None

    def _read(self) -> RawFrame | None:
        self._raise_pending()
        camera = self.camera or self._reopen()
        if camera is None:
            return None
        self.heartbeat.begin(self._clock.now_ns())
        frame = camera.read(timeout_s=self._reconnect.stall_s if self.live else None)
        if frame is None and self._interrupted:
            self._raise_pending()
        if isinstance(frame, RawFrame):
            for tap in self._taps:
                tap(frame)
        return frame

    def _raise_pending(self) -> None:
        """Raises what was noticed in another thread."""
        error, self._release_error = self._release_error, None
        if self._interrupted:
            self._interrupted = False
            raise CameraError(f"the camera did not respond within the {self._reconnect.stall_s} s that it was given")
        if error is not None:
            raise error

    def interrupt(self) -> None:
        """Closes a camera that does not respond, if it can be opened again."""
        if self.can_reopen and self.camera is not None and not self._stop.is_set() and not self._interrupted:
            self._interrupted = True
            self._close_quietly()

    def stop(self) -> None:
        """Closes the camera, if `start` can open it again."""
        if self._opener is not None:
            self._close_quietly()

    def close(self) -> None:
        """Closes the camera; a `read` that waits returns.

        Raises:
            Exception: of a camera that the pipeline has not opened itself.
        """
        if self._opener is not None:
            self._close_quietly()
        elif (camera := self._taken()) is not None:
            camera.close()

    def settings(self) -> Adjustable | None:
        """The camera's settings, whose failures are CameraErrors; None while no camera is open."""
        camera = self.camera
        return None if camera is None else _Settings(camera)

    def failed(self, error: Exception) -> bool:
        """Closes a camera that has failed.

        Args:
            error: that it failed with.

        Returns:
            Whether the next `read` opens it again.
        """
        self._failures += 1
        attempts = self._reconnect.attempts
        if not self.can_reopen or (attempts is not None and self._failures > attempts):
            return False
        reason = str(error) if isinstance(error, EdgeIspError) else f"{type(error).__name__}: {error}"
        _log.warning("the camera failed, it will be opened again: %s", reason)
        self._report(PipelineState.RECOVERING, reason)
        self._close_quietly()
        return True

    def release_failed(self, camera: Camera | None, error: BaseException) -> None:
        """A frame could not be given back: its camera has failed.

        Args:
            camera: that delivered the frame.
            error: of the frame's `release`.
        """
        if not self.can_reopen or isinstance(error, KeyboardInterrupt):
            self._failed(error if isinstance(error, KeyboardInterrupt) else _failure(error))
        elif camera is not self.camera:
            _log.warning("a frame of a camera that is closed could not be given back: %s", error)
        else:
            self._release_error = _failure(error)  # raised by the next `read`, in the thread of the camera

    def _reopen(self) -> Camera | None:
        """The camera, opened again after a wait; None if the wait was stopped."""
        wait_s = self._reconnect.first_wait_s * 2 ** min(max(self._failures - 1, 0), 32)
        if self._opener is None or self._clock.wait(self._stop, min(wait_s, self._reconnect.longest_wait_s)):
            return None
        self.heartbeat.begin(self._clock.now_ns(), self._reconnect.prepare_s)
        camera = self._opened(self._opener)
        self._arrival.restart()
        self._interrupted, self._release_error = False, None
        self.camera = camera
        if self._stop.is_set():  # stopped in the meantime, when there was nothing to close
            self._close_quietly()
            return None
        self.restarts += 1
        give_back_free_memory()
        return camera

    def _taken(self) -> Camera | None:
        """The camera, for the one caller that closes it."""
        with self._closing:
            camera, self.camera = self.camera, None
        return camera

    def _close_quietly(self) -> None:
        """Closes a camera that was opened here: where that fails, it is broken, and nobody can do anything about it."""
        camera = self._taken()
        if camera is None:
            return
        try:
            with self._closes.call():
                camera.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a camera may raise anything
            _log.warning("the camera could not be closed: %s: %s", type(error).__name__, error)

    @staticmethod
    def _opened(opener: Callable[[], Camera]) -> Camera:
        camera = opener()
        if not _is_camera(camera):
            raise PipelineError(
                f"camera: {getattr(opener, '__name__', opener)} must return a camera (with `read` and `close`), "
                f"returned {type(camera).__name__}"
            )
        return camera


class _Settings:
    """A camera's settings; what it raises is a CameraError, so that it is told from an error of metering."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera

    @property
    def limits(self) -> ControlLimits:
        """See `Camera.limits`."""
        with _camera_errors():
            return self._camera.limits

    def control(self, controls: Controls) -> None:
        """See `Camera.control`."""
        with _camera_errors():
            self._camera.control(controls)


def _failure(raised: BaseException) -> Exception:
    """What a camera raised, as an exception that a consumer can get: SystemExit would end its process."""
    if isinstance(raised, Exception):
        return raised
    error = CameraError(f"the camera raised {type(raised).__name__}: {raised}")
    error.__cause__ = raised
    return error


@contextmanager
def _camera_errors() -> Iterator[None]:
    """What a driver raises while it is set: it has failed, unlike a camera that cannot be set (a CameraError)."""
    try:
        yield
    except CameraError:
        raise
    except BaseException as error:
        raise CameraDisconnectedError(f"the camera cannot be set: {type(error).__name__}: {error}") from error
