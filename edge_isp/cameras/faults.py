"""What can go wrong with a camera, written down in advance: the script of the synthetic camera's faults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_isp.errors import CameraError


@dataclass(frozen=True, slots=True)
class Drop:
    """Frames are lost.

    Attributes:
        frame: number of the first of them.
        count: how many, one after the other.

    Raises:
        CameraError: a number is negative.
    """

    frame: int
    count: int = 1

    def __post_init__(self) -> None:
        _check(self, frame=self.frame, count=self.count)


@dataclass(frozen=True, slots=True)
class Late:
    """A frame arrives later than it should; its time stamp is right.

    Attributes:
        frame: its number.
        delay_ns: how much later.

    Raises:
        CameraError: a number is negative.
    """

    frame: int
    delay_ns: int

    def __post_init__(self) -> None:
        _check(self, frame=self.frame, delay_ns=self.delay_ns)


@dataclass(frozen=True, slots=True)
class Truncate:
    """Only the first bytes of a frame arrive; the frame before follows them. `FrameStatus.TRUNCATED` is set.

    Attributes:
        frame: its number.
        size_bytes: how many bytes arrive.

    Raises:
        CameraError: a number is negative.
    """

    frame: int
    size_bytes: int

    def __post_init__(self) -> None:
        _check(self, frame=self.frame, size_bytes=self.size_bytes)


@dataclass(frozen=True, slots=True)
class Corrupt:
    """The middle third of a frame's rows is noise. `FrameStatus.CORRUPTED` is set.

    Attributes:
        frame: its number.

    Raises:
        CameraError: the number is negative.
    """

    frame: int

    def __post_init__(self) -> None:
        _check(self, frame=self.frame)


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The camera goes away in place of a frame: reading it, and every later call, raises `CameraDisconnectedError`.

    Attributes:
        frame: number of the frame, which is the first one when the camera is back.
        failed_openings: how often opening a camera with the same script fails in the same way before that.

    Raises:
        CameraError: a number is negative.
    """

    frame: int
    failed_openings: int = 0

    def __post_init__(self) -> None:
        _check(self, frame=self.frame, failed_openings=self.failed_openings)


@dataclass(frozen=True, slots=True)
class TimestampJump:
    """From a frame on, time stamps are shifted.

    Attributes:
        frame: number of the first frame.
        by_ns: how much later they are; earlier where it is negative.

    Raises:
        CameraError: the frame's number is negative.
    """

    frame: int
    by_ns: int

    def __post_init__(self) -> None:
        _check(self, frame=self.frame)


@dataclass(frozen=True, slots=True)
class ExposureChange:
    """From a frame on, exposure or gain are different, as if another program had set them.

    Attributes:
        frame: number of the first frame.
        exposure_ns: exposure time; None leaves it as it is.
        analogue_gain: gain of the sensor's amplifier; None leaves it as it is.

    Raises:
        CameraError: the frame's number is negative, or a setting is not positive.
    """

    frame: int
    exposure_ns: int | None = None
    analogue_gain: float | None = None

    def __post_init__(self) -> None:
        _check(self, frame=self.frame)
        for name, value in self.settings().items():
            if not value > 0:
                raise CameraError(f"fault script: {name} must be positive, found {self}")

    def settings(self) -> dict[str, float]:
        """The settings that change, by name."""
        asked = {"exposure_ns": self.exposure_ns, "analogue_gain": self.analogue_gain}
        return {name: value for name, value in asked.items() if value is not None}


Fault = Drop | Late | Truncate | Corrupt | Disconnect | TimestampJump | ExposureChange


def _check(fault: Fault, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < 0:
            raise CameraError(f"fault script: {name} must not be negative, found {fault}")


class FaultScript:
    """Faults of a synthetic camera, by the number of the frame that they strike.

    A script is that of a device, not of one opening: give the same object to the camera that is opened after a
    `Disconnect`, and its frames go on where they stopped, each fault striking once. In order to see the same faults
    again, make another script.

    Args:
        faults: in any order; several may strike one frame.

    Attributes:
        next_frame: number of the frame where the next opening goes on.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = tuple(faults)
        self._dropped = {
            number
            for fault in self._faults
            if isinstance(fault, Drop)
            for number in range(fault.frame, fault.frame + fault.count)
        }
        self._done: set[Disconnect] = set()
        self._failures_to_come = 0
        self.next_frame = 0

    def of(self, frame: int) -> tuple[Fault, ...]:
        """The faults that strike a frame.

        Args:
            frame: its number.
        """
        return tuple(fault for fault in self._faults if fault.frame == frame)

    def dropped(self, frame: int) -> bool:
        """Whether a frame is lost.

        Args:
            frame: its number.
        """
        return frame in self._dropped

    def offset_ns(self, frame: int) -> int:
        """How much later a frame's time stamp is than it should be.

        Args:
            frame: its number.
        """
        jumps = (fault for fault in self._faults if isinstance(fault, TimestampJump))
        return sum(jump.by_ns for jump in jumps if jump.frame <= frame)

    def disconnects(self, frame: int) -> bool:
        """Whether the camera goes away at a frame, or at an earlier one that was left out; true once per `Disconnect`.

        Args:
            frame: its number.
        """
        due = [f for f in self._faults if isinstance(f, Disconnect) and f.frame <= frame and f not in self._done]
        self._done.update(due)
        self._failures_to_come += sum(fault.failed_openings for fault in due)
        return bool(due)

    def opening_fails(self) -> bool:
        """Whether the camera is still away; true as often as its `Disconnect` says."""
        if self._failures_to_come == 0:
            return False
        self._failures_to_come -= 1
        return True
