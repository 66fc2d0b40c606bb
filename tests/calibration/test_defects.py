"""Defective pixels: the kernels against their references, and against a simulated sensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_isp.calibration.measure.black_level import measure_black_level, with_black_level
from edge_isp.calibration.profile import Defect, load_profile
from edge_isp.kernels import reference
from edge_isp.kernels.defects import defect_list, replace_defects, replace_hot_pixels
from edge_isp.kernels.layout import RawLayout
from edge_isp.kernels.pack import pack
from edge_isp.kernels.unpack import unpack
from tests.calibration.sensors import grey, stack_of

LAYOUTS = [("u8", 8), ("u16", 10), ("u16", 16), ("u16-left", 12), ("u16-left", 16), ("csi2p", 10), ("csi2p", 12)]


@given(
    st.sampled_from(LAYOUTS),
    st.integers(1, 23),
    st.integers(1, 17),
    st.integers(0, 2**32 - 1),
    st.integers(0, 40),
    st.integers(0, 9),
)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_listed_defects_equal_the_reference(
    layout: tuple[str, int], width: int, height: int, seed: int, count: int, padding: int
) -> None:
    packing, bit_depth = layout
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bit_depth, (height, width)).astype(np.uint16)
    places = defect_list(zip(rng.integers(0, width, count), rng.integers(0, height, count), strict=True))
    data = pack(codes, packing=packing, bit_depth=bit_depth)
    data = np.pad(data, ((0, 0), (0, padding)), constant_values=0xA5)
    raw = RawLayout(width, height, packing, bit_depth, "RGGB")
    replace_defects(data, places, raw)
    found = unpack(data, raw)
    assert np.array_equal(found, reference.replace_defects(codes, places))
    assert np.all(data[:, data.shape[1] - padding :] == 0xA5)


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.integers(0, 300),
    st.sampled_from([0.0, 1, 2.5]),
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_hot_pixels_equal_the_reference(width: int, height: int, seed: int, threshold: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(60, 90, (height, width)).astype(np.uint16)
    codes[rng.random((height, width)) < 0.05] = 900
    out = np.empty_like(codes)
    count = replace_hot_pixels(codes, out, threshold=threshold, factor=factor)
    expected = reference.replace_hot_pixels(codes, threshold=threshold, factor=factor)
    assert np.array_equal(out, expected)
    assert count >= np.count_nonzero(out != codes)


def test_an_edge_is_no_hot_pixel() -> None:
    codes = np.full((32, 32), 100, np.uint16)
    codes[:, 16:] = 800
    codes[8, 4] = 500
    out = np.empty_like(codes)
    assert replace_hot_pixels(codes, out, threshold=20) == 1
    assert out[8, 4] == 100
    codes[8, 4] = 100
    assert np.array_equal(out, codes)


def test_hot_pixels_are_found_listed_and_replaced() -> None:
    hot = (Defect(11, 7, 1.0, 0.3), Defect(60, 40, 1.0, 0.02), Defect(61, 40, 1.0, 0.5))
    profile = replace(load_profile("imx219"), defects=hot, shading=None)
    darks = stack_of(profile, grey(0, 96, 128), 8)
    found = measure_black_level([darks])
    assert [(d.x, d.y) for d in found.hot] == [(11, 7), (60, 40), (61, 40)]
    assert [d.offset for d in found.hot] == pytest.approx([0.3, 0.02, 0.5], abs=0.005)
    measured = with_black_level(replace(profile, defects=()), [darks], found, "2026-01-01")
    places = defect_list((d.x, d.y) for d in measured.defects)
    frame = stack_of(profile, grey(0.5, 96, 128), 1).codes[0]
    data = pack(frame, packing="csi2p", bit_depth=10)
    raw = RawLayout(128, 96, "csi2p", 10, profile.cfa)
    replace_defects(data, places, raw)
    mended = unpack(data, raw).astype(int)
    for defect in hot:
        around = mended[defect.y - 4 : defect.y + 5 : 2, defect.x - 4 : defect.x + 5 : 2]
        assert abs(mended[defect.y, defect.x] - np.median(around)) < 40


def test_bad_arguments_are_named() -> None:
    data = np.zeros((8, 16), np.uint8)
    layout = RawLayout(8, 8, "u16", 10, "RGGB")
    with pytest.raises(ValueError, match="must lie inside the 8x8 frame"):
        replace_defects(data, defect_list([(8, 0)]), layout)
    with pytest.raises(ValueError, match="sorted by y"):
        replace_defects(data, np.array([(1, 1), (0, 0)], np.int32), layout)
    with pytest.raises(ValueError, match="int32"):
        replace_defects(data, np.zeros((1, 2)), layout)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data must be bytes of shape"):
        replace_defects(data[:, :10], defect_list([(0, 0)]), layout)
    with pytest.raises(ValueError, match="cannot be replaced in packing 'csi2p' of 14 bits"):
        replace_defects(data, defect_list([(0, 0)]), replace(layout, packing="csi2p", bit_depth=14))
    with pytest.raises(ValueError, match="whole frames, found a window at 2, 0"):
        replace_defects(data, defect_list([(0, 0)]), replace(layout, width=6, left=2))
    data.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        replace_defects(data, defect_list([(0, 0)]), layout)
    codes = np.zeros((8, 8), np.uint16)
    with pytest.raises(ValueError, match="another array"):
        replace_hot_pixels(codes, codes, threshold=10)
