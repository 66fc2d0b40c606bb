"""decode, demosaic, develop and statistics against their references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_isp.kernels import reference, residual
from edge_isp.kernels.decode import decode_rgb, output_table, rgb_to_i420, rgb_to_yuyv
from edge_isp.kernels.demosaic import LINEAR_WHITE, METHODS, TONE_ENTRIES, demosaic, develop
from edge_isp.kernels.layout import CELL_PLANES, RawLayout, input_size
from edge_isp.kernels.pack import pack
from edge_isp.kernels.statistics import CLIPPED, statistics
from tests.kernels.sampling import COMPILED, Sample, examples, samples

seeds = st.integers(0, 2**32)
sizes = st.integers(1, 40 if COMPILED else 6)


@examples
@given(sizes, sizes, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans(), seeds)
def test_decode_rgb_equals_its_reference(
    height: int, width: int, bgr: bool, flip_vertical: bool, flip_horizontal: bool, signed: bool, plain: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    planes = rng.integers(0, 256, (height, width, 12), dtype=np.uint8).view(np.int8 if signed else np.uint8)
    table = np.arange(256, dtype=np.uint8) if plain else rng.integers(0, 256, 256, dtype=np.uint8)
    arguments: dict[str, Any] = {"bgr": bgr, "flip_vertical": flip_vertical, "flip_horizontal": flip_horizontal}
    out = np.zeros((2 * height, 2 * width, 3), np.uint8)
    decode_rgb(planes, out, table, **arguments)
    np.testing.assert_array_equal(out, reference.decode_rgb(planes, table, **arguments))


@examples
@given(sizes, sizes, st.sampled_from([4, 8]), st.booleans(), st.booleans(), st.booleans(), seeds)
def test_decode_residual_equals_its_reference(
    height: int, width: int, channels: int, extreme: bool, flip_vertical: bool, flip_horizontal: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    choice = np.array([-128, -127, 0, 127], np.int8) if extreme else np.arange(-128, 128).astype(np.int8)
    planes = rng.choice(choice, (height, width, 12))
    arguments: dict[str, Any] = {
        "matrix": rng.normal(0, 1, (3, 3)) + np.eye(3),
        "tone": rng.integers(0, 256, residual.TONE_ENTRIES, dtype=np.uint8),
        "flip_vertical": flip_vertical,
        "flip_horizontal": flip_horizontal,
    }
    encoded = rng.choice(choice, (height, width, channels))
    out = np.zeros((2 * height, 2 * width, 3), np.uint8)
    residual.decode_residual(planes, encoded, out, **arguments)
    np.testing.assert_array_equal(out, reference.decode_residual(planes, encoded, **arguments))
    parts = np.zeros_like(out)
    for row in range(height):
        residual.decode_residual(planes, encoded, parts, rows=(row, row + 1), **arguments)
    np.testing.assert_array_equal(parts, out)


@examples
@given(
    sizes,
    sizes,
    st.sampled_from([(2, 1, 24), (2, 16, 12), (2, 16, 24), (4, 1, 48), (4, 3, 48)]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    seeds,
)
def test_what_lies_beyond_the_picture_is_cut_off(
    height: int,
    width: int,
    cells: tuple[int, int, int],
    noise: bool,
    flip_vertical: bool,
    flip_horizontal: bool,
    seed: int,
) -> None:
    cell, multiple, channels = cells
    rng = np.random.default_rng(seed)
    size = input_size(2 * width, 2 * height, cell=cell, multiple=multiple)
    planes = rng.integers(-128, 128, (*size, channels)).astype(np.int8)
    encoded = rng.integers(-128, 128, (*size, cell * cell + (4 if noise else 0))).astype(np.int8)
    arguments: dict[str, Any] = {
        "matrix": rng.normal(0, 1, (3, 3)) + np.eye(3),
        "tone": rng.integers(0, 256, residual.TONE_ENTRIES, dtype=np.uint8),
        "flip_vertical": flip_vertical,
        "flip_horizontal": flip_horizontal,
    }
    out = np.zeros((2 * height, 2 * width, 3), np.uint8)
    expected = reference.decode_residual(planes, encoded, size=out.shape[:2], **arguments)
    residual.decode_residual(planes, encoded, out, cell=cell, multiple=multiple, **arguments)
    np.testing.assert_array_equal(out, expected)
    parts = np.zeros_like(out)
    for row in range(size[0]):
        residual.decode_residual(planes, encoded, parts, cell=cell, multiple=multiple, rows=(row, row + 1), **arguments)
    np.testing.assert_array_equal(parts, out)


def test_without_a_residual_a_picture_is_malvars() -> None:
    """The cells' filters are those of the demosaicing kernel, away from the borders."""
    codes = np.random.default_rng(0).integers(0, 256, (24, 36), dtype=np.uint8)
    cells = (codes.reshape(12, 2, 18, 2).transpose(0, 2, 1, 3).reshape(12, 18, 4).astype(np.int16) - 128).astype(
        np.int8
    )
    out = np.zeros((24, 36, 3), np.uint8)
    # Linear in the square root: every 8-bit root comes back as it went in.
    steps = np.sqrt(np.arange(residual.TONE_ENTRIES) / (residual.TONE_ENTRIES - 1))
    tone = np.rint(255 * steps).astype(np.uint8)
    residual.decode_residual(np.zeros((12, 18, 12), np.int8), cells, out, matrix=np.eye(3), tone=tone)
    expected = np.zeros((24, 36, 3), np.uint16)
    demosaic(codes, expected, RawLayout(36, 24, "u8", 8, "RGGB"))
    bright = expected[4:-4, 4:-4] > 32  # the table is coarser than a root in the shadows
    difference = np.abs(out[4:-4, 4:-4].astype(int) - expected[4:-4, 4:-4])[bright]
    assert difference.max() <= 1
    assert bright.sum() > 1000


