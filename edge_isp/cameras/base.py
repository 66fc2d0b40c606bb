"""The protocol of a camera."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from edge_isp.errors import CameraError
from edge_isp.frame import RawFrame


@dataclass(frozen=True, slots=True)
class ControlLimits:
    """What may be asked of a camera at its present frame rate.

    Attributes:
        exposure_ns: shortest and longest; the longest fits into the frame period.
        analogue_gain: least and greatest.
    """

    exposure_ns: tuple[int, int]
    analogue_gain: tuple[float, float]

    def check(self, *, exposure_ns: int | None, analogue_gain: float | None) -> None:
        """Raises CameraError where a value is out of these limits; None is in."""
        for name, value, (least, greatest) in (
            ("exposure_ns", exposure_ns, self.exposure_ns),
            ("analogue_gain", analogue_gain, self.analogue_gain),
        ):
            if value is not None and not least <= value <= greatest:
                raise CameraError(f"{name} must be from {least} to {greatest} at this frame rate, found {value}")


@dataclass(frozen=True, slots=True)
class CameraMode:
    """One of a camera's modes, as `edge-isp devices` shows it.

    Attributes:
        format: the driver's name of the layout ("RG10", "SRGGB10_CSI2P").
        size: in pixels ("1640x1232", or a range); empty where the driver does not tell.
        fps: frames a second, the fastest first; empty where the driver does not tell.
    """

    format: str
    size: str
    fps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CameraDevice:
    """A camera that is there. A camera's class may list them with a static method `devices() -> list[CameraDevice]`.

    Attributes:
        spec: what `--camera` takes ("v4l2:/dev/video0").
        name: of the device, for people.
        modes: what it can deliver.
        problem: why it cannot be used, and what mends it; None where it can.
    """

    spec: str
    name: str
    modes: tuple[CameraMode, ...]
    problem: str | None = None


class Camera(Protocol):
    """Delivers RAW frames; a context manager.

    `read` never returns a frame whose buffer can change under the reader before it is released.

    A recording, which waits for its reader, says so with an attribute `live = False`; of a camera without it, frames
    come in their own time and are lost where nobody reads them.
    """

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """The next frame, or None where there will be none any more (the end of a recording, a camera that is closed).

        Args:
            timeout_s: seconds to wait at most; None waits for ever.

        Raises:
            CameraTimeoutError: no frame in time; the next call may have one.
            CameraDisconnectedError: the camera is gone; it is to be closed, and opened again when it is back.
            CameraError: the camera cannot deliver.
            FormatError: what it delivers is not what its format says.
        """
        ...

    @property
    def limits(self) -> ControlLimits:
        """What `control` may ask for now.

        Raises:
            CameraError: exposure and gain of this camera cannot be set.
        """
        ...

    def control(
        self,
        *,
        exposure_ns: int | None = None,
        analogue_gain: float | None = None,
        fps: float | None = None,
        colour_gains: tuple[float, float] | None = None,
        auto_exposure: bool | None = None,
        auto_white_balance: bool | None = None,
    ) -> None:
        """Asks for new settings; None leaves one as it is. They take effect some frames later, and each
        frame says with which it was taken.

        Args:
            exposure_ns, analogue_gain: fixed from now on, each on its own; see `limits`.
            fps: frames a second.
            colour_gains: white-balance gains red and blue (green is 1), fixed from now on.
            auto_exposure, auto_white_balance: of the camera itself. True switches it on, False locks it at what
                it has reached.

        Raises:
            CameraError: this camera cannot do it, or the value is out of its limits; nothing is changed then.
        """
        ...

    def close(self) -> None:
        """Lets the camera go. Doing so twice does no harm."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
