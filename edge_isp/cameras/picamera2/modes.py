"""Sensor modes and RAW formats as picamera2 describes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edge_isp.errors import CameraError, FormatError
from edge_isp.frame import Cfa, Packing, RawFormat
from edge_isp.kernels.layout import Flips
from edge_isp.sensor_window import SensorWindow


def raw_modes(modes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The modes that deliver RAW frames.

    Args:
        modes: `Picamera2.sensor_modes`; that of a camera without a RAW stream has no size.
    """
    return [mode for mode in modes if "size" in mode]


def choose_mode(
    modes: Sequence[Mapping[str, Any]],
    *,
    width: int | None,
    height: int | None,
    bit_depth: int | None,
    fps: float,
    source: str,
) -> Mapping[str, Any]:
    """The sensor mode to use: of those that fit, the widest view, then the most bits, then the most pixels.

    Args:
        modes: see `raw_modes`.
        width: of the mode, in pixels; None for any.
        height: of the mode, in pixels; None for any.
        bit_depth: of the mode; None for any.
        fps: frames per second that the mode must reach.
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
        if width in (None, mode["size"][0])
        and height in (None, mode["size"][1])
        and bit_depth in (None, mode["bit_depth"])
        # picamera2 rounds the rate to hundredths.
        and fps <= mode["fps"] + 0.01
    ]
    if not fitting:
        asked = f"{width or 'any'}x{height or 'any'}, {bit_depth or 'any'} bits, {fps:g} frames/s"
        there_are = "; ".join(f"{size_text(m)}, {m['bit_depth']} bits, {m['fps']:g} frames/s" for m in modes)
        raise CameraError(f"{source} has no mode of {asked}; it has: {there_are}")
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


def sensor_window(mode: Mapping[str, Any], flips: Flips | None) -> SensorWindow | None:
    """The part of the sensor that a mode reads out; None where libcamera does not report it.

    The RAW frame is always the mode's whole picture: ScalerCrop (digital zoom) crops that of the Raspberry Pi's ISP.

    Args:
        mode: with "crop_limits", (left, top, width, height).
        flips: of the readout, where the colour order does not show them.
    """
    left, top, width, height = mode.get("crop_limits") or (0, 0, 0, 0)
    if left < 0 or top < 0 or width < 2 or height < 2:
        return None
    return SensorWindow(int(left), int(top), int(width), int(height), flips=flips)


def white_level(layout: RawFormat, sensor_bit_depth: int) -> float:
    """The highest code of the sensor, at the format's bit depth.

    Args:
        layout: of the frames.
        sensor_bit_depth: significant bits of the sensor's own codes.
    """
    return float((2**sensor_bit_depth - 1) << (layout.bit_depth - sensor_bit_depth))


def smallest_packing(bit_depth: int) -> Packing:
    """The packing with the fewest bytes that loses nothing.

    Args:
        bit_depth: of the sensor mode.
    """
    if bit_depth == 8:
        return Packing.U8
    return Packing.CSI2P if bit_depth in (10, 12) else Packing.U16


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


def size_text(mode: Mapping[str, Any]) -> str:
    """A mode's size, for people.

    Args:
        mode: as picamera2 describes it.
    """
    width, height = mode["size"]
    return f"{width}x{height}"


def _preference(mode: Mapping[str, Any]) -> tuple[int, int, int]:
    """Greater for better: the view, the bits, the pixels."""
    (_, _, view_width, view_height), (width, height) = mode["crop_limits"], mode["size"]
    return view_width * view_height, mode["bit_depth"], width * height