@examples
@given(sizes, sizes, seeds)
def test_rgb_to_i420_equals_its_reference(height: int, width: int, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (2 * height, 2 * width, 3), dtype=np.uint8)
    out = np.zeros((3 * height, 2 * width), np.uint8)
    rgb_to_i420(rgb, out)
    np.testing.assert_array_equal(out, reference.rgb_to_i420(rgb))


@examples
@given(sizes, sizes, seeds)
def test_rgb_to_yuyv_equals_its_reference(height: int, width: int, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, 2 * width, 3), dtype=np.uint8)
    out = np.zeros((height, 4 * width), np.uint8)
    rgb_to_yuyv(rgb, out)
    np.testing.assert_array_equal(out, reference.rgb_to_yuyv(rgb))


@pytest.mark.parametrize("values", [[0, 1, 254, 255], range(256)], ids=["extremes", "all"])
def test_yuv_of_many_pixels_equals_its_reference(values: Sequence[int]) -> None:
    """Where sums of 16 bits would overflow, and where halves are rounded, which one pixel in hundreds shows."""
    rgb = np.random.default_rng(1).choice(np.array(values, np.uint8), (256, 256, 3))
    i420, yuyv = np.zeros((384, 256), np.uint8), np.zeros((256, 512), np.uint8)
    rgb_to_i420(rgb, i420)
    rgb_to_yuyv(rgb, yuyv)
    np.testing.assert_array_equal(i420, reference.rgb_to_i420(rgb))
    np.testing.assert_array_equal(yuyv, reference.rgb_to_yuyv(rgb))


@pytest.mark.parametrize(
    ("colour", "yuv"),
    [((0, 0, 0), (16, 128, 128)), ((255, 255, 255), (235, 128, 128)), ((255, 0, 0), (82, 90, 240))],
)
def test_yuv_of_known_colours(colour: tuple[int, int, int], yuv: tuple[int, int, int]) -> None:
    out = np.zeros((3, 2), np.uint8)
    rgb_to_i420(np.full((2, 2, 3), colour, np.uint8), out)
    np.testing.assert_array_equal(out.ravel(), [yuv[0]] * 4 + [yuv[1], yuv[2]])
    out = np.zeros((1, 4), np.uint8)
    rgb_to_yuyv(np.full((1, 2, 3), colour, np.uint8), out)
    np.testing.assert_array_equal(out.ravel(), [yuv[0], yuv[1], yuv[0], yuv[2]])


@examples
@given(samples(smallest=2), st.sampled_from(METHODS))
def test_demosaic_equals_its_reference(sample: Sample, method: str) -> None:
    out = np.zeros((sample.layout.height, sample.layout.width, 3), np.uint16)
    demosaic(sample.data, out, sample.layout, method=method)
    np.testing.assert_array_equal(out, reference.demosaic(sample.data, sample.layout, method=method))


