"""Sensor modes and RAW formats as picamera2 describes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_isp.errors import CameraError, FormatError, shortened
from edge_isp.frame import Cfa, Packing, RawFormat
from edge_isp.kernels.layout import Flips
from edge_isp.sensor_window import SensorWindow


@dataclass(frozen=True, slots=True)
class SensorMode:
    """One of a sensor's modes, as libcamera describes it.

    Attributes:
        format: libcamera's name of it where codes are not packed ("SRGGB10").
        listed: the name under which libcamera lists it ("SRGGB10_CSI2P"); "" is `format`.
        size: width and height in pixels.
        bit_depth: of the sensor's codes.
        fps: the fastest frame rate; None where libcamera does not advertise any, as on boards other than Raspberry Pi.
        view: the part of the sensor that it reads out: left, top, width, height in the sensor's pixels; None where
            libcamera does not advertise it.
    """

    format: str
    size: tuple[int, int]
    bit_depth: int
    fps: float | None = None
    view: tuple[int, int, int, int] | None = None
    listed: str = ""

    def __str__(self) -> str:
        rate = "" if self.fps is None else f", {self.fps:g} frames/s"
        return f"{size_text(self.size)}, {self.bit_depth} bits{rate}"


def parse_mode(text: str, source: str) -> tuple[int, int, int | None]:
    """Width, height and bits of a mode as the user writes it.

    Args:
        text: "1640x1232:10", or "1640x1232" for any number of bits.
        source: the camera, for messages.

    Raises:
        CameraError: it is neither.
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})(?::(\d{1,2}))?", text)
    if match is None:
        raise CameraError(f"{source}: mode must be WIDTHxHEIGHT:BITS, such as 1640x1232:10, found '{shortened(text)}'")
    width, height, bits = match.groups()
    return int(width), int(height), None if bits is None else int(bits)


