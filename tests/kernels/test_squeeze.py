"""16-bit words to fewer bytes: the kernel against `pack`, and bits that must not be lost."""

from __future__ import annotations

import numpy as np
import pytest

from edge_isp.kernels.layout import RawLayout, row_bytes
from edge_isp.kernels.pack import pack
from edge_isp.kernels.squeeze import can_squeeze, squeeze


@pytest.mark.parametrize("packing", ["u16", "u16-left"])
@pytest.mark.parametrize("bit_depth", [10, 12])
@pytest.mark.parametrize("width", [4, 8, 132])
def test_the_bytes_are_those_of_pack(packing: str, bit_depth: int, width: int) -> None:
    codes = np.random.default_rng(width).integers(0, 1 << bit_depth, (6, width)).astype(np.uint16)
    data = pack(codes, packing=packing, bit_depth=bit_depth, stride=2 * width + 3)
    data[:, 2 * width :] = 255  # padding is not read
    layout = RawLayout(width, 6, packing, bit_depth, "RGGB")
    out = np.empty((6, row_bytes("csi2p", bit_depth, width)), np.uint8)
    assert squeeze(data, layout, out)
    np.testing.assert_array_equal(out, pack(codes, packing="csi2p", bit_depth=bit_depth))


@pytest.mark.parametrize("packing", ["u16", "u16-left"])
@pytest.mark.parametrize("bit_depth", [10, 12])
def test_no_bit_is_lost_unseen(packing: str, bit_depth: int) -> None:
    layout = RawLayout(8, 2, packing, bit_depth, "RGGB")
    out = np.empty((2, row_bytes("csi2p", bit_depth, 8)), np.uint8)
    kept = ((1 << bit_depth) - 1) << (16 - bit_depth if packing == "u16-left" else 0)
    for pixel in range(16):
        for bit in range(16):
            words = np.zeros(16, np.uint16)
            words[pixel] = 1 << bit
            data = words.astype("<u2").view(np.uint8).reshape(2, 16)
            assert squeeze(data, layout, out) == bool(kept >> bit & 1)


def test_which_layouts_can_be_squeezed() -> None:
    assert not can_squeeze(RawLayout(6, 2, "u16", 10, "RGGB"))
    assert not can_squeeze(RawLayout(8, 2, "u16", 16, "RGGB"))
    assert not can_squeeze(RawLayout(8, 2, "csi2p", 10, "RGGB"))
    with pytest.raises(ValueError, match="10 or 12 bits in words of 16"):
        squeeze(np.zeros((2, 8), np.uint8), RawLayout(8, 2, "u8", 8, "RGGB"), np.zeros((2, 10), np.uint8))
