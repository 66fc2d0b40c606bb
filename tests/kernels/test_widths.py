"""Every width of every layout, exhaustively; the encoding tables; the mirroring to RGGB."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_isp.kernels import reference
from edge_isp.kernels.layout import CELL_PLANES, RawLayout, flips_to_rggb, row_bytes
from edge_isp.kernels.tables import encoding_table
from edge_isp.kernels.unpack import unpack

LAYOUTS = [
    ("u8", 8),
    *(("csi2p", b) for b in (8, 10, 12, 14)),
    *(("u16", b) for b in (8, 10, 12, 14, 16)),
    ("u16-left", 10),
]


def random_bytes(seed: int, packing: str, bit_depth: int, width: int, height: int, padding: int) -> Any:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, row_bytes(packing, bit_depth, width) + padding), dtype=np.uint8)


@pytest.mark.parametrize("width", range(2, 67))
@pytest.mark.parametrize(("packing", "bit_depth"), LAYOUTS)
def test_unpack_equals_its_reference_at_every_width(packing: str, bit_depth: int, width: int) -> None:
    raw = random_bytes(width, packing, bit_depth, width, 3, padding=width % 7)
    layout = RawLayout(width, 3, packing, bit_depth, "RGGB")
    np.testing.assert_array_equal(unpack(raw, layout), reference.unpack(raw, layout))


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_flips_to_rggb_mirror_a_mosaic_into_rggb(cfa: str) -> None:
    mosaic = np.array(list(cfa)).reshape(2, 2)
    vertical, horizontal = flips_to_rggb(cfa)
    mosaic = mosaic[::-1] if vertical else mosaic
    mosaic = mosaic[:, ::-1] if horizontal else mosaic
    assert "".join(mosaic.ravel()) == "RGGB"


def test_encoding_table_follows_the_conventions_of_light() -> None:
    table = encoding_table(
        bit_depth=10,
        black_level=(64, 64, 60, 70),
        white_level=1023,
        gains=(2.0, 1.0, 1.5),
        curve="sqrt",
        scale=1 / 255,
        zero_point=-128,
    )
    assert table.shape == (4, 1024)
    assert table.dtype == np.int8
    assert table[0, 64] == table[2, 60] == table[3, 70] == -128  # black is 0
    assert table[0, 0] == -128  # below black is black
    assert np.all(table[:, 1023] == 127)  # white is 1
    assert table[0, 64 + 480] == 127  # half the light at a gain of 2 is white
    assert table[1, 64 + 240] == round(255 * np.sqrt(240 / 959)) - 128
    assert np.all(np.diff(table.astype(int), axis=1) >= 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curve": "gamma"}, "curve must be one of linear, sqrt, found 'gamma'"),
        ({"gains": (1.0, 0.0, 1.0)}, "gains must be positive"),
        ({"black_level": (64, 64, 64, 1023)}, "below white_level 1023"),
        ({"black_level": (64, 64)}, "four codes"),
    ],
)
def test_encoding_table_refuses_nonsense(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "bit_depth": 10,
        "black_level": (64, 64, 64, 64),
        "white_level": 1023,
        "gains": (1.0, 1.0, 1.0),
        "curve": "sqrt",
        "scale": 1 / 255,
        "zero_point": -128,
    }
    with pytest.raises(ValueError, match=message):
        encoding_table(**(good | change))
