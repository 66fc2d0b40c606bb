"""encode and encode_resampled against their references, and the tables that they go through."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_isp.kernels import reference
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import CELL_PLANES, RawLayout, input_size, row_bytes, row_ranges
from edge_isp.kernels.pack import pack
from edge_isp.kernels.resample import encode_resampled, letterbox
from edge_isp.kernels.tables import encoding_table
from tests.kernels.sampling import Sample, dtypes, examples, random_tables, samples

seeds = st.integers(0, 2**32)


@examples
@given(
    samples(),
    dtypes,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([2, 4]),
    st.sampled_from([1, 3, 16]),
    seeds,
)
def test_encode_equals_its_reference(
    sample: Sample,
    dtype: type,
    flip_vertical: bool,
    flip_horizontal: bool,
    constants: bool,
    cell: int,
    multiple: int,
    seed: int,
) -> None:
    arguments: dict[str, Any] = {
        "tables": random_tables(seed, sample.layout.bit_depth, dtype),
        "constants": np.arange(4).astype(dtype) if constants else None,
        "flip_vertical": flip_vertical,
        "flip_horizontal": flip_horizontal,
        "cell": cell,
        "multiple": multiple,
    }
    size = input_size(sample.layout.width, sample.layout.height, cell=cell, multiple=multiple)
    out: NDArray[Any] = np.zeros((*size, cell * cell + (4 if constants else 0)), dtype)
    encode(sample.data, out, sample.layout, **arguments)
    np.testing.assert_array_equal(out, reference.encode(sample.data, sample.layout, **arguments))


@examples
@given(
    samples(),
    dtypes,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(1, 100),
    st.integers(1, 100),
    st.booleans(),
    seeds,
)
def test_encode_resampled_equals_its_reference(
    sample: Sample,
    dtype: type,
    flip_vertical: bool,
    flip_horizontal: bool,
    second_column: bool,
    height: int,
    width: int,
    fits: bool,
    seed: int,
) -> None:
    # A target within the window, or one that may be larger in one direction or both.
    target = (1 + height % (sample.layout.cells[0] if fits else 60), 1 + width % 60)
    arguments: dict[str, Any] = {
        "tables": random_tables(seed, sample.layout.bit_depth, dtype),
        "border": 7,
        "flip_vertical": flip_vertical,
        "flip_horizontal": flip_horizontal,
        "second_column": second_column and sample.layout.width > 2,
    }
    out: NDArray[Any] = np.zeros((*target, 4), dtype)
    encode_resampled(sample.data, out, sample.layout, **arguments)
    np.testing.assert_array_equal(out, reference.encode_resampled(sample.data, target, sample.layout, **arguments))


@examples
@given(samples(smallest=2), st.integers(1, 4), st.booleans(), seeds)
def test_threads_that_share_a_frame_give_what_one_gives(sample: Sample, threads: int, flip: bool, seed: int) -> None:
    arguments: dict[str, Any] = {
        "tables": random_tables(seed, sample.layout.bit_depth, np.int8),
        "flip_vertical": flip,
    }
    small = (max(1, sample.layout.cells[0] // 2), max(1, sample.layout.cells[1] // 2))
    kernels: list[tuple[Callable[..., None], tuple[int, int]]] = [
        (encode, sample.layout.cells),
        (encode_resampled, small),
    ]
    for kernel, shape in kernels:
        whole, shared = np.zeros((*shape, 4), np.int8), np.zeros((*shape, 4), np.int8)
        kernel(sample.data, whole, sample.layout, **arguments)
        with ThreadPoolExecutor(threads) as pool:
            calls = [
                pool.submit(kernel, sample.data, shared, sample.layout, rows=rows, **arguments)
                for rows in row_ranges(shape[0], threads)
            ]
        for call in calls:
            call.result()
        np.testing.assert_array_equal(shared, whole)


def test_a_monochrome_frame_fills_the_planes_in_reading_order() -> None:
    codes = np.arange(32, dtype=np.uint16).reshape(4, 8)
    data = pack(codes, packing="csi2p", bit_depth=10)
    tables = np.tile(np.arange(1024, dtype=np.int16), (4, 1))
    out = np.empty((2, 4, 4), np.int16)
    encode(data, out, RawLayout(8, 4, "csi2p", 10, "RGGB"), tables=tables)
    np.testing.assert_array_equal(out[0, 0], [0, 1, 8, 9])
    np.testing.assert_array_equal(out[1, 3], [22, 23, 30, 31])


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_a_flat_frame_stays_flat_when_resampled(cfa: str) -> None:
    codes = np.empty((60, 92), np.uint16)
    for place, plane in enumerate(CELL_PLANES[cfa]):
        codes[place // 2 :: 2, place % 2 :: 2] = 100 * (plane + 1)
    data = pack(codes, packing="csi2p", bit_depth=12)
    tables = np.tile(np.arange(4096, dtype=np.int16), (4, 1))
    out = np.empty((19, 19, 4), np.int16)
    encode_resampled(data, out, RawLayout(92, 60, "csi2p", 12, cfa), tables=tables, border=-1)
    top, left, height, width = letterbox((30, 46), (19, 19))
    assert (top, left, height, width) == (3, 0, 12, 19)
    picture = out[top : top + height]
    np.testing.assert_array_equal(picture, np.broadcast_to([100, 200, 300, 400], picture.shape))
    assert np.all(out[:top] == -1)
    assert np.all(out[top + height :] == -1)


@pytest.mark.parametrize(
    ("width", "change", "message"),
    [
        (7, {}, "width and height must be even, found 7x4"),
        (
            8,
            {"tables": np.zeros((4, 512), np.int8)},
            r"tables must be C-contiguous int8 \(4, 1024\), found int8 \(4, 512\)",
        ),
        (8, {"tables": np.zeros((4, 1024), np.int16)}, r"out must be C-contiguous int16 \(2, 4, 4\), found int8"),
    ],
)
def test_encode_refuses_what_cannot_be(width: int, change: dict[str, Any], message: str) -> None:
    layout = RawLayout(width, 4, "csi2p", 10, "RGGB")
    arguments: dict[str, Any] = {"tables": np.zeros((4, 1024), np.int8)}
    with pytest.raises(ValueError, match=message):
        encode(np.zeros((4, 10), np.uint8), np.zeros((2, 4, 4), np.int8), layout, **(arguments | change))


def test_resampling_does_not_enlarge() -> None:
    """A small frame stands in the middle, code by code, with the border around it."""
    codes = np.arange(32, dtype=np.uint8).reshape(4, 8)
    tables = np.tile(np.arange(256, dtype=np.int16), (4, 1))
    out = np.zeros((6, 12, 4), np.int16)
    encode_resampled(codes, out, RawLayout(8, 4, "u8", 8, "RGGB"), tables=tables, border=-1)
    inside = np.zeros((2, 4, 4), np.int16)
    encode(codes, inside, RawLayout(8, 4, "u8", 8, "RGGB"), tables=tables)
    expected = np.full((6, 12, 4), -1)
    expected[2:4, 4:8] = inside
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("cfa", "read_as"), [("GRBG", "RGGB"), ("BGGR", "GBRG")])
def test_cells_from_the_second_column_on(cfa: str, read_as: str) -> None:
    codes = np.random.default_rng(0).integers(0, 4096, (8, 12)).astype(np.uint16)
    tables = np.tile(np.arange(4096, dtype=np.int16), (4, 1))
    out, expected = np.zeros((4, 5, 4), np.int16), np.zeros((4, 5, 4), np.int16)
    data = pack(codes, packing="csi2p", bit_depth=12)
    encode_resampled(data, out, RawLayout(12, 8, "csi2p", 12, cfa), tables=tables, second_column=True)
    inner = np.ascontiguousarray(codes[:, 1:-1]).view(np.uint8)
    encode(inner, expected, RawLayout(10, 8, "u16", 12, read_as), tables=tables)
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(ValueError, match="width must be at least 4 for cells from the second column on, found 2"):
        encode_resampled(data, out, RawLayout(2, 8, "csi2p", 12, cfa), tables=tables, second_column=True)


def table_of(dtype: type, **change: Any) -> Any:
    arguments: dict[str, Any] = {
        "bit_depth": 10,
        "black_level": (64, 64, 64, 64),
        "white_level": 1023,
        "gains": (1.0, 1.0, 1.0),
        "curve": "linear",
        "scale": 1 / 959,
        "zero_point": 0,
        "dtype": dtype,
    }
    return encoding_table(**(arguments | change))


def test_a_table_of_floats_holds_light_unrounded() -> None:
    table = table_of(np.float32, scale=2.0)
    np.testing.assert_allclose(table[0, [0, 64, 65, 1023]], [0, 0, 0.5 / 959, 0.5], rtol=1e-6)


def test_reads_a_frame_that_cannot_be_written() -> None:
    data = np.zeros((4, row_bytes("csi2p", 10, 8)), np.uint8)
    data.flags.writeable = False
    out = np.ones((2, 4, 4), np.int8)
    tables = np.zeros((4, 1024), np.int8)
    encode(data, out, RawLayout(8, 4, "csi2p", 10, "RGGB"), tables=tables)
    assert not out.any()
