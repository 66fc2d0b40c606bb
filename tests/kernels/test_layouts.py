"""Every layout, read bit by bit and against the reference; PiSP against a reference that takes one word at a time."""

from __future__ import annotations

import os
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_isp.frame import Cfa, Packing
from edge_isp.kernels import reference
from edge_isp.kernels.checks import check_rows
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import (
    CELL_PLANES,
    PACKINGS,
    RawLayout,
    mirrored_cfa,
    plan_rows,
    row_bytes,
    row_ranges,
)
from edge_isp.kernels.pack import pack
from edge_isp.kernels.unpack import unpack
from tests.kernels.sampling import COMPILED, LAYOUTS, Sample, examples, samples

LAYOUT = RawLayout(16, 4, "csi2p", 10, "RGGB")
PACKABLE = [layout for layout in LAYOUTS if layout[0] != "pisp-comp1"]


@examples
@given(samples(even=False))
def test_unpack_equals_its_reference(sample: Sample) -> None:
    np.testing.assert_array_equal(unpack(sample.data, sample.layout), reference.unpack(sample.data, sample.layout))


@examples
@given(samples(even=False), st.integers(0, 100), st.integers(0, 100))
def test_unpack_of_a_range_of_rows_writes_those_rows_only(sample: Sample, a: int, b: int) -> None:
    height = sample.layout.height
    first, last = sorted((a % (height + 1), b % (height + 1)))
    out = np.full((height, sample.layout.width), 12345, np.uint16)
    unpack(sample.data, sample.layout, out=out, rows=(first, last))
    expected = np.full(out.shape, 12345, np.uint16)
    expected[first:last] = reference.unpack(sample.data, sample.layout)[first:last]
    np.testing.assert_array_equal(out, expected)


@examples
@given(st.sampled_from(PACKABLE), st.integers(1, 40), st.integers(1, 4), st.integers(0, 40), st.integers(0, 2**32))
def test_unpack_undoes_pack(layout: tuple[str, int], width: int, height: int, padding: int, seed: int) -> None:
    packing, bit_depth = layout
    codes = np.random.default_rng(seed).integers(0, 2**bit_depth, (height, width)).astype(np.uint16)
    packed = pack(codes, packing=packing, bit_depth=bit_depth, stride=row_bytes(packing, bit_depth, width) + padding)
    found = unpack(packed, RawLayout(width, height, packing, bit_depth, "RGGB"))
    np.testing.assert_array_equal(found, codes)


@pytest.mark.parametrize(
    ("packing", "bit_depth", "raw", "codes"),
    [
        ("csi2p", 8, [0xAB, 0xCD], [0xAB, 0xCD]),
        ("csi2p", 10, [0xAA, 0x01, 0xFF, 0x40, 0b00_11_10_01], [0x2A9, 0x006, 0x3FF, 0x100]),
        ("csi2p", 12, [0xAB, 0x12, 0x7C], [0xABC, 0x127]),
        # Low bits, pixel 0 lowest: 000001, 000010, 000100, 100000 = byte 0x81, byte 0x40, byte 0x80.
        ("csi2p", 14, [0, 0, 0, 0xFF, 0x81, 0x40, 0x80], [0b000001, 0b000010, 0b000100, 0x3FE0]),
        ("u16", 10, [0xA9, 0x02, 0xFF, 0xFF], [0x2A9, 0x3FF]),  # what is too large is held at the highest code
        ("u16-left", 10, [0x40, 0xAA, 0xC0, 0xFF], [0x2A9, 0x3FF]),
        ("u16", 16, [0x34, 0x12], [0x1234]),
    ],
)
def test_codes_bit_by_bit(packing: str, bit_depth: int, raw: list[int], codes: list[int]) -> None:
    data = np.array([raw], np.uint8)
    found = unpack(data, RawLayout(len(codes), 1, packing, bit_depth, "RGGB"))
    np.testing.assert_array_equal(found, [codes])