def parse_size(text: str, what: str) -> tuple[int, int]:
    """Width and height of a picture as the user writes it.

    Args:
        text: "1280x720"; even, since a YUV picture's colours have half its size.
        what: the camera and the setting, for messages.

    Raises:
        CameraError: it is not a size.
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    size = (0, 0) if match is None else (int(match[1]), int(match[2]))
    if min(size) < 16 or size[0] % 2 or size[1] % 2:
        raise CameraError(f"{what} must be WIDTHxHEIGHT of even numbers, such as 1280x720, found '{shortened(text)}'")
    return size


def choose_mode(
    modes: Sequence[SensorMode],
    *,
    width: int | None,
    height: int | None,
    bit_depth: int | None,
    fps: float | None,
    usual_fps: float,
    source: str,
) -> SensorMode:
    """The sensor mode to use: of those that fit, the widest view, then the most bits, then the most pixels.

    Args:
        modes: of the sensor.
        width: of the mode, in pixels; None for any.
        height: of the mode, in pixels; None for any.
        bit_depth: of the mode; None for any.
        fps: frames per second that the mode must reach; None for any. A mode whose rates are not known fits.
        usual_fps: where `fps` is None, modes that reach this go before others.
        source: the camera and its sensor, for messages.

    Raises:
        FormatError: there is no mode at all.
        CameraError: no mode fits.
    """
    if not modes:
        raise FormatError(f"{source}: not a camera with a RAW stream")
    fitting = [
        mode
        for mode in modes
        if width in (None, mode.size[0])
        and height in (None, mode.size[1])
        and bit_depth in (None, mode.bit_depth)
        # picamera2 rounds the rate to hundredths.
        and (fps is None or mode.fps is None or fps <= mode.fps + 0.01)
    ]
    if not fitting:
        rate = "" if fps is None else f", {fps:g} frames/s"
        asked = f"{width or 'any'}x{height or 'any'}, {bit_depth or 'any'} bits{rate}"
        raise CameraError(f"{source} has no mode of {asked}; it has: {'; '.join(map(str, modes))}")
    if fps is None:
        fitting = [mode for mode in fitting if mode.fps is None or usual_fps <= mode.fps + 0.01] or fitting
    return max(fitting, key=_preference)


def raw_format(stream: Mapping[str, Any], sensor_bit_depth: int) -> RawFormat:
    """The layout of a RAW stream as picamera2 reports it after `configure`.

    Formats: "SRGGB10_CSI2P" is packed, "SRGGB10" right-aligned in 16 bits, "SRGGB16" left-aligned in 16 bits (all that
    is not compressed on Raspberry Pi 5, whatever the sensor's depth), "RGGB_PISP_COMP1" compressed to 8 bits.

    Args:
        stream: with "format", "size" (width, height) and "stride" in bytes.
        sensor_bit_depth: significant bits of a 16-bit code.

    Raises:
        FormatError: the format is not known, or not Bayer.
    """
    name, (width, height) = str(stream["format"]), stream["size"]
    match = re.fullmatch(rf"S?({'|'.join(Cfa)})(\d*)(|_CSI2P|_PISP_COMP1)", name)
    if match is None:
        raise FormatError(
            f"camera 'picamera2': RAW format {name} is not known; expected a Bayer format such as SRGGB10"
        )
    cfa, bits, suffix = match.groups()
    if suffix == "_PISP_COMP1":
        packing, bit_depth = Packing.PISP_COMP1, 16
    elif suffix == "_CSI2P":
        packing, bit_depth = Packing.CSI2P, int(bits)
    elif bits == "16":
        packing, bit_depth = Packing.U16_LEFT, sensor_bit_depth
    else:
        packing, bit_depth = Packing.U8 if bits == "8" else Packing.U16, int(bits)
    return RawFormat(width, height, Cfa(cfa), bit_depth, packing, int(stream["stride"]))


def sensor_window(
    view: tuple[int, int, int, int] | None, sensor_size: tuple[int, int] | None, flips: Flips | None
) -> SensorWindow | None:
    """The part of the sensor that a mode reads out; None where libcamera does not report it.

    The RAW frame is always the mode's whole picture: ScalerCrop (digital zoom) crops that of the Raspberry Pi's ISP.

    Args:
        view: left, top, width and height of what the mode reads out, in the sensor's pixels.
        sensor_size: width and height of the whole sensor; None where libcamera does not say it.
        flips: of the readout, where the colour order does not show them.
    """
    if view is None:
        return None
    left, top, width, height = (int(value) for value in view)
    if left < 0 or top < 0 or width < 2 or height < 2:
        return None
    if sensor_size is not None and (left + width > sensor_size[0] or top + height > sensor_size[1]):
        sensor_size = None
    return SensorWindow(left, top, width, height, sensor_size, flips)


def white_level(layout: RawFormat, sensor_bit_depth: int) -> float:
    """The highest code of the sensor, at the format's bit depth.

    Args:
        layout: of the frames.
        sensor_bit_depth: significant bits of the sensor's own codes.
    """
    bits = min(sensor_bit_depth, layout.bit_depth)
    return float((2**bits - 1) << (layout.bit_depth - bits))


def parse_packing(packing: str | None, source: str) -> Packing | None:
    """The packing of a name.

    Args:
        packing: as the user wrote it; None for the default.
        source: the camera, for messages.

    Raises:
        CameraError: there is no such packing.
    """
    try:
        return None if packing is None else Packing(packing)
    except ValueError:
        raise CameraError(f"{source}: packing must be one of {', '.join(Packing)}, found '{packing}'") from None


def size_text(size: tuple[int, int]) -> str:
    """A size, for people.

    Args:
        size: width and height in pixels.
    """
    return f"{size[0]}x{size[1]}"


def _preference(mode: SensorMode) -> tuple[int, int, int]:
    """Greater for better: the view, the bits, the pixels."""
    width, height = mode.size
    view = mode.view or (0, 0, width, height)
    return view[2] * view[3], mode.bit_depth, width * height
