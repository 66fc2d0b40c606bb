"""What can go wrong with a camera, written down in advance: the script of the synthetic camera's faults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_isp.errors import CameraError


@dataclass(frozen=True, slots=True)
class Drop:
    """`count` frames from number `frame` on are lost."""

    frame: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Late:
    """A frame arrives later than it should by `delay_ns`; its time stamp is right."""

    frame: int
    delay_ns: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """A frame has its first `size_bytes` only; what follows is the frame before, `FrameStatus.TRUNCATED` is set."""

    frame: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Corrupt:
    """The middle third of a frame's rows is noise, `FrameStatus.CORRUPTED` is set."""

    frame: int


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The camera goes in place of a frame: reading it, and every call after, raises `CameraDisconnectedError`.

    Opening a camera with the same script fails `failed_openings` times in the same way; then this frame is the next.
    """

    frame: int
    failed_openings: int = 0


@dataclass(frozen=True, slots=True)
class TimestampJump:
    """From a frame on time stamps are later by `by_ns`, or earlier where it is negative."""

    frame: int
    by_ns: int


@dataclass(frozen=True, slots=True)
class ExposureChange:
    """From a frame on it is exposed otherwise, as if another program had set it; None leaves a setting as it is."""

    frame: int
    exposure_ns: int | None = None
    analogue_gain: float | None = None


Fault = Drop | Late | Truncate | Corrupt | Disconnect | TimestampJump | ExposureChange


class FaultScript:
    """Faults of a synthetic camera, by the number of the frame that they strike.

    A script is that of a device, not of one opening: hand the same object to the camera that is opened after a
    `Disconnect`, and its frames go on where they stopped, each fault striking once. In order to see the same faults
    again, make another script.

    Args:
        faults: in any order; several may strike one frame.

    Raises:
        CameraError: a frame's number is negative, or what a fault says cannot be.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = tuple(faults)
        for fault in self._faults:
            amount = getattr(fault, "count", getattr(fault, "delay_ns", getattr(fault, "size_bytes", 0)))
            if fault.frame < 0 or amount < 0 or getattr(fault, "failed_openings", 0) < 0:
                raise CameraError(f"fault script: frame numbers and amounts must not be negative, found {fault}")
        self._dropped = {
            number
            for fault in self._faults
            if isinstance(fault, Drop)
            for number in range(fault.frame, fault.frame + fault.count)
        }
        self._done: set[Disconnect] = set()
        self._failures_to_come = 0
        self.next_frame = 0  # where the next opening goes on

    def of(self, frame: int) -> tuple[Fault, ...]:
        """Those that strike a frame."""
        return tuple(fault for fault in self._faults if fault.frame == frame)

    def dropped(self, frame: int) -> bool:
        """Whether a frame is lost."""
        return frame in self._dropped

    def offset_ns(self, frame: int) -> int:
        """How much later a frame's time stamp is than it should be."""
        jumps = (fault for fault in self._faults if isinstance(fault, TimestampJump))
        return sum(jump.by_ns for jump in jumps if jump.frame <= frame)

    def disconnects(self, frame: int) -> bool:
        """Whether the camera goes at a frame, or at one before that was left out; said once for each `Disconnect`."""
        due = [f for f in self._faults if isinstance(f, Disconnect) and f.frame <= frame and f not in self._done]
        self._done.update(due)
        self._failures_to_come += sum(fault.failed_openings for fault in due)
        return bool(due)

    def opening_fails(self) -> bool:
        """Whether the camera is still away; said as often as its `Disconnect` says."""
        if self._failures_to_come == 0:
            return False
        self._failures_to_come -= 1
        return True