def decompress(words: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Codes (words, 4) of words that come in pairs: even columns, odd columns."""
    data = words.astype("<u4").view(np.uint8).reshape(-1, 4000 if words.size % 1000 == 0 else 8)
    codes = unpack(data, RawLayout(data.shape[1], data.shape[0], "pisp-comp1", 16, "RGGB"))
    return codes.reshape(-1, 4, 2).swapaxes(1, 2).reshape(-1, 4)


def scalar_reference(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    return np.array([reference.pisp_word(int(word)) for word in words])


def test_pisp_equals_its_scalar_reference_on_random_words() -> None:
    words = np.random.default_rng(1).integers(0, 2**32, 20_000 if COMPILED else 2_000, dtype=np.uint32)
    np.testing.assert_array_equal(decompress(words), scalar_reference(words))


@pytest.mark.skipif(not COMPILED, reason="ten million words take too long without compilation")
def test_pisp_equals_its_scalar_reference_on_ten_million_words() -> None:
    code = numba.njit(reference.pisp_code)
    namespace: dict[str, Any] = {"pisp_code": code}
    word = numba.njit(types.FunctionType(reference.pisp_word.__code__, namespace))

    @numba.njit  # type: ignore[untyped-decorator]
    def each(words: NDArray[np.uint32], out: NDArray[np.uint16]) -> None:
        for i in range(len(words)):
            out[i] = word(np.int64(words[i]))

    words = np.random.default_rng(2).integers(0, 2**32, 10_000_000, dtype=np.uint32)
    expected = np.empty((len(words), 4), np.uint16)
    each(words, expected)
    np.testing.assert_array_equal(expected[:1000], scalar_reference(words[:1000]))
    np.testing.assert_array_equal(decompress(words), expected)
    np.testing.assert_array_equal(
        reference.decompress_pisp(words.view(np.uint8).reshape(1, -1)).reshape(-1, 4, 2).swapaxes(1, 2).reshape(-1, 4),
        expected,
    )


def test_pisp_on_all_field_boundaries() -> None:
    def around(*values: int, bits: int) -> list[int]:
        return sorted({v + d for v in (0, 2**bits - 1, *values) for d in (-1, 0, 1) if 0 <= v + d < 2**bits})

    words = [
        mode | p0 << 2 | p1 << 11 | p2 << 18 | p3 << 25
        for mode in range(3)
        for p0 in around(64, 127, 128, 256, 384, 447, 448, bits=9)
        for p1 in around(63, 64, 65, bits=7)
        for p2 in (0, 1, 63, 64, 126, 127)
        for p3 in (0, 1, 63, 64, 126, 127)
    ]
    fields = around(*(16 * 176 * n for n in range(12)), *(16 * n for n in (47, 175, 176)), 2816, 32512, bits=15)
    words += [3 | a << 2 | b << 17 for a in fields for b in fields]
    words += words[: len(words) % 2]
    if not COMPILED:
        words = words[:: 2 * (len(words) // 4000)]
        words += words[: len(words) % 2]
    array = np.array(words, np.uint32)
    np.testing.assert_array_equal(decompress(array), scalar_reference(array))


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


@pytest.mark.skipif("EDGE_ISP_DATA" not in os.environ, reason="EDGE_ISP_DATA does not name the folder of real frames")
@pytest.mark.parametrize("fourcc", list(VIVID))
def test_bars_of_a_real_driver_have_their_exact_levels(fourcc: str) -> None:
    cfa, packing, bit_depth, level = VIVID[fourcc]
    path = Path(os.environ["EDGE_ISP_DATA"]) / "vivid" / f"bars_{fourcc}.raw"
    raw = np.fromfile(path, np.uint8).reshape(180, -1)
    tables = np.tile(np.arange(2**bit_depth, dtype=np.int32), (4, 1))
    out = np.zeros((90, 160, 4), np.int32)
    encode(raw, out, RawLayout(320, 180, packing, bit_depth, cfa), tables=tables)
    for bar, lit in enumerate(BARS):
        cells = out[:, 20 * bar : 20 * (bar + 1)]
        expected = [level * (colour in lit) for colour in "RGGB"]
        np.testing.assert_array_equal(cells, np.broadcast_to(expected, cells.shape), err_msg=f"bar '{lit}'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packing": "csi3"}, "packing must be one of u8, u16, u16-left, csi2p, pisp-comp1, found 'csi3'"),
        ({"bit_depth": 9}, r"bit depth of packing 'csi2p' must be one of \(8, 10, 12, 14\), found 9"),
        ({"cfa": "RGBG"}, "CFA order must be one of RGGB, GRBG, GBRG, BGGR, found 'RGBG'"),
        ({"left": 1}, "even, not negative pixel, found 1, 0"),
        ({"top": -2}, "even, not negative pixel, found 0, -2"),
        ({"width": 18}, r"at least 25\), found uint8 \(4, 20\)"),
        ({"height": 5}, r"at least 5, at least 20\), found"),
        ({"width": 0}, "at least one pixel, found 0x4"),
    ],
)
def test_a_window_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_rows(np.zeros((4, 20), np.uint8), replace(LAYOUT, **change))


@pytest.mark.parametrize("change", [{"packing": "csi3"}, {"bit_depth": 9}, {"cfa": "RGBG"}, {"left": 1}, {"width": 0}])
def test_a_layout_is_checked_when_it_is_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="found"):
        replace(LAYOUT, **change)


def test_the_names_of_a_frame_are_those_that_the_kernels_know() -> None:
    assert {str(cfa) for cfa in Cfa} == set(CELL_PLANES)
    assert [str(packing) for packing in Packing] == list(PACKINGS)


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_a_cfa_order_is_mirrored_as_its_mosaic_is(cfa: str) -> None:
    mosaic = np.array(list(cfa)).reshape(2, 2)
    for vertical in (False, True):
        for horizontal in (False, True):
            seen = mosaic[:: -1 if vertical else 1, :: -1 if horizontal else 1]
            assert mirrored_cfa(cfa, vertical=vertical, horizontal=horizontal) == "".join(seen.ravel())


def test_rows_that_are_not_contiguous_are_refused() -> None:
    data = np.zeros((4, 40), np.uint8)[:, ::2]
    with pytest.raises(ValueError, match="data must have rows of contiguous bytes"):
        unpack(data, RawLayout(20, 4, "u8", 8, "RGGB"))


def test_pisp_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="can be read but not packed"):
        pack(np.zeros((2, 8), np.uint16), packing="pisp-comp1", bit_depth=16)


@given(st.integers(0, 1000), st.integers(1, 9))
def test_row_ranges_cover_all_rows_once(count: int, parts: int) -> None:
    ranges = row_ranges(count, parts)
    assert [row for first, last in ranges for row in range(first, last)] == list(range(count))
    assert max(last - first for first, last in ranges) - min(last - first for first, last in ranges) <= 1


def test_rows_outside_the_frame_are_refused() -> None:
    with pytest.raises(ValueError, match=r"within 0 and 4, found \(2, 5\)"):
        check_rows((2, 5), 4)
