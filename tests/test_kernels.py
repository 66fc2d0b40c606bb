"""Every kernel equals its NumPy reference, and real drivers' frames come out at their exact levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_isp.kernels import reference
from edge_isp.kernels.decode import decode_rgb, output_table
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import CELL_PLANES, flips_to_rggb, row_bytes
from edge_isp.kernels.pack import pack
from edge_isp.kernels.statistics import grey_world_gains
from edge_isp.kernels.tables import encoding_table
from edge_isp.kernels.unpack import unpack
from hypothesis import given
from hypothesis import strategies as st

LAYOUTS = [("u8", 8), ("csi2p", 10), ("csi2p", 12), *(("u16", b) for b in (8, 10, 12, 14, 16)), ("u16-left", 10)]
layouts = st.sampled_from(LAYOUTS)
cfas = st.sampled_from(list(CELL_PLANES))


def random_bytes(seed: int, packing: str, bit_depth: int, width: int, height: int, padding: int) -> Any:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, row_bytes(packing, bit_depth, width) + padding), dtype=np.uint8)


@pytest.mark.parametrize("width", range(2, 67))
@pytest.mark.parametrize(("packing", "bit_depth"), LAYOUTS)
def test_unpack_equals_its_reference_at_every_width(packing: str, bit_depth: int, width: int) -> None:
    raw = random_bytes(width, packing, bit_depth, width, 3, padding=width % 7)
    arguments = {"width": width, "height": 3, "packing": packing, "bit_depth": bit_depth}
    np.testing.assert_array_equal(unpack(raw, **arguments), reference.unpack(raw, **arguments))


@given(layouts, st.integers(1, 66), st.integers(1, 9), st.integers(0, 40), st.integers(0, 2**32))
def test_unpack_undoes_pack(layout: tuple[str, int], width: int, height: int, padding: int, seed: int) -> None:
    packing, bit_depth = layout
    codes = np.random.default_rng(seed).integers(0, 2**bit_depth, (height, width)).astype(np.uint16)
    stride = row_bytes(packing, bit_depth, width) + padding
    packed = pack(codes, packing=packing, bit_depth=bit_depth, stride=stride)
    assert packed.shape == (height, stride)
    found = unpack(packed, width=width, height=height, packing=packing, bit_depth=bit_depth)
    np.testing.assert_array_equal(found, codes)


def test_raw10_bit_by_bit() -> None:
    # Four pixels: 0b1010101001, 0b0000000110, 0b1111111111, 0b0100000000. Low bits of pixel 0 lowest.
    raw = np.array([[0b10101010, 0b00000001, 0b11111111, 0b01000000, 0b00_11_10_01]], np.uint8)
    codes = unpack(raw, width=4, height=1, packing="csi2p", bit_depth=10)
    np.testing.assert_array_equal(codes, [[0b1010101001, 0b0000000110, 0b1111111111, 0b0100000000]])


def test_raw12_bit_by_bit() -> None:
    raw = np.array([[0xAB, 0x12, 0x7C]], np.uint8)
    np.testing.assert_array_equal(unpack(raw, width=2, height=1, packing="csi2p", bit_depth=12), [[0xABC, 0x127]])


@given(
    layouts,
    cfas,
    st.integers(1, 33),
    st.integers(1, 5),
    st.integers(0, 40),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.int8, np.uint8, np.int16, np.float32]),
    st.integers(0, 2**32),
)
def test_encode_equals_its_reference(
    layout: tuple[str, int],
    cfa: str,
    columns: int,
    rows: int,
    padding: int,
    flip_vertical: bool,
    flip_horizontal: bool,
    dtype: type,
    seed: int,
) -> None:
    packing, bit_depth = layout
    raw = random_bytes(seed, packing, bit_depth, 2 * columns, 2 * rows, padding)
    tables = np.random.default_rng(seed).integers(-128, 128, (4, 2**bit_depth)).astype(dtype)
    arguments: dict[str, Any] = {
        "width": 2 * columns,
        "height": 2 * rows,
        "packing": packing,
        "bit_depth": bit_depth,
        "cfa": cfa,
        "tables": tables,
        "flip_vertical": flip_vertical,
        "flip_horizontal": flip_horizontal,
    }
    out = np.zeros((rows, columns, 4), dtype)
    encode(raw, out, **arguments)
    np.testing.assert_array_equal(out, reference.encode(raw, **arguments))


@given(st.integers(1, 20), st.integers(1, 20), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_decode_rgb_equals_its_reference(
    height: int, width: int, flip_vertical: bool, flip_horizontal: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    planes = rng.integers(-128, 128, (height, width, 12)).astype(np.int8)
    table = rng.integers(0, 256, 256).astype(np.uint8)
    flips = {"flip_vertical": flip_vertical, "flip_horizontal": flip_horizontal}
    out = np.zeros((2 * height, 2 * width, 3), np.uint8)
    decode_rgb(planes, out, table, **flips)
    np.testing.assert_array_equal(out, reference.decode_rgb(planes, table, **flips))


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_flips_to_rggb_mirror_a_mosaic_into_rggb(cfa: str) -> None:
    mosaic = np.array(list(cfa)).reshape(2, 2)
    vertical, horizontal = flips_to_rggb(cfa)
    mosaic = mosaic[::-1] if vertical else mosaic
    mosaic = mosaic[:, ::-1] if horizontal else mosaic
    assert "".join(mosaic.ravel()) == "RGGB"


# The Linux test driver's Bayer formats: the CFA order, the packing, the bits, and the level of its bars.
VIVID = {
    fourcc: (cfa, packing, bit_depth, level)
    for packing, bit_depth, level, fourccs in (
        ("u8", 8, 191, "BA81 GBRG GRBG RGGB"),
        ("u16", 10, 767, "BG10 GB10 BA10 RG10"),
        ("u16", 12, 3071, "BG12 GB12 BA12 RG12"),
        ("u16", 16, 49087, "BYR2 GB16 GR16 RG16"),
    )
    for cfa, fourcc in zip(("BGGR", "GBRG", "GRBG", "RGGB"), fourccs.split(), strict=True)
}
# 75 % colour bars of 40 pixels, left to right: which of red, green, blue are lit.
BARS = ("RGB", "RG", "GB", "G", "RB", "R", "B", "")


@pytest.mark.parametrize("fourcc", list(VIVID))
def test_bars_of_a_real_driver_have_their_exact_levels(data: Path, fourcc: str) -> None:
    cfa, packing, bit_depth, level = VIVID[fourcc]
    raw = np.fromfile(data / "vivid" / f"bars_{fourcc}.raw", np.uint8).reshape(180, -1)
    tables = np.tile(np.arange(2**bit_depth, dtype=np.int32), (4, 1))
    out = np.zeros((90, 160, 4), np.int32)
    encode(raw, out, width=320, height=180, packing=packing, bit_depth=bit_depth, cfa=cfa, tables=tables)
    for bar, lit in enumerate(BARS):
        cells = out[:, 20 * bar : 20 * (bar + 1)]
        expected = [level * (colour in lit) for colour in "RGGB"]
        np.testing.assert_array_equal(cells, np.broadcast_to(expected, cells.shape), err_msg=f"bar '{lit}'")


def test_output_table_of_a_unit_range_only_moves_the_zero() -> None:
    np.testing.assert_array_equal(output_table(1 / 255, -128), np.arange(256))


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packing": "csi3"}, "packing must be one of"),
        ({"bit_depth": 11}, r"bit depth of packing 'csi2p' must be one of \(10, 12\), found 11"),
        ({"cfa": "RGBG"}, "CFA order must be one of RGGB, GRBG, GBRG, BGGR, found 'RGBG'"),
        ({"width": 7}, "must be even, found 7x4"),
        ({"width": 12}, "need bytes of shape"),
        ({"height": 6}, "need bytes of shape"),
        ({"tables": np.zeros((4, 512), np.int8)}, "tables must be"),
    ],
)
def test_encode_refuses_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "width": 8,
        "height": 4,
        "packing": "csi2p",
        "bit_depth": 10,
        "cfa": "RGGB",
        "tables": np.zeros((4, 1024), np.int8),
    }
    with pytest.raises(ValueError, match=message):
        encode(np.zeros((4, 10), np.uint8), np.zeros((2, 4, 4), np.int8), **(good | change))
    with pytest.raises(ValueError, match="out must be"):
        encode(np.zeros((4, 10), np.uint8), np.zeros((2, 4, 4), np.uint8), **good)


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_grey_world_finds_the_gains_and_leaves_clipped_cells_out(cfa: str) -> None:
    rng = np.random.default_rng(1)
    light = rng.uniform(0.05, 0.45, (40, 40)).repeat(2, 0).repeat(2, 1)
    response = np.array([1 / 1.75, 1, 1, 1 / 1.43])[np.array(CELL_PLANES[cfa])].reshape(2, 2)
    codes = np.rint(64 + 959 * light * np.tile(response, (40, 40)))
    codes[:20] = 1023  # clipped: without colour
    red, blue = grey_world_gains(codes.astype(np.uint16), cfa=cfa, black_level=(64,) * 4, white_level=1023)
    assert red == pytest.approx(1.75, rel=0.01)
    assert blue == pytest.approx(1.43, rel=0.01)
    dark = np.full((8, 8), 64, np.uint16)
    assert grey_world_gains(dark, cfa=cfa, black_level=(64,) * 4, white_level=1023) == (1.0, 1.0)
