"""What a camera is: the protocol `Camera`, the settings it takes, and `CameraBase`, which cameras are derived from."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import ClassVar, Protocol, Self

from edge_isp.errors import CameraError
from edge_isp.frame import RawFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """Settings to ask a camera for; None leaves a setting as it is.

    Attributes:
        exposure_ns: exposure time of a row, fixed from now on; see `Camera.limits`.
        analogue_gain: gain of the sensor's amplifier, fixed from now on; see `Camera.limits`.
        fps: frames per second.
        colour_gains: white-balance gains red and blue (green is 1), fixed from now on.
        auto_exposure: the camera's own automatic exposure. True switches it on, False locks what it has reached.
        auto_white_balance: the camera's own automatic white balance. True switches it on, False locks what it has
            reached.
    """

    exposure_ns: int | None = None
    analogue_gain: float | None = None
    fps: float | None = None
    colour_gains: tuple[float, float] | None = None
    auto_exposure: bool | None = None
    auto_white_balance: bool | None = None

    def names(self) -> list[str]:
        """The names of the settings that are asked for."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def then(self, newer: Controls) -> Controls:
        """These settings with newer ones after them: what is fixed ends what is automatic, and the other way round.

        Args:
            newer: settings that are asked for after these.
        """
        kept = self
        if newer.auto_exposure:
            kept = replace(kept, exposure_ns=None, analogue_gain=None)
        if newer.exposure_ns is not None or newer.analogue_gain is not None:
            kept = replace(kept, auto_exposure=None)
        if newer.auto_white_balance:
            kept = replace(kept, colour_gains=None)
        if newer.colour_gains is not None:
            kept = replace(kept, auto_white_balance=None)
        return replace(kept, **{name: getattr(newer, name) for name in newer.names()})


@dataclass(frozen=True, slots=True)
class ControlLimits:
    """Limits of a camera's exposure and gain at its present frame rate.

    Attributes:
        exposure_ns: shortest and longest exposure time; the longest fits into the frame period.
        analogue_gain: least and greatest analogue gain.
    """

    exposure_ns: tuple[int, int]
    analogue_gain: tuple[float, float]

    def check(self, controls: Controls) -> None:
        """Compares exposure and gain with these limits; a setting that is not asked for is within them.

        Args:
            controls: settings that a camera is asked for.

        Raises:
            CameraError: a value is out of its limits.
        """
        for name, value, (least, greatest) in (
            ("exposure_ns", controls.exposure_ns, self.exposure_ns),
            ("analogue_gain", controls.analogue_gain, self.analogue_gain),
        ):
            if value is not None and not least <= value <= greatest:
                raise CameraError(f"{name} must be from {least} to {greatest} at this frame rate, found {value}")


@dataclass(frozen=True, slots=True)
class CameraMode:
    """One of a camera's modes, as `edge-isp devices` shows it.

    Attributes:
        format: the driver's name of the layout ("RG10", "SRGGB10_CSI2P").
        size: in pixels ("1640x1232", or a range); empty where the driver does not report it.
        fps: frames per second, the fastest first; empty where the driver does not report them.
    """

    format: str
    size: str
    fps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CameraDevice:
    """A camera that was found. A camera's class may list them with a static method `devices() -> list[CameraDevice]`.

    Attributes:
        spec: the argument of `--camera` that opens it ("v4l2:/dev/video0").
        name: of the device, for people.
        modes: what it can deliver.
        problem: why it cannot be used, and what mends it; None where it can be used.
    """

    spec: str
    name: str
    modes: tuple[CameraMode, ...]
    problem: str | None = None


class Adjustable(Protocol):
    """What metering needs of a camera: its settings and their limits."""

    @property
    def limits(self) -> ControlLimits:
        """The limits of exposure and gain that `control` accepts now.

        Raises:
            CameraError: exposure and gain of this camera cannot be set.
        """
        ...

    def control(self, controls: Controls) -> None:
        """Asks for new settings. They take effect some frames later; each frame states the settings it was taken with.

        Args:
            controls: the settings to change.

        Raises:
            CameraError: this camera cannot change one of them, or a value is out of its limits. Nothing is changed
                then.
        """
        ...


