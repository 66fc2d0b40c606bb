"""V4L2's names of Bayer formats, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass

from edge_isp.frame import Cfa, Packing


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """What a four-character code says of a Bayer frame."""

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
    """The number of a four-character code."""
    return int.from_bytes(code.encode("ascii"), "little")


def fourcc_name(number: int) -> str:
    """The four characters of a number; characters that cannot be shown are written as \\x.."""
    return number.to_bytes(4, "little").decode("ascii", "backslashreplace").rstrip()
