"""How RAW codes lie in a row of bytes.

packing        bit depths   pixels in bytes
"u8"           8            1 in 1
"u16"          8 to 16      1 in 2, little-endian, right-aligned
"u16-left"     8 to 16      1 in 2, little-endian, left-aligned (Raspberry Pi 5)
"csi2p"        10           4 in 5: four bytes of high bits, then one of the low bits, pixel 0 lowest
               12           2 in 3: two bytes of high bits, then one of the low bits, pixel 0 lowest

(MIPI CSI-2, RAW10 and RAW12; V4L2_PIX_FMT_SRGGB10P and V4L2_PIX_FMT_SRGGB12P.)
"""

from __future__ import annotations

PACKINGS = ("u8", "u16", "u16-left", "csi2p")

_BIT_DEPTHS: dict[str, tuple[int, ...]] = {
    "u8": (8,),
    "u16": tuple(range(8, 17)),
    "u16-left": tuple(range(8, 17)),
    "csi2p": (10, 12),
}

# The colour planes of an encoded frame, in this order. Gr is the green that shares its row with red.
PLANES = ("R", "Gr", "Gb", "B")

# For each CFA order, named from pixel (0,0): the plane of each place in the 2x2 cell, row by row.
CELL_PLANES: dict[str, tuple[int, int, int, int]] = {
    "RGGB": (0, 1, 2, 3),
    "GRBG": (1, 0, 3, 2),
    "GBRG": (2, 3, 0, 1),
    "BGGR": (3, 2, 1, 0),
}


def check_layout(packing: str, bit_depth: int) -> None:
    """Raises ValueError, with what there is, for a packing or a bit depth that is not known."""
    if packing not in PACKINGS:
        raise ValueError(f"packing must be one of {', '.join(PACKINGS)}, found '{packing}'")
    depths = _BIT_DEPTHS[packing]
    if bit_depth not in depths:
        raise ValueError(f"bit depth of packing '{packing}' must be one of {depths}, found {bit_depth}")


def row_bytes(packing: str, bit_depth: int, width: int) -> int:
    """Bytes that a row of `width` pixels takes without padding: the smallest stride.

    Raises:
        ValueError: the packing or the bit depth is not known.
    """
    check_layout(packing, bit_depth)
    match packing:
        case "u8":
            return width
        case "csi2p" if bit_depth == 10:
            return (width + 3) // 4 * 5
        case "csi2p":
            return (width + 1) // 2 * 3
    return 2 * width


def flips_to_rggb(cfa: str) -> tuple[bool, bool]:
    """Whether to mirror a frame (vertically, horizontally) so that its CFA order becomes RGGB.

    With even sizes a mirrored GRBG, GBRG or BGGR mosaic *is* an RGGB mosaic of the mirrored scene: a
    network that learnt on RGGB sees every colour exactly where it expects it, no row or column is lost,
    and the picture is mirrored back.

    Raises:
        ValueError: the CFA order is not known.
    """
    check_cfa(cfa)
    return {"RGGB": (False, False), "GRBG": (False, True), "GBRG": (True, False), "BGGR": (True, True)}[cfa]


def check_cfa(cfa: str) -> None:
    """Raises ValueError, with what there is, for a CFA order that is not known."""
    if cfa not in CELL_PLANES:
        raise ValueError(f"CFA order must be one of {', '.join(CELL_PLANES)}, found '{cfa}'")


def check_frame(data_shape: tuple[int, ...], packing: str, bit_depth: int, width: int, height: int) -> None:
    """Raises ValueError where a buffer of (height, stride) bytes cannot hold the frame."""
    needed = row_bytes(packing, bit_depth, width)
    if width < 1 or height < 1:
        raise ValueError(f"a frame must have at least one pixel, found {width}x{height}")
    if len(data_shape) != 2 or data_shape[0] < height or data_shape[1] < needed:
        raise ValueError(
            f"{width}x{height} pixels of packing '{packing}' and {bit_depth} bits need bytes of shape "
            f"({height}, at least {needed}), found {data_shape}"
        )