class Camera(Adjustable, Protocol):
    """Delivers RAW frames; a context manager. `CameraBase` is a start for a camera of your own.

    `read` never returns a frame whose buffer can change under the reader before the frame is released.

    A recording, which waits for its reader, has an attribute `live = False`. Frames of a camera without this attribute
    come at their own pace, and are lost where nobody reads them. One that a driver synchronises with other cameras has
    an attribute `synchronised = True`: `pair` then leaves its frame rate alone.
    """

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """Returns the next frame, or None where there will be no more: the end of a recording, or a closed camera.

        Args:
            timeout_s: longest time to wait, in seconds; None waits without a limit.

        Raises:
            CameraTimeoutError: no frame came in time; the next call may return one.
            CameraDisconnectedError: the camera is gone. Close it, and open it again when it is back.
            CameraError: the camera cannot deliver.
            FormatError: what it delivers is not what its format says.
        """
        ...

    def close(self) -> None:
        """Releases the camera. Closing it again has no effect."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def with_controls(camera: Camera, controls: Controls) -> Camera:
    """A camera that was just opened, with settings; it is closed where it refuses them.

    Args:
        camera: that was opened.
        controls: settings; a camera that can set none must not be asked for any.

    Raises:
        CameraError: see `Camera.control`.
    """
    if controls.names():
        try:
            camera.control(controls)
        except BaseException:
            camera.close()
            raise
    return camera


class CameraBase(ABC):
    """What all cameras share: the context manager, the closed state, and the checks of `control`.

    A camera of your own defines `read`, and `_release` if it holds anything. One whose exposure can be set defines
    `settable`, `limits` and `_apply` as well:

        class MyCamera(CameraBase):
            settable = ("exposure_ns", "analogue_gain")

            def read(self, timeout_s: float | None = None) -> RawFrame | None: ...

            @property
            def limits(self) -> ControlLimits:
                return ControlLimits((20_000, 33_000_000), (1.0, 16.0))

            def _apply(self, controls: Controls) -> None: ...

    Args:
        source: the camera's name in messages.

    Attributes:
        source: see above.
        closed: set once the camera is closed; a `read` that waits can wait for it.
        live: whether frames come at their own pace; see `Camera`.
        settable: names of the fields of `Controls` that this camera can change.
        settable_hint: for the message to those who ask for another one.
    """

    settable: ClassVar[tuple[str, ...]] = ()
    settable_hint: ClassVar[str] = ""
    live: bool = True
    _opened = False  # set by a camera that holds what must be released, once it holds all of it

    def __init__(self, source: str) -> None:
        self.source = source
        self.closed = threading.Event()
        self._closing = threading.Lock()

    @abstractmethod
    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """Returns the next frame; see `Camera.read`.

        Args:
            timeout_s: longest time to wait, in seconds; None waits without a limit.
        """

    @property
    def limits(self) -> ControlLimits:
        """The limits of exposure and gain; see `Camera.limits`.

        Raises:
            CameraError: this camera's exposure and gain cannot be set.
        """
        raise CameraError(f"{self.source}: the exposure and gain of this camera cannot be set")

    def control(self, controls: Controls) -> None:
        """Asks for new settings; see `Camera.control`.

        Args:
            controls: the settings to change.

        Raises:
            CameraError: the camera is closed, it cannot change one of the settings, or a value is out of its limits.
                Nothing is changed then.
        """
        self._check_open()
        asked = controls.names()
        refused = [name for name in asked if name not in self.settable]
        if refused:
            able = f"this camera takes {', '.join(self.settable)}" if self.settable else "this camera takes no settings"
            hint = f"; {self.settable_hint}" if self.settable_hint else ""
            raise CameraError(f"{self.source}: {', '.join(refused)} cannot be set; {able}{hint}")
        if controls.fps is not None and not 0 < controls.fps < math.inf:
            raise CameraError(f"{self.source}: fps must be a positive number, found {controls.fps}")
        gains = controls.colour_gains
        if gains is not None and not (len(gains) == 2 and all(0 < gain < math.inf for gain in gains)):
            raise CameraError(f"{self.source}: colour_gains must be two positive numbers, red and blue, found {gains}")
        if asked:
            self._check_limits(controls)
            self._apply(controls)

    def close(self) -> None:
        """Releases the camera. Closing it again has no effect."""
        with self._closing:
            if self.closed.is_set():
                return
            self.closed.set()
        self._release()

    def __del__(self) -> None:
        """Releases a camera that was dropped without `close`."""
        if self._opened:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        """Raises CameraError where the camera is closed."""
        if self.closed.is_set():
            raise CameraError(f"{self.source}: the camera is closed")

    def _check_limits(self, controls: Controls) -> None:
        """Raises CameraError where exposure or gain are out of `limits`."""
        if controls.exposure_ns is not None or controls.analogue_gain is not None:
            self.limits.check(controls)

    def _apply(self, controls: Controls) -> None:
        """Changes settings that were checked; called only with those that `settable` names."""
        raise NotImplementedError(f"{type(self).__name__} names settings in `settable`, but has no method `_apply`")

    def _release(self) -> None:  # noqa: B027 (a camera may hold nothing)
        """Lets go what the camera holds; called once, after `closed` is set."""
