"""V4L2's names of Bayer formats, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_isp.cameras.v4l2.compact import IPU3, ROCKCHIP, CompactLayout
from edge_isp.errors import FormatError
from edge_isp.frame import Cfa, Packing, RawFormat


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The meaning of a four-character code of a Bayer format.

    Attributes:
        cfa: colour order from pixel (0,0).
        bit_depth: significant bits of a code.
        packing: how codes lie in bytes; of frames that are copied, how they lie in the copy.
        compact: how the driver lays them out where no kernel reads that: frames are copied.
    """

    cfa: Cfa
    bit_depth: int
    packing: Packing
    compact: CompactLayout | None = None


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
} | {
    code: PixelLayout(cfa, 10, Packing.U16, IPU3)
    for cfa, code in zip(_ORDERS, ("ip3b", "ip3g", "ip3G", "ip3r"), strict=True)
}

# Formats on the bus between a sensor and its receiver, and those that the other pads of a board's ISP may have
# (linux/media-bus-format.h).
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
    "RGB565_1X16": 0x1017,
    "RGB888_1X24": 0x100A,
    "BGR888_1X24": 0x1013,
    "RBG888_1X24": 0x100E,
    "GBR888_1X24": 0x1014,
    "ARGB8888_1X32": 0x100D,
    "Y8_1X8": 0x2001,
    "Y10_1X10": 0x200A,
    "Y12_1X12": 0x2013,
    "Y14_1X14": 0x202D,
    "UYVY8_1X16": 0x200F,
    "VYUY8_1X16": 0x2010,
    "YUYV8_1X16": 0x2011,
    "YVYU8_1X16": 0x2012,
    "UYVY8_2X8": 0x2006,
    "YUYV8_2X8": 0x2008,
    "UYVY8_1_5X8": 0x2002,
    "YUYV8_1_5X8": 0x2004,
    "YUV8_1X24": 0x2025,
    "VUY8_1X24": 0x2024,
    "AYUV8_1X32": 0x2017,
    "METADATA_FIXED": 0x7001,
}
_BUS_NAMES = {number: name for name, number in BUS_FORMATS.items()}


def bus_format_name(number: int) -> str:
    """The name of a format on the bus; the number where it is not known.

    Args:
        number: as the kernel has it.
    """
    return _BUS_NAMES.get(number, f"{number:#x}")


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
        interlaced: whether a buffer does not hold the rows of one moment from top to bottom.
    """

    width: int
    height: int
    code: str
    bytes_per_line: int
    size_bytes: int
    planes: int
    interlaced: bool = False


@dataclass(frozen=True, slots=True)
class BufferLayout:
    """How the rows of a frame lie in a driver's buffer.

    Attributes:
        height: rows.
        stride: bytes from one row to the next.
        row_bytes: bytes of a row without its padding.
    """

    height: int
    stride: int
    row_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame, padding included."""
        return self.stride * self.height

    def __str__(self) -> str:
        return f"{self.height} rows, stride {self.stride}: {self.frame_bytes} bytes"


def choose_format(
    codes: Sequence[str],
    current: str,
    pixel_format: str | None,
    bit_depth: int | None,
    packing: Packing | None,
    source: str,
) -> str:
    """The code of the format to set: of those that fit, the present one, else the most bits, and of these the smallest.

    Args:
        codes: that the device has.
        current: that it is set to.
        pixel_format: that the user asks for; None for any.
        bit_depth: that the user asks for; None for any.
        packing: that the user asks for; None for any.
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
    if packing is not None:
        stored = Packing.U16 if packing is Packing.U16_LEFT else packing
        fitting = [code for code in bayer if BAYER_FORMATS[code].packing is stored]
        if not fitting:
            raise FormatError(f"{source}: no Bayer format of packing '{packing}'; there are: {', '.join(bayer)}")
    if bit_depth is not None:
        exact = [code for code in fitting if BAYER_FORMATS[code].bit_depth == bit_depth]
        fitting = exact or [code for code in fitting if BAYER_FORMATS[code].bit_depth == 16]
        if not fitting:
            raise FormatError(f"{source}: no Bayer format of {bit_depth} bits; there are: {', '.join(bayer)}")
    if current in fitting:
        return current
    return max(fitting, key=_preference)


def _preference(code: str) -> tuple[int, bool, bool]:
    """Greater for better: lossless, bits, then lent without a copy, then packed."""
    layout = BAYER_FORMATS[code]
    lossless_bits = 0 if layout.packing is Packing.PISP_COMP1 else layout.bit_depth
    return lossless_bits, layout.compact is None, layout.packing is Packing.CSI2P


def raw_format(
    found: CurrentFormat, layout: PixelLayout, bit_depth: int | None, packing: Packing | None, source: str
) -> tuple[RawFormat, CompactLayout | None]:
    """The layout of the frames that a device is set to deliver, and the driver's own where they are copied.

    Args:
        found: the device's format.
        layout: what its code means.
        bit_depth: of the sensor, which may be less than that of a 16-bit code; None for that of the code.
        packing: "u16-left" where the driver stores the sensor's bits as the upper ones of 16, though the code says
            otherwise; None for what the code says.
        source: the camera, for messages.

    Raises:
        FormatError: the format has several planes, is interlaced, or has not this bit depth or packing.
    """
    if found.planes != 1:
        raise FormatError(f"{source}: {found.code} in {found.planes} planes; a Bayer frame is one")
    if found.interlaced:
        raise FormatError(f"{source}: {found.code} is interlaced; a Bayer frame is progressive")
    stored, bits = layout.packing, layout.bit_depth
    if bit_depth is not None and bit_depth != bits:
        if stored is not Packing.U16 or bits != 16:
            raise FormatError(f"{source}: {found.code} has {bits} bits, asked for {bit_depth}")
        stored, bits = Packing.U16_LEFT, bit_depth
    if packing is not None and packing is not stored:
        if not (packing is Packing.U16_LEFT and stored is Packing.U16) and not (
            packing is Packing.U16 and stored is Packing.U16_LEFT
        ):
            raise FormatError(f"{source}: {found.code} has packing '{stored}', asked for '{packing}'")
        stored = packing
    stride = found.bytes_per_line or found.size_bytes // found.height
    compact = layout.compact
    if compact is None and stored is Packing.U16 and (known := ROCKCHIP.get(bits)):
        # Rockchip's receivers have one code for 16 bits to a pixel and for their compact mode: the stride tells.
        compact = known if known.row_bytes(found.width) <= stride < 2 * found.width else None
    if compact is not None:
        if stride < compact.row_bytes(found.width):
            raise FormatError(
                f"{source}: {found.code} {found.width}x{found.height} needs {compact.row_bytes(found.width)} bytes a "
                f"row, found a stride of {stride}"
            )
        return RawFormat(found.width, found.height, layout.cfa, bits, Packing.U16), compact
    return RawFormat(found.width, found.height, layout.cfa, bits, stored, stride), None
