"""What became of every frame: counters and events."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class DropReason(StrEnum):
    """Why a frame was lost."""

    SENSOR_GAP = "sensor gap"  # the camera never delivered it: its number is missing, or the driver says so
    NOT_RENDERED = "not rendered"  # the source could not make it in time, as a simulation on a slow machine
    QUEUE_FULL = "queue full"  # a newer frame replaced it before the model was free
    STALE = "stale"  # it was older than `max_age_s`
    CORRUPTED = "corrupted"  # the camera says that its data is damaged or incomplete
    ENGINE_ERROR = "engine error"  # the runtime failed on it
    SINK_SLOW = "sink slow"  # a newer result replaced it before the consumer or sink took it
    STOPPED = "stopped"  # it was in flight when the pipeline stopped or failed


class PipelineState(StrEnum):
    """What a pipeline does."""

    IDLE = "idle"  # never started
    STARTING = "starting"  # no frame has arrived yet
    RUNNING = "running"
    STALLED = "stalled"  # a stage does not respond: a call of a camera, a runtime or a callback takes too long
    RECOVERING = "recovering"  # the camera failed and is being opened again
    ENDED = "ended"  # the camera has no more frames
    FAILED = "failed"  # with an error, which every consumer gets
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class FramesDropped:
    """Frames that a consumer will not get.

    Attributes:
        consumer: its name.
        cause: the reason.
        sequence: number of the first of them at the sensor.
        frames: how many consecutive frames there are.
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
        state: the new one.
        reason: for a change that was not planned, in words; empty otherwise.
        time_ns: when it changed, CLOCK_MONOTONIC.
    """

    state: PipelineState
    reason: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class MetadataIgnored:
    """A camera reports something that cannot be used, see `edge_isp.frame_check`; once per source and field.

    Attributes:
        source: of the frame.
        name: the field of `RawFrame`.
        reason: what was expected, what was found, and what follows from it, in words.
        sequence: number of the first frame with it.
        time_ns: when it was noticed, CLOCK_MONOTONIC.
    """

    source: str
    name: str
    reason: str
    sequence: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class DeadlineMissed:
    """A consumer with `max_age_s` has no result that is young enough; once, until it gets one again.

    Attributes:
        consumer: its name.
        max_age_s: that the consumer was promised.
        age_ns: of the newest result that it got, or of its first frame if it has got none.
        time_ns: when it was noticed, CLOCK_MONOTONIC.
    """

    consumer: str
    max_age_s: float
    age_ns: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class WallClockStepped:
    """The wall clock was set: `timestamp_realtime_ns` of later results follows it. Ages do not change.

    Attributes:
        step_ns: by how much, in nanoseconds; positive where it was set forward.
        time_ns: when it was noticed, CLOCK_MONOTONIC.
    """

    step_ns: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class DelegateChange:
    """Something happened to an NPU: it was refused, chosen, late, dropped or restored.

    Attributes:
        model: the name of the model that it is for.
        kind: see `EngineEvent`.
        delegate: its name.
        reason: in words.
        time_ns: when it was noticed, CLOCK_MONOTONIC.
    """

    model: str
    kind: str
    delegate: str
    reason: str
    time_ns: int


Event = FramesDropped | StateChange | MetadataIgnored | DeadlineMissed | WallClockStepped | DelegateChange


def event_message(event: Event) -> dict[str, Any]:
    """An event as a message of a recording, see docs/recording.md.

    Args:
        event: of a pipeline.
    """
    match event:
        case FramesDropped():
            return {
                "kind": "frames dropped",
                "time_ns": event.time_ns,
                "reason": str(event.cause),
                "sequence": event.sequence,
                "frames": event.frames,
                "consumer": event.consumer,
            }
        case StateChange():
            reason = f"{event.state}: {event.reason}" if event.reason else str(event.state)
            return {"kind": "state", "time_ns": event.time_ns, "reason": reason}
        case MetadataIgnored():
            return {
                "kind": "metadata ignored",
                "time_ns": event.time_ns,
                "reason": event.reason,
                "sequence": event.sequence,
            }
        case DeadlineMissed():
            reason = f"the newest result is {event.age_ns / 1e6:.1f} ms old, max_age_s is {event.max_age_s:g}"
            return {
                "kind": "deadline missed",
                "time_ns": event.time_ns,
                "reason": reason,
                "consumer": event.consumer,
            }
        case WallClockStepped():
            reason = f"the wall clock was set by {event.step_ns / 1e9:.3f} s"
            return {"kind": "wall clock stepped", "time_ns": event.time_ns, "reason": reason}
        case DelegateChange():
            reason = f"{event.model}: '{event.delegate}' {event.kind}: {event.reason}"
            return {"kind": "delegate", "time_ns": event.time_ns, "reason": reason}


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """What became of the frames for one consumer, since it was added. At every moment
    `frames == delivered + skipped + sum(dropped.values()) + in_flight`.

    Attributes:
        frames: that the sensor made: delivered by the camera or lost before.
        delivered: results that the consumer got.
        skipped: frames that the consumer did not ask for, see `every`.
        dropped: number of dropped frames by reason; reasons without a frame are left out.
        in_flight: frames between the camera and the consumer.
    """

    frames: int
    delivered: int
    skipped: int
    dropped: Mapping[DropReason, int]
    in_flight: int

    def __sub__(self, earlier: FrameCounts) -> FrameCounts:
        """What was counted since then; `in_flight` is how many more are in flight."""
        dropped = {c: n - earlier.dropped.get(c, 0) for c, n in self.dropped.items()}
        return FrameCounts(
            self.frames - earlier.frames,
            self.delivered - earlier.delivered,
            self.skipped - earlier.skipped,
            {cause: n for cause, n in dropped.items() if n},
            self.in_flight - earlier.in_flight,
        )


class Account:
    """Counts the frames of one consumer, and reports those that are dropped. Safe to use from several threads.

    Args:
        consumer: its name.
        report: called with each `FramesDropped`.
        now_ns: the time, CLOCK_MONOTONIC.
    """

    def __init__(self, consumer: str, report: Callable[[Event], None], now_ns: Callable[[], int]) -> None:
        self._consumer, self._report, self._now_ns = consumer, report, now_ns
        self._lock = threading.Lock()
        self._frames = self._delivered = self._skipped = self._in_flight = 0
        self._dropped: Counter[DropReason] = Counter()

    def enter(self) -> None:
        """A frame is in flight."""
        with self._lock:
            self._frames += 1
            self._in_flight += 1

    def deliver(self) -> None:
        """A frame has arrived."""
        with self._lock:
            self._in_flight -= 1
            self._delivered += 1

    def skip(self) -> None:
        """A frame in flight was not asked for."""
        with self._lock:
            self._in_flight -= 1
            self._skipped += 1

    def drop(self, cause: DropReason, sequence: int) -> None:
        """A frame in flight is dropped.

        Args:
            cause: the reason.
            sequence: the frame's number.
        """
        with self._lock:
            self._in_flight -= 1
            self._dropped[cause] += 1
        self._report(FramesDropped(self._consumer, cause, sequence, 1, self._now_ns()))

    def miss(self, reason: DropReason, sequence: int, frames: int) -> None:
        """Frames never came from the camera.

        Args:
            reason: why not.
            sequence: number of the first of them.
            frames: how many there are.
        """
        with self._lock:
            self._frames += frames
            self._dropped[reason] += frames
        self._report(FramesDropped(self._consumer, reason, sequence, frames, self._now_ns()))

    def counts(self) -> FrameCounts:
        """All counters at one moment."""
        with self._lock:
            return FrameCounts(self._frames, self._delivered, self._skipped, dict(self._dropped), self._in_flight)
