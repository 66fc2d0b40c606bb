"""What became of every frame: counters and events."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class DropReason(StrEnum):
    """Why a frame was lost."""

    SENSOR_GAP = "sensor gap"  # the camera never delivered it: its number is missing, or the driver says so
    NOT_RENDERED = "not rendered"  # the source could not make it in time, as a simulation on a slow machine
    QUEUE_FULL = "hand-over full"  # a newer frame took its place before the model was free
    STALE = "stale"  # it was older than `max_age_s`
    CORRUPTED = "corrupted"  # the camera says that its data is damaged, or not all there
    ENGINE_ERROR = "engine error"  # the runtime failed on it
    SINK_SLOW = "sink slow"  # its result was not taken before a newer one came
    STOPPED = "stopped"  # it was on its way when the pipeline stopped or failed


class PipelineState(StrEnum):
    """What a pipeline does."""

    IDLE = "idle"  # never started
    STARTING = "starting"  # no frame came yet
    RUNNING = "running"
    STALLED = "stalled"  # a stage does not come back: a camera's, runtime's or callback's call takes too long
    RECOVERING = "recovering"  # the camera failed and is opened again
    ENDED = "ended"  # the camera has no more frames
    FAILED = "failed"  # with an error, which every consumer gets
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class FramesDropped:
    """Frames that a consumer will not get.

    Attributes:
        consumer: its name.
        cause: why.
        sequence: number of the first of them at the sensor.
        frames: how many there are, one after the other.
        time_ns: when it was noticed, CLOCK_MONOTONIC.
    """

    consumer: str
    cause: DropReason
    sequence: int
    frames: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """A pipeline's state changed.

    Attributes:
        state: which it is now.
        reason: why, as a sentence; empty where it goes as planned.
        time_ns: when, CLOCK_MONOTONIC.
    """

    state: PipelineState
    reason: str
    time_ns: int


Event = FramesDropped | StateChange


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """What became of the frames for one consumer, since it was made. At every moment
    `frames == delivered + skipped + sum(dropped.values()) + in_flight`.

    Attributes:
        frames: that the sensor made: what the camera delivered, and what it lost.
        delivered: results that were handed to the consumer.
        skipped: frames that it did not ask for, see `every`.
        dropped: by cause; causes without a frame are left out.
        in_flight: on their way.
    """

    frames: int
    delivered: int
    skipped: int
    dropped: Mapping[DropReason, int]
    in_flight: int

    def __sub__(self, earlier: FrameCounts) -> FrameCounts:
        """What was counted since; `in_flight` is how many more are on their way."""
        dropped = {c: n - earlier.dropped.get(c, 0) for c, n in self.dropped.items()}
        return FrameCounts(
            self.frames - earlier.frames,
            self.delivered - earlier.delivered,
            self.skipped - earlier.skipped,
            {cause: n for cause, n in dropped.items() if n},
            self.in_flight - earlier.in_flight,
        )


class Account:
    """FrameCounts the frames of one consumer, and tells of its losses. To be used from many threads."""

    def __init__(self, consumer: str, tell: Callable[[Event], None], now_ns: Callable[[], int]) -> None:
        self._consumer, self._tell, self._now_ns = consumer, tell, now_ns
        self._lock = threading.Lock()
        self._frames = self._delivered = self._skipped = self._in_flight = 0
        self._dropped: Counter[DropReason] = Counter()

    def enter(self) -> None:
        """A frame is on its way."""
        with self._lock:
            self._frames += 1
            self._in_flight += 1

    def deliver(self) -> None:
        """A frame has arrived."""
        with self._lock:
            self._in_flight -= 1
            self._delivered += 1

    def skip(self) -> None:
        """A frame was not asked for."""
        with self._lock:
            self._in_flight -= 1
            self._skipped += 1

    def drop(self, cause: DropReason, sequence: int) -> None:
        """A frame that was on its way is lost."""
        with self._lock:
            self._in_flight -= 1
            self._dropped[cause] += 1
        self._tell(FramesDropped(self._consumer, cause, sequence, 1, self._now_ns()))

    def miss(self, cause: DropReason, sequence: int, frames: int) -> None:
        """Frames never came from the camera."""
        with self._lock:
            self._frames += frames
            self._dropped[cause] += frames
        self._tell(FramesDropped(self._consumer, cause, sequence, frames, self._now_ns()))

    def counts(self) -> FrameCounts:
        """All counters at one moment."""
        with self._lock:
            return FrameCounts(self._frames, self._delivered, self._skipped, dict(self._dropped), self._in_flight)
