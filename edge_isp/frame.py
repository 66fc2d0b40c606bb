"""What a camera hands over: a frame of RAW bytes, its layout, and what is known of its exposure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Flag, StrEnum, auto
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_isp.corrections import Origins
from edge_isp.errors import FormatError
from edge_isp.kernels.layout import RawLayout, row_bytes
from edge_isp.sensor_window import SensorWindow

E = TypeVar("E", bound=StrEnum)

# The largest sensors have 200 million pixels, of two bytes each.
LARGEST_FRAME_BYTES = 1 << 29


class Cfa(StrEnum):
    """Colour filter array, named from pixel (0,0), row by row."""

    RGGB = "RGGB"
    GRBG = "GRBG"
    GBRG = "GBRG"
    BGGR = "BGGR"


class Packing(StrEnum):
    """How codes lie in bytes; `edge_isp.kernels.layout` says it bit by bit."""

    U8 = "u8"
    U16 = "u16"
    U16_LEFT = "u16-left"
    CSI2P = "csi2p"
    PISP_COMP1 = "pisp-comp1"


class FrameStatus(Flag):
    """What a camera knows to be wrong with a frame; `OK` is none of it, and false."""

    OK = 0
    GAP = auto()  # at least one frame was lost between the one before and this one
    CORRUPTED = auto()  # the driver says that the data of this frame is damaged
    TRUNCATED = auto()  # the driver delivered fewer bytes than a frame has: what follows in `data` is not this frame's
    SKIPPED = auto()  # frames before this one are missing since the source could not make them in time; with GAP
    BAD_TIMESTAMP = auto()  # `timestamp_ns` is not after that of the frame before: it says nothing
    STALE = auto()  # it waited for more than a second in the driver's buffers, as after a process was suspended


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Size and layout of RAW frames.

    Attributes:
        width: in pixels, even.
        height: in pixels, even.
        cfa: colour order, read from pixel (0,0).
        bit_depth: significant bits of a code; 16 for "pisp-comp1", which decompresses to that.
        packing: how codes lie in bytes.
        stride: bytes from one row to the next; 0 stands for rows without padding.
        layout: of the whole frame, as the kernels take it.

    Raises:
        FormatError: a size is odd or not positive, a value is not known, the stride is too small, or a frame is larger
            than any sensor's.
    """

    width: int
    height: int
    cfa: Cfa
    bit_depth: int
    packing: Packing
    stride: int = 0
    layout: RawLayout = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("height", self.height)):
            if value < 2 or value % 2:
                raise FormatError(f"{name} must be even and at least 2, found {value}")
        object.__setattr__(self, "cfa", _member(Cfa, "cfa", self.cfa))
        object.__setattr__(self, "packing", _member(Packing, "packing", self.packing))
        try:
            layout = RawLayout(self.width, self.height, self.packing, self.bit_depth, self.cfa)
        except ValueError as error:
            raise FormatError(str(error)) from error
        object.__setattr__(self, "layout", layout)
        if self.stride == 0:
            object.__setattr__(self, "stride", self.row_bytes)
        if self.stride < self.row_bytes:
            raise FormatError(
                f"stride must be at least {self.row_bytes} bytes for {self.width} pixels of packing "
                f"'{self.packing}' and {self.bit_depth} bits, found {self.stride}"
            )
        if self.frame_bytes > LARGEST_FRAME_BYTES:
            raise FormatError(f"a frame must be at most {LARGEST_FRAME_BYTES} bytes, found {self.frame_bytes}")

    @property
    def row_bytes(self) -> int:
        """Bytes of a row without its padding."""
        return row_bytes(self.packing, self.bit_depth, self.width)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame, padding included."""
        return self.stride * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.cfa} {self.bit_depth} bit {self.packing}"


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One frame of RAW bytes, leased from the camera until `release`; use it in a `with`.

    Attributes:
        data: uint8 (height, stride), a view of the camera's buffer: not to be read after `release`.
        format: size and layout of `data`.
        source: what delivered the frame: a file's path, a device.
        sequence: number of the frame at its source, counted by the sensor or driver: gaps are lost frames.
        timestamp_ns: start of exposure, CLOCK_MONOTONIC.
        black_level: codes at the format's bit depth, in the order R, Gr, Gb, B.
        white_level: code at the format's bit depth where the sensor clips.
        sensor: the sensor's name ("imx219"), where it is known.
        exposure_ns: where the camera reports it.
        analogue_gain: likewise.
        digital_gain: factor on the light that the camera adds in its own pictures, not in the codes; None is 1.
        colour_gains: white-balance gains red and blue (green is 1), where the camera reports them.
        colour_temperature_k: of the light, where the camera reports it.
        colour_matrix: 3x3, row by row, white-balanced camera colour to linear sRGB, where the source knows it (a DNG
            does); a sensor's profile goes before it.
        window: which part of the sensor the frame shows, where the source knows it.
        lens_shading: whether the frame shows the shading of its lens; False where it was corrected, or a simulation
            has none.
        orientation: how results are turned upright, 1 to 8 as in EXIF; 1 is as the data lies.
        noise_profile: variance = first * light + second of linear light (0 to 1) at this frame's gain, where the
            source states it (a DNG may) or metering has measured it; it goes before the sensor's profile.
        baseline_exposure_ev: how much brighter than its codes the source shows the frame, in stops, where it states it
            (a DNG may); a factor like `digital_gain`.
        isp_picture: uint8 (height, width, 3), RGB: the picture that the board's own ISP made of the same exposure,
            where the camera was asked for one. Leased like `data`.
        metadata: what else the driver says of the frame, by the driver's own names; of libcamera SensorTemperature (in
            degrees Celsius), FocusFoM, AfState, LensPosition (in dioptres), ScalerCrop (the part of the sensor that
            `isp_picture` shows) and more. Numbers, texts, and lists of them.
        auto_brightness: factor on the light that metering has chosen, where it was asked to, so that the result is
            neither dark nor bright.
        status: what is known to be wrong with the frame.
        origins: where these values come from.
        on_release: called once, when the frame is given back; None where nothing is to be done.
    """

    data: NDArray[np.uint8]
    format: RawFormat
    source: str
    sequence: int
    timestamp_ns: int
    black_level: tuple[float, float, float, float]
    white_level: float
    sensor: str | None = None
    exposure_ns: int | None = None
    analogue_gain: float | None = None
    digital_gain: float | None = None
    colour_gains: tuple[float, float] | None = None
    colour_temperature_k: float | None = None
    colour_matrix: tuple[float, ...] | None = None
    window: SensorWindow | None = None
    lens_shading: bool = True
    orientation: int = 1
    noise_profile: tuple[float, float] | None = None
    baseline_exposure_ev: float | None = None
    isp_picture: NDArray[np.uint8] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    auto_brightness: float = 1.0
    status: FrameStatus = FrameStatus.OK
    origins: Origins = field(default_factory=Origins)
    on_release: Callable[[], None] | None = None
    _released: list[bool] = field(default_factory=list, repr=False, compare=False)

    def release(self) -> None:
        """Gives the buffer back to the camera. Idempotent."""
        if not self._released:
            self._released.append(True)
            if self.on_release is not None:
                self.on_release()

    def copy(self) -> RawFrame:
        """A frame with data of its own, which stays valid after `release`. Releasing the copy does nothing."""
        picture = None if self.isp_picture is None else self.isp_picture.copy()
        return replace(self, data=self.data.copy(), isp_picture=picture, on_release=None, _released=[])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class RecordedFrame(RawFrame):
    """A frame of a file, whose `timestamp_ns` says nothing of this machine's time.

    Attributes:
        taken_at: start of exposure, with its time zone where the file says it; None where the file says no time.
    """

    taken_at: datetime | None = None


def _member(enumeration: type[E], name: str, value: str) -> E:
    try:
        return enumeration(value)
    except ValueError:
        raise FormatError(f"{name} must be one of {', '.join(enumeration)}, found '{value}'") from None
