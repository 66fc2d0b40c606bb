"""Frames of several cameras that belong together, by the time of their sensors."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self

from edge_isp.errors import CameraTimeoutError, PipelineError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.pipeline.pipeline import Pipeline
from edge_isp.pipeline.synchroniser import Synchroniser

# Frames of a camera that wait for those of the others.
_CAPACITY = 8
# Between two looks at whether the pairing was closed, in seconds.
_READ_S = 0.2


class UnpairedReason(StrEnum):
    """Why a frame has no partners."""

    PARTNER_LOST = "partner lost"  # another camera has lost the frame of this moment: its numbers have a gap there
    OUT_OF_TOLERANCE = "out of tolerance"  # no frame of another camera is near enough
    PARTNER_SILENT = "partner silent"  # another camera delivers nothing
    BAD_TIMESTAMP = "bad time stamp"  # the time stamp of this frame says nothing
    STOPPED = "stopped"  # it was waiting when the first of the cameras ended


class Stamped(Protocol):
    """What is paired: `FrameResult` or `RawFrame`."""

    @property
    def sequence(self) -> int:
        """Number at its source."""
        ...

    @property
    def timestamp_ns(self) -> int:
        """Start of exposure, CLOCK_MONOTONIC."""
        ...

    @property
    def status(self) -> FrameStatus:
        """What is wrong with it."""
        ...


@dataclass(frozen=True, slots=True)
class FramePair:
    """Frames, or their results, of the same moment: one of each camera.

    Attributes:
        items: in the order of the cameras.
    """

    items: tuple[Any, ...]

    @property
    def spread_ns(self) -> int:
        """Nanoseconds between the first and the last start of exposure."""
        stamps: list[int] = [item.timestamp_ns for item in self.items]
        return max(stamps) - min(stamps)


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A frame that has no partners.

    Attributes:
        camera: index of its camera.
        item: the frame, or its result.
        reason: why not.
    """

    camera: int
    item: Any
    reason: UnpairedReason


class FramePairer:
    """Pairs frames as they come: those whose exposures began within `tolerance_ns` of each other. Frames of one camera
    come in order.

    The tolerance is to be less than half the frame period; where it is not, and two frames of a camera that have
    arrived are near enough, the nearer one is taken. Not safe to use from several threads.

    Args:
        cameras: number of cameras, at least 2.
        tolerance_ns: between the first and the last start of exposure.

    Raises:
        PipelineError: there are less than two cameras, or the tolerance is negative.
    """

    def __init__(self, cameras: int, tolerance_ns: int) -> None:
        if cameras < 2:
            raise PipelineError(f"frames are paired of at least 2 cameras, found {cameras}")
        if tolerance_ns < 0:
            raise PipelineError(f"the tolerance must be at least 0, found {tolerance_ns} ns")
        self._tolerance_ns = tolerance_ns
        self._waiting: list[deque[Any]] = [deque() for _ in range(cameras)]
        self._sequences: list[int | None] = [None] * cameras  # of the newest frame
        self._gaps: list[deque[tuple[float, float]]] = [deque(maxlen=4 * _CAPACITY) for _ in range(cameras)]
        self._stamps: list[float] = [-math.inf] * cameras

    def add(self, camera: int, item: Stamped) -> list[FramePair | Unpaired]:
        """Adds a frame.

        Args:
            camera: index of its camera.
            item: the frame, or its result.

        Returns:
            What is decided by it.
        """
        if FrameStatus.BAD_TIMESTAMP in item.status or item.timestamp_ns <= self._stamps[camera]:
            return [Unpaired(camera, item, UnpairedReason.BAD_TIMESTAMP)]
        before = self._sequences[camera]
        if FrameStatus.GAP in item.status or (before is not None and item.sequence != before + 1):
            self._gaps[camera].append((self._stamps[camera], item.timestamp_ns))
        self._sequences[camera], self._stamps[camera] = item.sequence, item.timestamp_ns
        self._waiting[camera].append(item)
        decided: list[FramePair | Unpaired] = []
        while all(self._waiting):
            decided.append(self._decide())
        if len(self._waiting[camera]) > _CAPACITY:
            decided.append(Unpaired(camera, self._waiting[camera].popleft(), UnpairedReason.PARTNER_SILENT))
        return decided

    def waiting(self, camera: int) -> int:
        """How many frames of a camera wait for those of the others.

        Args:
            camera: index of the camera.
        """
        return len(self._waiting[camera])

    def end(self) -> list[FramePair | Unpaired]:
        """No more frames will come of one of the cameras.

        Returns:
            All that wait.
        """
        left: list[FramePair | Unpaired] = [
            Unpaired(camera, item, UnpairedReason.STOPPED)
            for camera, waiting in enumerate(self._waiting)
            for item in waiting
        ]
        for waiting in self._waiting:
            waiting.clear()
        return left

    def _decide(self) -> FramePair | Unpaired:
        """Of the oldest frame of each camera: they are a pair, or the oldest of them has no partners."""
        heads = [waiting[0].timestamp_ns for waiting in self._waiting]
        newest = max(heads)
        oldest = heads.index(min(heads))
        if newest - heads[oldest] <= self._tolerance_ns and not self._has_a_nearer(oldest, newest):
            return FramePair(tuple(waiting.popleft() for waiting in self._waiting))
        item = self._waiting[oldest].popleft()
        # The others' frames are all later: one that was lost would have been the partner.
        lost = any(
            start - self._tolerance_ns < item.timestamp_ns < end + self._tolerance_ns
            for camera, gaps in enumerate(self._gaps)
            if camera != oldest
            for start, end in gaps
        )
        return Unpaired(oldest, item, UnpairedReason.PARTNER_LOST if lost else UnpairedReason.OUT_OF_TOLERANCE)

    def _has_a_nearer(self, camera: int, time_ns: int) -> bool:
        """Whether the next frame of a camera is nearer to a time than its oldest one."""
        waiting = self._waiting[camera]
        return len(waiting) > 1 and abs(waiting[1].timestamp_ns - time_ns) < time_ns - waiting[0].timestamp_ns


