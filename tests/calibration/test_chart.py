"""A photograph of a real chart (a Canon 550D's, X-Rite ColorChecker)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_isp.calibration.measure.stack import Stack, read_stacks
from edge_isp.calibration.profile import SensorProfile
from edge_isp.cameras.replay import ReplayCamera

for package in ("colour", "tifffile", "rawpy"):
    pytest.importorskip(package, reason=f"{package} is not installed")

from edge_isp.calibration.dng import load_dng_profile  # noqa: E402
from edge_isp.calibration.measure.colour_chart import (  # noqa: E402 - needs colour
    Corners,
    colour_errors,
    find_chart,
    left_out_errors,
    measure_colour,
    reference_srgb,
)

# Centres of dark skin, bluish green, black and white, read off the picture.
CORNERS: Corners = ((716, 626), (1252, 614), (1258, 926), (702, 930))


@pytest.fixture(scope="module")
def chart() -> tuple[Stack, SensorProfile]:
    data = os.environ.get("EDGE_ISP_DATA")
    if not data:
        pytest.skip("EDGE_ISP_DATA is not set: no photograph of a chart")
    path = Path(data) / "raw" / "colorchart.dng"
    with ReplayCamera(path) as camera:
        (stack,) = read_stacks(iter(camera.read, None))
    return stack, load_dng_profile(path)


def test_the_measured_matrix_beats_the_dngs_own(chart: tuple[Stack, SensorProfile]) -> None:
    stack, profile = chart
    found = measure_colour(stack, profile, CORNERS)
    # The same white balance and exposure, from the grey patches, for both.
    own = colour_errors(found.camera @ profile.colour_matrix(6504).T, reference_srgb())
    left_out = left_out_errors(found)
    print(
        f"CIEDE2000, mean (largest): DNG's own matrix {own.mean():.2f} ({own.max():.2f}), measured "
        f"{found.errors.mean():.2f} ({found.errors.max():.2f}), each patch by the other 23 "
        f"{left_out.mean():.2f} ({left_out.max():.2f})"
    )
    assert found.errors.mean() < own.mean()
    assert left_out.mean() < own.mean()
    assert found.matrix.sum(axis=1) == pytest.approx(1)


def test_the_chart_is_found(chart: tuple[Stack, SensorProfile]) -> None:
    pytest.importorskip("colour_checker_detection", reason="colour-checker-detection is not installed")
    assert np.array(find_chart(*chart)) == pytest.approx(np.array(CORNERS), abs=10)
