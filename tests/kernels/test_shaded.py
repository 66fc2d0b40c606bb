"""encode_shaded against its reference, and the factors that lens shading is corrected with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_isp.kernels import reference
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import CELL_PLANES, RawLayout, input_size, row_ranges
from edge_isp.kernels.pack import pack
from edge_isp.kernels.shaded import encode_shaded
from edge_isp.kernels.tables import Factors, encoding_table, lens_factors, node_places, step_table, steps
from tests.kernels.sampling import Sample, examples, samples

seeds = st.integers(0, 2**32)
LEVELS: dict[str, Any] = {
    "bit_depth": 10,
    "black_level": (64, 64, 64, 64),
    "white_level": 1023,
    "gains": (1.75, 1.0, 1.43),
    "scale": 1 / 255,
    "zero_point": -128,
}


def random_factors(rng: np.random.Generator, layout: RawLayout, bits: int = 14) -> Factors:
    height, width = (len(node_places(cells)) for cells in layout.cells)
    return Factors(rng.integers(0, 65536, (height, width, 4)).astype(np.uint16), bits)


def shaded(data: NDArray[np.uint8], layout: RawLayout, *, channels: int = 4, **arguments: Any) -> NDArray[np.int8]:
    size = input_size(layout.width, layout.height, cell=arguments.get("cell", 2), multiple=arguments.get("multiple", 1))
    out = np.zeros((*size, channels), np.int8)
    encode_shaded(data, out, layout, **arguments)
    return out


@examples
@given(
    samples(),
    st.sampled_from([14, 12]),
    st.integers(-128, 127),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(2, 1), (2, 16), (4, 1), (4, 3)]),
    seeds,
)
def test_encode_shaded_equals_its_reference(
    sample: Sample,
    bits: int,
    zero_point: int,
    flip_vertical: bool,
    flip_horizontal: bool,
    constants: bool,
    cells: tuple[int, int],
    seed: int,
) -> None:
    cell, multiple = cells
    rng = np.random.default_rng(seed)
    arguments: dict[str, Any] = {
        "tables": steps(rng.uniform(0, 300, (4, sample.layout.highest + 1)), zero_point),
        "factors": random_factors(rng, sample.layout, bits),
        "zero_point": zero_point,
        "constants": steps(rng.uniform(0, 300, 4), zero_point) if constants else None,
        "flip_vertical": flip_vertical,
        "flip_horizontal": flip_horizontal,
        "cell": cell,
        "multiple": multiple,
    }
    out = shaded(sample.data, sample.layout, channels=cell * cell + (4 if constants else 0), **arguments)
    np.testing.assert_array_equal(out, reference.encode_shaded(sample.data, sample.layout, **arguments))


@pytest.mark.parametrize("cell", [2, 4])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_rows_in_threads_give_the_whole(parts: int, cell: int) -> None:
    rng = np.random.default_rng(parts)
    layout = RawLayout(78, 102, "csi2p", 10, "GBRG")
    data = rng.integers(0, 256, (102, 100), dtype=np.uint8)
    arguments: dict[str, Any] = {
        "tables": step_table(curve="sqrt", **LEVELS),
        "factors": random_factors(rng, layout),
        "zero_point": -128,
        "flip_vertical": True,
        "cell": cell,
    }
    size = input_size(layout.width, layout.height, cell=cell)
    out = np.zeros((*size, cell * cell), np.int8)
    with ThreadPoolExecutor(parts) as pool:
        list(
            pool.map(lambda rows: encode_shaded(data, out, layout, rows=rows, **arguments), row_ranges(size[0], parts))
        )
    np.testing.assert_array_equal(out, shaded(data, layout, channels=cell * cell, **arguments))


@pytest.mark.parametrize("curve", ["sqrt", "linear"])
def test_no_shading_is_plain_encoding(curve: str) -> None:
    codes = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    data, layout = pack(codes, packing="u16", bit_depth=10), RawLayout(32, 32, "u16", 10, "RGGB")
    plain = np.empty((16, 16, 4), np.int8)
    encode(data, plain, layout, tables=encoding_table(curve=curve, **LEVELS))
    factors = lens_factors(np.ones((3, 3, 4)), curve)
    found = shaded(data, layout, tables=step_table(curve=curve, **LEVELS), factors=factors, zero_point=-128)
    # Only a value within 1/64 of a half may be rounded to the other side.
    difference = np.abs(found.astype(int) - plain)
    assert difference.max() <= 1
    assert difference.mean() < 0.03


@pytest.mark.parametrize("curve", ["sqrt", "linear"])
@pytest.mark.parametrize("cfa", CELL_PLANES)
@pytest.mark.parametrize("size", [(1920, 1080), (650, 490)])
def test_a_shaded_grey_is_flat(curve: str, cfa: str, size: tuple[int, int]) -> None:
    """A grey behind a lens that is as bad at its corners as any (gain 4.2) is flat within 1 % of its light."""
    width, height = size

    def gains(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        y, x = rows[:, None] * 2 - 1, columns[None] * 2 - 1
        radius = (x**2 + y**2) / 2
        return np.stack([1 + strength * radius**1.5 for strength in (3.2, 2.6, 2.6, 2.2)], axis=-1)

    # Of white balance too the grey is grey; dark enough that nothing clips.
    light = 0.35 / gains((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width)
    codes = np.empty((height, width))
    for place, plane in enumerate(CELL_PLANES[cfa]):
        y, x = divmod(place, 2)
        codes[y::2, x::2] = 256 + light[y::2, x::2, plane] * (65535 - 256)
    data = pack(np.rint(codes).astype(np.uint16), packing="u16", bit_depth=16)
    cells = (height // 2, width // 2)
    nodes = gains(*(node_places(count) / count for count in cells))
    scale = 1 / 255 if curve == "sqrt" else 0.5 / 255
    out = shaded(
        data,
        RawLayout(width, height, "u16", 16, cfa),
        tables=step_table(
            bit_depth=16,
            black_level=(256,) * 4,
            white_level=65535,
            gains=(1.0, 1.0, 1.0),
            curve=curve,
            scale=scale,
            zero_point=-128,
        ),
        factors=lens_factors(nodes, curve),
        zero_point=-128,
    )
    values = (out.astype(np.float64) + 128) * scale
    seen = values**2 if curve == "sqrt" else values
    # Of 8x8 cells the mean, since a single value is rounded to 1/255.
    tiles = seen[: cells[0] // 2 * 2, : cells[1] // 5 * 5].reshape(2, cells[0] // 2, 5, cells[1] // 5, 4).mean((1, 3))
    np.testing.assert_allclose(tiles, 0.35, rtol=0.005)
    np.testing.assert_allclose(seen, 0.35, rtol=0.01)


def test_a_gain_beyond_any_lens_is_held() -> None:
    factors = lens_factors(np.array([16.0, 100.0]), "sqrt")
    assert (factors.nodes.tolist(), factors.bits) == ([65535, 65535], 14)
    factors = lens_factors(np.array([1.0, 4.0, 16.0]), "linear")
    assert (factors.nodes.tolist(), factors.bits) == ([4096, 16384, 65535], 12)


@pytest.mark.parametrize("gain", [0.0, -1.0, np.nan, np.inf])
def test_gains_must_be_positive(gain: float) -> None:
    with pytest.raises(ValueError, match="lens-shading gains must be positive numbers"):
        lens_factors(np.array([1.0, gain]), "sqrt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": np.zeros((4, 1024), np.int8)}, r"tables must be C-contiguous uint16 \(4, 1024\), found int8"),
        ({"factors": Factors(np.ones((3, 2, 4), np.uint16), 14)}, r"factors must be C-contiguous uint16 \(2, 2, 4\)"),
        ({"zero_point": 128}, "zero_point must be a whole number from -128 to 127, found 128"),
        ({"constants": np.zeros(3, np.uint16)}, r"constants must be C-contiguous uint16 \(4,\)"),
    ],
)
def test_refuses_what_cannot_be(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "tables": np.zeros((4, 1024), np.uint16),
        "factors": Factors(np.ones((2, 2, 4), np.uint16), 14),
        "zero_point": -128,
    }
    with pytest.raises(ValueError, match=message):
        shaded(np.zeros((4, 10), np.uint8), RawLayout(8, 4, "csi2p", 10, "RGGB"), **(arguments | change))