class Readable(Protocol):
    """A camera, a pipeline or one of its consumers."""

    def read(self, timeout_s: float | None = None) -> Any:
        """The next frame or result; None after the last."""
        ...


class Pairs:
    """The pairs of several cameras; an iterator and a context manager. Made by `pair`.

    Args:
        sources: see `pair`.
        tolerance_s: see `pair`.
        on_unpaired: see `pair`.
        synchronise_fps: see `pair`.

    Raises:
        PipelineError: see `pair`.
    """

    def __init__(
        self,
        sources: Sequence[Readable],
        tolerance_s: float,
        on_unpaired: Callable[[Unpaired], object] | None,
        synchronise_fps: float | None,
    ) -> None:
        if not 0 <= tolerance_s < math.inf:
            raise PipelineError(f"tolerance_s must be a number of seconds, at least 0, found {tolerance_s}")
        self._pairer = FramePairer(len(sources), round(tolerance_s * 1e9))
        self._sources, self._on_unpaired = sources, on_unpaired
        self._synchroniser = None if synchronise_fps is None else Synchroniser(sources, synchronise_fps)
        self._changed = threading.Condition()
        self._pairs: deque[FramePair] = deque()
        self._unpaired: list[Counter[UnpairedReason]] = [Counter() for _ in sources]
        self._paired = self._lost = 0
        self._error: BaseException | None = None
        self._ended = False
        self._finished: set[int] = set()  # cameras that have ended
        self._threads: list[threading.Thread] = []

    @property
    def paired(self) -> int:
        """How many pairs there were."""
        with self._changed:
            return self._paired

    @property
    def lost(self) -> int:
        """How many pairs of cameras were lost, because they were not taken in time."""
        with self._changed:
            return self._lost

    @property
    def unpaired(self) -> tuple[Mapping[UnpairedReason, int], ...]:
        """How many frames of each camera have no partners, by reason."""
        with self._changed:
            return tuple(dict(counts) for counts in self._unpaired)

    @property
    def phase_errors_ns(self) -> tuple[float | None, ...]:
        """By how many nanoseconds the last exposure of each camera began after the first camera's nearest one, where
        `pair` synchronises them; None for the first camera and for one that is not driven."""
        if self._synchroniser is None:
            return (None,) * len(self._sources)
        return self._synchroniser.errors_ns

    def __iter__(self) -> Iterator[FramePair]:
        self._start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pairs or self._ended)
                if not self._pairs:
                    break
                found = self._pairs.popleft()
                self._changed.notify_all()
            yield found
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ends the pairing; the cameras stay open. Idempotent."""
        self._end(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        if self._threads:
            return
        for camera in range(len(self._sources)):
            name = f"edge_isp pairing {camera}"
            self._threads.append(threading.Thread(target=self._read_all, args=(camera,), name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def _read_all(self, camera: int) -> None:
        """In a thread of its own for each source."""
        source = self._sources[camera]
        try:
            while not self._ended:
                try:
                    item = source.read(_READ_S)
                except (TimeoutError, CameraTimeoutError):
                    continue
                if item is None:
                    break
                if self._synchroniser is not None:
                    self._synchroniser.noted(camera, item)
                self._add(camera, _owned(item), waits=not _is_live(source))
        except BaseException as error:  # noqa: BLE001 - the iteration raises it
            self._end(error)
        else:
            with self._changed:
                self._finished.add(camera)
            self._end_if_over()

    def _end_if_over(self) -> None:
        """Ends where a camera has ended and none of its frames wait: there can be no more pairs."""
        with self._changed:
            if not any(self._pairer.waiting(camera) == 0 for camera in self._finished):
                return
        self._end(None)

    def _add(self, camera: int, item: Any, *, waits: bool) -> None:
        """Adds a frame; of a recording, only when its partners and the user have come as far."""
        with self._changed:
            if waits:
                self._changed.wait_for(lambda: self._ended or self._has_room(camera))
            if self._ended:
                self._note([Unpaired(camera, item, UnpairedReason.STOPPED)])
                return
            self._note(self._pairer.add(camera, item))
            self._changed.notify_all()
        self._end_if_over()

    def _has_room(self, camera: int) -> bool:
        return len(self._pairs) < _CAPACITY and self._pairer.waiting(camera) < _CAPACITY

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
                self._note(self._pairer.end())
            self._changed.notify_all()

    def _note(self, decided: list[FramePair | Unpaired]) -> None:
        for found in decided:
            if isinstance(found, FramePair):
                self._paired += 1
                self._pairs.append(found)
                if len(self._pairs) > 2 * _CAPACITY:  # of cameras: the user is too slow
                    self._pairs.popleft()
                    self._lost += 1
            else:
                self._unpaired[found.camera][found.reason] += 1
                if self._on_unpaired is not None:
                    self._on_unpaired(found)


def pair(
    sources: Sequence[Readable],
    *,
    tolerance_s: float,
    on_unpaired: Callable[[Unpaired], object] | None = None,
    synchronise_fps: float | None = None,
) -> Pairs:
    """Frames of several cameras that were exposed at the same moment, or the results of several pipelines.

        with pair([left, right], tolerance_s=0.005) as pairs:
            for found in pairs:
                use(*found.items)

    It ends when one of the cameras ends and its last frames are decided, and raises the error of one that fails. RAW
    frames are copied, so that no camera waits for its buffers.

    Args:
        sources: cameras, pipelines or consumers; at least 2.
        tolerance_s: longest time between the first and the last start of exposure, less than half the frame period.
        on_unpaired: called with each frame that has no partners, in threads of the pairing.
        synchronise_fps: nominal frame rate of all cameras, which are then brought to expose together: the frame rate of
            each but the first is changed by up to 1 %. Cameras that a driver synchronises are left to it, those whose
            frame rate cannot be set are left alone. None changes nothing.

    Raises:
        PipelineError: there are less than two sources, the tolerance is not a number of seconds, or `synchronise_fps`
            is not a positive number, or is given for what is neither a camera nor a pipeline.
    """
    return Pairs(sources, tolerance_s, on_unpaired, synchronise_fps)


def _owned(item: Any) -> Any:
    """A frame with data of its own; a result as it is."""
    if not isinstance(item, RawFrame):
        return item
    with item:
        return item.copy()


def _is_live(source: Any) -> bool:
    """Whether frames come at a camera's own pace."""
    return bool(getattr(source.consumers[0] if isinstance(source, Pipeline) else source, "live", True))
