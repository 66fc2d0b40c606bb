"""Defective pixels: the kernels against their reference, and what is replaced and what is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_isp.kernels import defects_reference, reference
from edge_isp.kernels.defect_candidates import MARGIN_KNEE
from edge_isp.kernels.defect_weighing import NOISE
from edge_isp.kernels.defects import LIGHT_WHITE, DefectPlan, plan_defects
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import CELL_PLANES, RawLayout, row_ranges
from edge_isp.kernels.pack import pack
from edge_isp.kernels.shaded import encode_shaded
from edge_isp.kernels.tables import lens_factors, node_places
from edge_isp.kernels.unpack import unpack
from tests.kernels.sampling import LAYOUTS, Sample, examples, samples

LAYOUT = RawLayout(64, 48, "u16", 10, "RGGB")


def plan(layout: RawLayout = LAYOUT, **given: Any) -> DefectPlan:
    """For codes of which a sixteenth lies below black level, and the noise of a small sensor."""
    white = layout.highest
    levels = {"black_level": (white / 16,) * 4, "white_level": white, "gains": (1.75, 1.0, 1.43)}
    return plan_defects(layout, **{**levels, "shot_noise": 2e-4, "read_variance": 1e-7, **given})


def mended(codes: NDArray[np.uint16], defects: DefectPlan, layout: RawLayout = LAYOUT) -> NDArray[np.uint16]:
    """The mosaic as the network sees it."""
    tables = np.tile(np.arange(layout.highest + 1).astype(np.int16), (4, 1))
    out = np.empty((*layout.cells, 4), np.int16)
    data = pack(codes, packing=layout.packing, bit_depth=layout.bit_depth)
    encode(data, out, layout, tables=tables, defects=defects)
    mosaic = np.empty_like(codes)
    for place, plane in enumerate(CELL_PLANES[layout.cfa]):
        mosaic[place // 2 :: 2, place % 2 :: 2] = out[..., plane].view(np.uint16)
    return mosaic


def noisy(light: NDArray[Any] | float, seed: int = 0, layout: RawLayout = LAYOUT) -> NDArray[np.uint16]:
    """Codes of a scene of linear light before white balance, with the noise that `plan` takes for granted."""
    rng = np.random.default_rng(seed)
    shape = (layout.height, layout.width)
    exact = np.broadcast_to(np.asarray(light, np.float64), shape)
    signal = exact + rng.standard_normal(shape) * np.sqrt(2e-4 * exact + 1e-7)
    black = layout.highest / 16
    return np.clip(np.rint(black + signal * (layout.highest - black)), 0, layout.highest).astype(np.uint16)


@st.composite
def pictures(draw: st.DrawFn) -> Sample:
    """Frames of gradients, noise and stuck pixels: random codes would stand out everywhere, or nowhere."""
    packing, bit_depth = draw(st.sampled_from([layout for layout in LAYOUTS if layout[0] != "pisp-comp1"]))
    sample = draw(samples(smallest=2))
    layout = replace(sample.layout, packing=packing, bit_depth=bit_depth)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width = layout.top + layout.height, layout.left + layout.width
    y, x = np.mgrid[:height, :width]
    slope, deviation = rng.uniform(0, 0.02, 2), draw(st.sampled_from([0.001, 0.01, 0.1]))
    light = 0.1 + (slope[0] * y + slope[1] * x) % 0.8 + rng.standard_normal((height, width)) * deviation
    codes = np.clip(light * layout.highest, 0, layout.highest).astype(np.uint16)
    stuck = rng.random(codes.shape) < 0.03
    codes[stuck] = rng.choice([0, layout.highest, layout.highest // 2, layout.highest // 16], int(stuck.sum()))
    return Sample(pack(codes, packing=packing, bit_depth=bit_depth), layout)


@examples
@given(
    st.one_of(pictures(), samples(smallest=2)),
    st.integers(0, 2**32),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.0, 16.0, 300.0]),
)
def test_mending_equals_its_reference(sample: Sample, seed: int, vertical: bool, horizontal: bool, gain: float) -> None:
    layout, rng = sample.layout, np.random.default_rng(seed)
    black = tuple(rng.uniform(0, layout.highest / 8, 4))
    listed = zip(rng.integers(0, layout.width + 3, 5), rng.integers(0, layout.height + 3, 5), strict=True)
    gains = (rng.uniform(1, 9), 1.0, rng.uniform(0.5, 3))
    figures = {"shot_noise": 2e-4 * gain, "read_variance": 1e-7 * gain}
    defects = plan(layout, black_level=black, gains=gains, listed=list(listed), **figures)
    tables = rng.integers(-128, 128, (4, layout.highest + 1)).astype(np.int8)
    out = np.empty((*layout.cells, 4), np.int8)
    encode(sample.data, out, layout, tables=tables, flip_vertical=vertical, flip_horizontal=horizontal, defects=defects)
    codes = defects_reference.mend(unpack(sample.data, layout), layout.cfa, defects)
    flat = replace(layout, packing="u16", left=0, top=0)
    expected = reference.encode(
        pack(codes, packing="u16", bit_depth=layout.bit_depth),
        flat,
        tables=tables,
        flip_vertical=vertical,
        flip_horizontal=horizontal,
    )
    np.testing.assert_array_equal(out, expected)


def stuck_frame(layout: RawLayout = LAYOUT) -> NDArray[np.uint16]:
    codes = noisy(0.3, layout=layout)
    codes[np.random.default_rng(3).random(codes.shape) < 0.01] = layout.highest
    return codes


@pytest.mark.parametrize("flip", [False, True])
def test_lens_shading_is_corrected_in_what_was_mended(flip: bool) -> None:
    codes, defects = stuck_frame(), plan(listed=[(5, 5)])
    places = [len(node_places(cells)) for cells in LAYOUT.cells]
    factors = lens_factors(np.random.default_rng(0).uniform(1, 2, (*places, 4)), "sqrt")
    given: dict[str, Any] = {
        "tables": np.random.default_rng(1).integers(0, 60000, (4, 1024)).astype(np.uint16),
        "factors": factors,
        "zero_point": -128,
        "flip_vertical": flip,
        "flip_horizontal": flip,
    }
    found, expected = (np.empty((*LAYOUT.cells, 4), np.int8) for _ in range(2))
    encode_shaded(pack(codes, packing="u16", bit_depth=10), found, LAYOUT, defects=defects, **given)
    replaced = pack(mended(codes, defects), packing="u16", bit_depth=10)
    encode_shaded(replaced, expected, LAYOUT, **given)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("parts", [2, 5, 24])
def test_rows_in_threads_give_the_whole(parts: int) -> None:
    data, defects = pack(stuck_frame(), packing="u16", bit_depth=10), plan(listed=[(5, 5)])
    given: dict[str, Any] = {
        "tables": np.random.default_rng(1).integers(-128, 128, (4, 1024)).astype(np.int8),
        "flip_vertical": True,
        "defects": defects,
    }
    whole, out = (np.empty((*LAYOUT.cells, 4), np.int8) for _ in range(2))
    encode(data, whole, LAYOUT, **given)
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(lambda rows: encode(data, out, LAYOUT, rows=rows, **given), row_ranges(24, parts)))
    np.testing.assert_array_equal(out, whole)


@pytest.mark.parametrize("bit_depth", [8, 10, 12, 16])
@pytest.mark.parametrize("cfa", list(CELL_PLANES))
@pytest.mark.parametrize("stuck", [0.0, 1 / 16, 0.7, 1.0])
def test_a_stuck_pixel_in_a_flat_field_becomes_as_its_neighbours(bit_depth: int, cfa: str, stuck: float) -> None:
    layout = replace(LAYOUT, bit_depth=bit_depth, cfa=cfa)
    clean = noisy(0.3, layout=layout)
    codes = clean.copy()
    # In each place of the cell, in the corners, at an edge, and two at once.
    places = [(0, 0), (63, 47), (20, 20), (31, 20), (40, 31), (51, 31), (10, 0), (10, 40), (12, 40)]
    for x, y in places:
        codes[y, x] = round(stuck * layout.highest)
    found = mended(codes, plan(layout), layout).astype(float)
    noise = np.sqrt(2e-4 * 0.3) * layout.highest
    expected = layout.highest * (1 / 16 + 0.3 * 15 / 16)
    for x, y in places:
        assert abs(found[y, x] - expected) < 4 * noise + 1, (x, y)
    assert np.count_nonzero(found != clean) <= len(places) + 3


def test_codes_that_stay_are_not_rounded() -> None:
    layout = replace(LAYOUT, bit_depth=16)
    codes = noisy(0.3, layout=layout)
    assert np.mean(mended(codes, plan(layout), layout) == codes) > 0.998


def test_listed_pixels_are_replaced_wherever_they_are() -> None:
    clean = noisy(0.3)
    codes = clean.copy()
    listed = [(7, 9), (8, 9), (63, 0), (0, 47)]
    for x, y in listed:
        codes[y, x] += 20  # too little to stand out from the noise
    found = mended(codes, plan(listed=[*listed, (64, 3), (2, 48), (-1, 5)]))
    assert np.all(found[[9, 9, 0, 47], [7, 8, 63, 0]] != codes[[9, 9, 0, 47], [7, 8, 63, 0]])
    changed = np.argwhere(found != codes)
    assert {(int(x), int(y)) for y, x in changed} <= {*listed}


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_edges_and_lines_stay(angle: int) -> None:
    y, x = np.mgrid[:48, :64]
    across = np.cos(np.radians(angle)) * (x - 32) + np.sin(np.radians(angle)) * (y - 24)
    edge = noisy(0.05 + 0.6 / (1 + np.exp(-across / 0.5)))
    line = noisy(0.05 + 0.6 * np.exp(-(across**2) / 2))
    for codes in (edge, line):
        assert np.count_nonzero(mended(codes, plan()) != codes) <= 6


@pytest.mark.parametrize("gain", [1.0, 16.0])
@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5])
def test_stars_stay(sigma: float, gain: float) -> None:
    """500 stars of every brightness, before the mosaic: at least 95 % keep more than half their light."""
    layout = RawLayout(752, 528, "u16", 10, "RGGB")
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:528, :752]
    scene, centres = np.full((528, 752), 0.01), []
    for row in range(20):
        for column in range(25):
            cy, cx = 16 + 26 * row + rng.random(), 16 + 30 * column + rng.random()
            near = (slice(int(cy) - 6, int(cy) + 8), slice(int(cx) - 6, int(cx) + 8))
            distance = (y[near] - cy) ** 2 + (x[near] - cx) ** 2
            scene[near] += 10 ** rng.uniform(-1, -0.05) * np.exp(-distance / (2 * sigma**2))
            centres.append((int(cy), int(cx)))
    balanced = {0: 1 / 1.75, 1: 1.0, 2: 1.0, 3: 1 / 1.43}
    for place, plane in enumerate(CELL_PLANES["RGGB"]):
        scene[place // 2 :: 2, place % 2 :: 2] *= balanced[plane]
    noise = np.random.default_rng(12).standard_normal(scene.shape) * np.sqrt(2e-4 * gain * scene + 1e-7)
    codes = np.clip(np.rint(63.9375 + (scene + noise) * 959.06), 0, 1023).astype(np.uint16)
    found = mended(codes, plan(layout, shot_noise=2e-4 * gain), layout)
    background = np.median(codes)

    def light(mosaic: NDArray[np.uint16], centre: tuple[int, int]) -> float:
        cy, cx = centre
        return float((mosaic[cy - 3 : cy + 5, cx - 3 : cx + 5] - background).sum())

    kept = [light(found, centre) > light(codes, centre) / 2 for centre in centres]
    assert np.mean(kept) >= 0.95


def test_a_black_level_that_is_too_high_mends_no_more_than_noise() -> None:
    """The light lies below black level everywhere: no pixel stands out, so none is a defect."""
    codes = noisy(0.002)
    assert np.mean(mended(codes, plan(black_level=(80,) * 4)) != codes) < 0.01


@pytest.mark.parametrize(("shot", "read"), [(2e-5, 0.0), (2e-4, 1e-7), (3.2e-3, 1e-4)])
def test_the_first_step_follows_the_noise_and_loses_nothing(shot: float, read: float) -> None:
    """Above it, defects would be lost; far below it, most pixels of a textured picture would be weighed one by one."""
    found = plan(shot_noise=shot, read_variance=read)
    light = np.arange(LIGHT_WHITE // 2)
    for plane in range(4):
        dim, dim_slope, bright, bright_slope = found.margins[plane].astype(np.int64)
        margin = np.minimum(dim + (light * dim_slope >> 16), bright + (light * bright_slope >> 16))
        shot_variance, read_variance = found.noise[plane].astype(np.float64)
        exact = NOISE * np.sqrt(shot_variance * light + read_variance)
        assert np.all(margin <= exact)
        assert np.all(margin[MARGIN_KNEE:] >= 0.7 * exact[MARGIN_KNEE:])


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="at least 4x4 pixels, found 2x48"):
        plan(replace(LAYOUT, width=2))
    with pytest.raises(ValueError, match="black_level must be four codes below white_level"):
        plan(black_level=(64, 64, 64, 2000))
    with pytest.raises(ValueError, match="gains must be positive numbers"):
        plan(gains=(0.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="noise must be positive numbers, found shot nan"):
        plan(shot_noise=float("nan"))
    data, tables = np.zeros((48, 128), np.uint8), np.zeros((4, 1024), np.int8)
    out = np.empty((24, 32, 4), np.int8)
    with pytest.raises(ValueError, match="a window of 48 rows, found 46 rows"):
        encode(data, out, LAYOUT, tables=tables, defects=plan(replace(LAYOUT, height=46)))
    with pytest.raises(ValueError, match="codes up to 1023, found 4095"):
        encode(data, out, LAYOUT, tables=tables, defects=plan(replace(LAYOUT, bit_depth=12)))
