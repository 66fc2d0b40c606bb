"""Profiles out of DNG files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_isp.errors import FormatError, ProfileError

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed (extra calibration)")

from edge_isp.calibration.dng import load_dng_profile  # noqa: E402 - needs tifffile

DAYLIGHT = tuple(n for top in (6461, -1164, -857, -3825, 11597, 2534, -416, 1540, 6039) for n in (top, 10000))
TAGS: list[tuple[int, int, int, Any, bool]] = [
    (33421, 3, 2, (2, 2), True),
    (33422, 1, 4, bytes([2, 1, 1, 0]), True),
    (50708, 2, 0, "Some Camera 2", True),
    (50713, 3, 2, (2, 2), True),
    (50714, 3, 4, (60, 61, 62, 63), True),
    (50717, 3, 1, 1023, True),
    (50721, 10, 9, DAYLIGHT, True),
    (50778, 3, 1, 21, True),
    (50728, 5, 3, (1, 2, 1, 1, 2, 3), True),
    (51041, 12, 2, (2e-4, 1e-7), True),
]


def write_dng(path: Path, tags: list[tuple[int, int, int, Any, bool]]) -> None:
    """A DNG of 8x8 pixels with these tags."""
    tifffile.imwrite(path, np.zeros((8, 8), np.uint16), photometric=32803, extratags=tags)


def test_tags_become_a_profile(tmp_path: Path) -> None:
    write_dng(tmp_path / "a.dng", TAGS)
    profile = load_dng_profile(tmp_path / "a.dng")
    assert profile.name == "some-camera-2"
    assert (profile.bit_depth, profile.cfa, profile.white_level) == (10, "BGGR", 1023)
    assert list(profile.black_level) == [63, 62, 61, 60]
    assert profile.noise is not None
    assert (profile.noise.shot, profile.noise.read_post_gain) == (2e-4, 1e-7)
    (matrix,) = profile.colour_matrices
    assert matrix.colour_temperature_k == 6504
    assert np.array(matrix.matrix).reshape(3, 3).sum(axis=1) == pytest.approx(1)


def test_the_matrix_is_that_of_libraw() -> None:
    data = os.environ.get("EDGE_ISP_DATA")
    if not data:
        pytest.skip("EDGE_ISP_DATA is not set: no DNG")
    rawpy = pytest.importorskip("rawpy", reason="rawpy is not installed (extra dng)")
    path = Path(data) / "raw" / "colorchart.dng"
    profile = load_dng_profile(path)
    with rawpy.imread(str(path)) as raw:
        expected = raw.color_matrix[:, :3]
    assert np.array(profile.colour_matrices[0].matrix).reshape(3, 3) == pytest.approx(expected, abs=2e-4)
    assert list(profile.black_level) == [2056] * 4
    assert profile.white_level == 15000


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ((33422, 1, 4), bytes([0, 1, 1, 1]), "not a DNG of a Bayer sensor"),
        ((50717, 3, 1), 0, "WhiteLevel"),
        ((50714, 3, 4), (2000, 1, 1, 1), "BlackLevel must be below WhiteLevel, found 2000 and 1023"),
        ((50721, 10, 9), (0, 1) * 9, "ColorMatrix1 cannot be of a camera"),
        ((50721, 10, 9), (1, 0) * 9, "ColorMatrix1 must be fractions"),
        ((50778, 3, 1), 99, "CalibrationIlluminant"),
        ((51041, 12, 2), (float("nan"), 0.0), "NoiseProfile"),
    ],
)
def test_tags_that_make_no_sense(tmp_path: Path, tag: tuple[int, int, int], value: Any, message: str) -> None:
    write_dng(tmp_path / "a.dng", [t for t in TAGS if t[0] != tag[0]] + [(*tag, value, True)])
    with pytest.raises(FormatError, match=message):
        load_dng_profile(tmp_path / "a.dng")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        load_dng_profile(tmp_path / "missing.dng")


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_files_give_a_format_error(tmp_path_factory: Any, data: st.DataObject) -> None:
    base = tmp_path_factory.getbasetemp()
    whole = base / "whole.dng"
    if not whole.exists():
        write_dng(whole, TAGS)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    damaged = base / "damaged.dng"
    damaged.write_bytes(content)
    # A profile, a FormatError or a ProfileError; anything else, a warning too, fails.
    with contextlib.suppress(FormatError, ProfileError):
        load_dng_profile(damaged)
