"""Bayer codes as one stream of bits, low bits first, which no kernel reads: copied into 16 bits each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CompactLayout:
    """How codes of 10 or 12 bits lie in groups of bytes.

    Attributes:
        pixels: of a group.
        bytes: of a group; bits that are left over at its end are padding.
        bits: of a code.
    """

    pixels: int
    bytes: int
    bits: int

    def row_bytes(self, width: int) -> int:
        """Bytes of a row without its padding.

        Args:
            width: of the row, in pixels.
        """
        return -(-width // self.pixels) * self.bytes


# RAW10 and RAW12 of Rockchip's receivers in their "compact" mode, by the bits of a code.
ROCKCHIP = {10: CompactLayout(4, 5, 10), 12: CompactLayout(2, 3, 12)}
# V4L2_PIX_FMT_IPU3_SRGGB10 and its siblings: 25 pixels in 32 bytes, 6 bits of which are padding.
IPU3 = CompactLayout(25, 32, 10)


def expand(data: NDArray[np.uint8], layout: CompactLayout, width: int) -> NDArray[np.uint8]:
    """The codes of a frame, right-aligned in 16 bits: uint8 (height, 2 * width), in memory of its own.

    Args:
        data: uint8 (height, stride).
        layout: of its rows.
        width: of the rows, in pixels.
    """
    height = data.shape[0]
    groups = -(-width // layout.pixels)
    grouped = data[:, : groups * layout.bytes].reshape(height, groups, layout.bytes)
    codes = np.empty((height, groups, layout.pixels), "<u2")
    for pixel in range(layout.pixels):
        place, shift = divmod(pixel * layout.bits, 8)
        # 10 bits begin at an even bit of a byte, 12 bits at its first or fifth: they never reach into a third byte.
        two = grouped[:, :, place].astype(np.uint16) | grouped[:, :, place + 1].astype(np.uint16) << np.uint16(8)
        codes[:, :, pixel] = (two >> np.uint16(shift)) & np.uint16(2**layout.bits - 1)
    return np.ascontiguousarray(codes.reshape(height, groups * layout.pixels)[:, :width]).view(np.uint8)