@examples
@given(samples(smallest=2), st.sampled_from(METHODS), seeds)
def test_develop_equals_its_reference(sample: Sample, method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arguments: dict[str, Any] = {
        "method": method,
        "tables": rng.integers(0, LINEAR_WHITE + 1, (4, 2**sample.layout.bit_depth)).astype(np.uint16),
        "matrix": rng.uniform(-1, 2, (3, 3)),
        "tone": rng.integers(0, 256, TONE_ENTRIES, dtype=np.uint8),
    }
    out = np.zeros((sample.layout.height, sample.layout.width, 3), np.uint8)
    develop(sample.data, out, sample.layout, **arguments)
    expected = reference.develop(sample.data, sample.layout, linear_white=LINEAR_WHITE, **arguments)
    np.testing.assert_array_equal(out, expected)


@examples
@given(samples(smallest=2), st.integers(0, 30), st.integers(0, 30))
def test_demosaic_of_a_range_of_rows_writes_those_rows_only(sample: Sample, a: int, b: int) -> None:
    first, last = sorted((a % (sample.layout.cells[0] + 1), b % (sample.layout.cells[0] + 1)))
    out = np.full((sample.layout.height, sample.layout.width, 3), 7, np.uint16)
    demosaic(sample.data, out, sample.layout, rows=(first, last))
    expected = np.full(out.shape, 7, np.uint16)
    whole = reference.demosaic(sample.data, sample.layout)
    expected[2 * first : 2 * last] = whole[2 * first : 2 * last]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_demosaic_of_one_colour_is_that_colour(cfa: str, method: str) -> None:
    codes = np.empty((12, 16), np.uint16)
    for place, letter in enumerate(cfa):
        codes[place // 2 :: 2, place % 2 :: 2] = {"R": 100, "G": 500, "B": 900}[letter]
    out = np.empty((12, 16, 3), np.uint16)
    data = pack(codes, packing="csi2p", bit_depth=10)
    demosaic(data, out, RawLayout(16, 12, "csi2p", 10, cfa), method=method)
    np.testing.assert_array_equal(out, np.broadcast_to([100, 500, 900], out.shape))


@examples
@given(samples(), st.integers(1, 5))
def test_statistics_equal_their_reference(sample: Sample, step: int) -> None:
    highest = 2**sample.layout.bit_depth - 1
    arguments: dict[str, Any] = {
        "black_level": [0.05 * highest, 0.06 * highest, 0.07 * highest, 0.08 * highest],
        "white_level": 0.9 * highest,
        "step": step,
    }
    found = statistics(sample.data, sample.layout, **arguments)
    histograms, means, clipped, gains = reference.statistics(sample.data, sample.layout, clipped=CLIPPED, **arguments)
    np.testing.assert_array_equal(found.histograms, histograms)
    np.testing.assert_allclose(found.means, means, rtol=1e-12)
    np.testing.assert_allclose(found.clipped, clipped, rtol=1e-12)
    np.testing.assert_allclose(found.grey_world_gains, gains, rtol=1e-6)


def test_grey_world_finds_the_light_and_leaves_out_what_is_clipped() -> None:
    codes = np.empty((16, 16), np.uint16)
    codes[::2, ::2], codes[::2, 1::2], codes[1::2, ::2], codes[1::2, 1::2] = 264, 464, 464, 164
    codes[:2] = 1023
    found = statistics(
        pack(codes, packing="csi2p", bit_depth=10),
        RawLayout(16, 16, "csi2p", 10, "RGGB"),
        black_level=(64, 64, 64, 64),
        white_level=1023,
        step=1,
    )
    np.testing.assert_allclose(found.grey_world_gains, (2.0, 4.0))
    np.testing.assert_allclose(found.clipped, 1 / 8)


def test_a_frame_without_light_has_no_white_balance() -> None:
    for value in (64, 1023):
        data = pack(np.full((4, 4), value, np.uint16), packing="u16", bit_depth=10)
        found = statistics(
            data,
            RawLayout(4, 4, "u16", 10, "RGGB"),
            black_level=(64, 64, 64, 64),
            white_level=1023,
        )
        assert found.grey_world_gains == (1.0, 1.0)


def test_output_table_of_either_dtype() -> None:
    np.testing.assert_array_equal(output_table(1 / 255, -128), np.arange(256))
    np.testing.assert_array_equal(output_table(1 / 255, 0, np.uint8), np.arange(256))


@pytest.mark.parametrize(
    ("planes", "out", "message"),
    [
        (np.zeros((2, 2, 11), np.int8), np.zeros((4, 4, 3), np.uint8), "planes must be int8 or uint8"),
        (np.zeros((2, 2, 12), np.int8), np.zeros((4, 5, 3), np.uint8), r"out must be C-contiguous uint8 \(4, 4, 3\)"),
    ],
)
def test_decode_refuses_what_cannot_be(planes: Any, out: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_rgb(planes, out, output_table(1 / 255, -128))


def test_demosaic_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least 4x4 pixels, found 2x4"):
        demosaic(np.zeros((4, 4), np.uint8), np.zeros((4, 2, 3), np.uint16), RawLayout(2, 4, "u8", 8, "RGGB"))
    with pytest.raises(ValueError, match="method must be one of bilinear, malvar, found 'menon'"):
        demosaic(
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 3), np.uint16),
            RawLayout(4, 4, "u8", 8, "RGGB"),
            method="menon",
        )
