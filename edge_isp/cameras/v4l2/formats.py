"""V4L2's names of Bayer formats, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_isp.errors import FormatError
from edge_isp.frame import Cfa, Packing, RawFormat


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The meaning of a four-character code of a Bayer format.

    Attributes:
        cfa: colour order from pixel (0,0).
        bit_depth: significant bits of a code.
        packing: how codes lie in bytes.
    """

    cfa: Cfa
    bit_depth: int
    packing: Packing


_ORDERS = (Cfa.BGGR, Cfa.GBRG, Cfa.GRBG, Cfa.RGGB)

# By bits and packing, in the order of _ORDERS (linux/videodev2.h).
_CODES: dict[tuple[int, Packing], tuple[str, str, str, str]] = {
    (8, Packing.U8): ("BA81", "GBRG", "GRBG", "RGGB"),
    (10, Packing.U16): ("BG10", "GB10", "BA10", "RG10"),
    (12, Packing.U16): ("BG12", "GB12", "BA12", "RG12"),
    (14, Packing.U16): ("BG14", "GB14", "GR14", "RG14"),
    (16, Packing.U16): ("BYR2", "GB16", "GR16", "RG16"),
    (10, Packing.CSI2P): ("pBAA", "pGAA", "pgAA", "pRAA"),
    (12, Packing.CSI2P): ("pBCC", "pGCC", "pgCC", "pRCC"),
    (14, Packing.CSI2P): ("pBEE", "pGEE", "pgEE", "pREE"),
    (16, Packing.PISP_COMP1): ("PC1B", "PC1g", "PC1G", "PC1R"),
}

BAYER_FORMATS: dict[str, PixelLayout] = {
    code: PixelLayout(cfa, bit_depth, packing)
    for (bit_depth, packing), codes in _CODES.items()
    for cfa, code in zip(_ORDERS, codes, strict=True)
}

# Formats on the bus between a sensor and its receiver (linux/media-bus-format.h).
BUS_FORMATS: dict[str, int] = {
    "SBGGR8_1X8": 0x3001,
    "SGBRG8_1X8": 0x3013,
    "SGRBG8_1X8": 0x3002,
    "SRGGB8_1X8": 0x3014,
    "SBGGR10_1X10": 0x3007,
    "SGBRG10_1X10": 0x300E,
    "SGRBG10_1X10": 0x300A,
    "SRGGB10_1X10": 0x300F,
    "SBGGR12_1X12": 0x3008,
    "SGBRG12_1X12": 0x3010,
    "SGRBG12_1X12": 0x3011,
    "SRGGB12_1X12": 0x3012,
    "SBGGR14_1X14": 0x3019,
    "SGBRG14_1X14": 0x301A,
    "SGRBG14_1X14": 0x301B,
    "SRGGB14_1X14": 0x301C,
    "SBGGR16_1X16": 0x301D,
    "SGBRG16_1X16": 0x301E,
    "SGRBG16_1X16": 0x301F,
    "SRGGB16_1X16": 0x3020,
}


def fourcc(code: str) -> int:
    """The number of a four-character code.

    Args:
        code: four ASCII characters.
    """
    return int.from_bytes(code.encode("ascii"), "little")


def fourcc_name(number: int) -> str:
    """The four characters of a number; characters that cannot be shown are written as \\x..

    Args:
        number: as the kernel has it.
    """
    return number.to_bytes(4, "little").decode("ascii", "backslashreplace").rstrip()


@dataclass(frozen=True, slots=True)
class CurrentFormat:
    """The format that a device node is set to.

    Attributes:
        width: in pixels.
        height: in pixels.
        code: V4L2's four characters.
        bytes_per_line: of the first plane.
        size_bytes: of the first plane.
        planes: how many there are.
    """

    width: int
    height: int
    code: str
    bytes_per_line: int
    size_bytes: int
    planes: int


def choose_format(
    codes: Sequence[str], current: str, pixel_format: str | None, bit_depth: int | None, source: str
) -> str:
    """The code of the format to set: of those that fit, the present one, else the most bits, and of these the smallest.

    Args:
        codes: that the device has.
        current: that it is set to.
        pixel_format: that the user asks for; None for any.
        bit_depth: that the user asks for; None for any.
        source: the camera, for messages.

    Raises:
        FormatError: the device has no such Bayer format.
    """
    bayer = [code for code in codes if code in BAYER_FORMATS]
    if not bayer:
        raise FormatError(f"{source}: no Bayer format: it delivers {', '.join(codes) or 'nothing'}")
    if pixel_format is not None:
        if pixel_format not in bayer:
            raise FormatError(f"{source}: no Bayer format '{pixel_format}'; there are: {', '.join(bayer)}")
        return pixel_format
    fitting = bayer
    if bit_depth is not None:
        exact = [code for code in bayer if BAYER_FORMATS[code].bit_depth == bit_depth]
        fitting = exact or [code for code in bayer if BAYER_FORMATS[code].bit_depth == 16]
        if not fitting:
            raise FormatError(f"{source}: no Bayer format of {bit_depth} bits; there are: {', '.join(bayer)}")
    if current in fitting:
        return current
    return max(fitting, key=_preference)


def _preference(code: str) -> tuple[int, bool]:
    """Greater for better: lossless, bits, then packed."""
    layout = BAYER_FORMATS[code]
    lossless_bits = 0 if layout.packing is Packing.PISP_COMP1 else layout.bit_depth
    return lossless_bits, layout.packing is Packing.CSI2P


def raw_format(found: CurrentFormat, layout: PixelLayout, bit_depth: int | None, source: str) -> RawFormat:
    """The layout of the frames that a device is set to deliver.

    Args:
        found: the device's format.
        layout: what its code means.
        bit_depth: of the sensor, which may be less than that of a 16-bit code; None for that of the code.
        source: the camera, for messages.

    Raises:
        FormatError: the format has several planes, or not this bit depth.
    """
    if found.planes != 1:
        raise FormatError(f"{source}: {found.code} in {found.planes} planes; a Bayer frame is one")
    packing, bits = layout.packing, layout.bit_depth
    if bit_depth is not None and bit_depth != bits:
        if packing is not Packing.U16 or bits != 16:
            raise FormatError(f"{source}: {found.code} has {bits} bits, asked for {bit_depth}")
        packing, bits = Packing.U16_LEFT, bit_depth
    stride = found.bytes_per_line or found.size_bytes // found.height
    return RawFormat(found.width, found.height, layout.cfa, bits, packing, stride)
