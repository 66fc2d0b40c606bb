"""Means, clipping and noise of blocks, and how colours speak for a light."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_isp.kernels import reference
from edge_isp.kernels.blocks import block_statistics
from edge_isp.kernels.correlate import REACH, correlate_colours
from edge_isp.kernels.layout import RawLayout
from edge_isp.kernels.pack import pack
from tests.kernels.sampling import Sample, examples, samples


@examples
@given(samples(), st.floats(0.3, 1.1))
def test_block_statistics_equal_their_reference(sample: Sample, limit: float) -> None:
    highest = 2**sample.layout.bit_depth - 1
    limits = [limit * highest, 0.9 * highest, 0.8 * highest, 0.7 * highest]
    found = block_statistics(sample.data, sample.layout, limits=limits)
    means, clipped, noise = reference.block_statistics(sample.data, sample.layout, limits=limits)
    np.testing.assert_allclose(found.means, means, rtol=1e-12)
    np.testing.assert_allclose(found.clipped, clipped, rtol=1e-12)
    np.testing.assert_allclose(found.noise, noise, rtol=1e-4)


@pytest.mark.parametrize("bit_depth", [10, 16])
def test_large_windows_are_looked_at_in_32_rows_of_blocks(bit_depth: int) -> None:
    codes = np.random.default_rng(0).integers(0, 2**bit_depth, (1090, 70)).astype(np.uint16)
    data, layout = pack(codes, packing="u16", bit_depth=bit_depth), RawLayout(70, 1090, "u16", bit_depth, "GBRG")
    found = block_statistics(data, layout, limits=(2**bit_depth,) * 4)
    means, _, noise = reference.block_statistics(data, layout, limits=(2**bit_depth,) * 4)
    assert found.means.shape == (32, 4, 4)
    np.testing.assert_allclose(found.means, means, rtol=1e-12)
    np.testing.assert_allclose(found.noise, noise, rtol=1e-4)
    assert not found.clipped.any()


def test_slopes_and_unequal_greens_are_no_noise() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:512, :512]
    codes = 200 + 0.3 * columns + 0.4 * rows + 12 * (rows % 2) + rng.normal(0, 5, (512, 512))
    data = pack(np.rint(codes).astype(np.uint16), packing="u16", bit_depth=10)
    found = block_statistics(data, RawLayout(512, 512, "u16", 10, "RGGB"), limits=(1023,) * 4)
    assert found.noise.mean() == pytest.approx(25, rel=0.05)


def test_three_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="limits must be four codes"):
        block_statistics(np.zeros((8, 8), np.uint8), RawLayout(8, 8, "u8", 8, "RGGB"), limits=(255,) * 3)


def test_colours_speak_for_the_light_that_makes_them_likely() -> None:
    rng = np.random.default_rng(0)
    size = 41
    table = rng.normal(size=(3, size, size)).astype(np.float32)
    matrices = (np.eye(3) + rng.normal(0, 0.2, (5, 3, 3))).astype(np.float32)
    colours = rng.uniform(0, 1, (200, 3)).astype(np.float32)
    weights = rng.uniform(0, 1, 200).astype(np.float32)
    levels = rng.integers(0, 3, 200).astype(np.int32)
    found = correlate_colours(colours, weights, levels, matrices, table)
    seen = np.einsum("mij,nj->mni", matrices, colours)
    parts = seen[..., [0, 2]] / seen.sum(2, keepdims=True)
    places = np.clip((parts - 1 / 3 + REACH) * (size - 1) / (2 * REACH), 0, size - 1)
    indices = (places + 0.5).astype(np.int64)
    expected = (weights * table[levels, indices[..., 0], indices[..., 1]]).sum(1)
    # A place at the middle between two points may round either way.
    close = np.abs((places + 0.5) % 1 - 0.5) > 0.499
    tolerance = 1e-4 + (close.any(2) * np.abs(table).max() * 2).sum(1)
    assert (np.abs(found - expected) < tolerance).all()


def test_black_and_impossible_colours_do_not_speak() -> None:
    colours = np.array([[0, 0, 0], [-1, -1, 0.5]], np.float32)
    table = np.ones((1, 3, 3), np.float32)
    arguments = (np.ones(2, np.float32), np.zeros(2, np.int32), np.eye(3, dtype=np.float32)[None])
    assert correlate_colours(colours, *arguments, table).tolist() == [0]


def test_a_level_that_the_table_does_not_have_is_refused() -> None:
    ones, table = np.ones((1, 3), np.float32), np.zeros((1, 3, 3), np.float32)
    with pytest.raises(ValueError, match="levels must be 0 to 0, found 1 to 1"):
        correlate_colours(ones, ones[:, 0], np.ones(1, np.int32), np.ones((1, 3, 3), np.float32), table)
