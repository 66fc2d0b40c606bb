"""Frames of a simulated sensor, measured: the sensor's own figures come back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from edge_isp.calibration.measure.black_level import measure_black_level
from edge_isp.calibration.measure.flat_field import measure_shading
from edge_isp.calibration.measure.photon_transfer import measure_noise
from edge_isp.calibration.profile import SensorProfile
from tests.calibration.sensors import TEMPERATURE_K, chart_scene, grey, sensors, stack_of

SENSORS = settings(
    max_examples=50, deadline=None, derandomize=True, phases=(Phase.generate,), suppress_health_check=list(HealthCheck)
)
HEIGHT, WIDTH = 128, 192


@SENSORS
@given(sensors())
def test_black_level_within_a_tenth_of_a_code(profile: SensorProfile) -> None:
    found = measure_black_level([stack_of(profile, grey(0, HEIGHT, WIDTH), 16)])
    assert np.abs(np.array(found.level) - np.array(profile.black_level)).max() < 0.1
    assert set(found.drift) == {0}
    assert not found.hot


@SENSORS
@given(sensors())
def test_shot_noise_within_2_percent_and_read_noise_within_5(profile: SensorProfile) -> None:
    noise = profile.noise
    assert noise is not None
    dark = stack_of(profile, grey(0, HEIGHT, WIDTH), 16)
    lit = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5]
    flats = [
        stack_of(profile, grey(1, HEIGHT, WIDTH), 8, exposure=e, seed=i, exposure_ns=round(1e7 * e))
        for i, e in enumerate(lit)
    ]
    found = measure_noise(flats, [dark], profile)
    assert found.noise.shot == pytest.approx(noise.shot, rel=0.02)
    assert math.sqrt(found.noise.read_variance(1)) == pytest.approx(math.sqrt(noise.read_variance(1)), rel=0.05)
    # As variances: eight frames leave so much shot noise in their mean.
    assert found.noise.pixel_response**2 == pytest.approx(noise.pixel_response**2, rel=0.15, abs=2e-5)
    assert found.noise.row == pytest.approx(noise.row, rel=0.25, abs=0.03 * math.sqrt(noise.read_variance(1)))
    assert found.full_well_electrons == pytest.approx(1 / noise.shot, rel=0.02)
    assert found.linearity is not None
    assert found.linearity < 0.01


@SENSORS
@given(sensors(shading=True))
def test_shading_within_1_percent(profile: SensorProfile) -> None:
    assert profile.shading is not None
    stack = stack_of(profile, grey(1, HEIGHT, WIDTH), 32, exposure=0.8)
    found = measure_shading(stack, profile, colour_temperature_k=TEMPERATURE_K, rows=6, columns=8)
    expected = profile.shading.gains(TEMPERATURE_K)
    expected = expected / expected.min(axis=(1, 2), keepdims=True)
    measured = found.shading.gains(TEMPERATURE_K)
    measured = measured / measured.min(axis=(1, 2), keepdims=True)
    assert np.abs(measured / expected - 1).max() < 0.01


@SENSORS
@given(sensors())
def test_colour_matrix_within_1_ciede2000(profile: SensorProfile) -> None:
    pytest.importorskip("colour", reason="colour-science is not installed (extra calibration)")
    from edge_isp.calibration.measure.colour_chart import colour_errors, measure_colour, reference_srgb

    reference = reference_srgb()
    scene, corners = chart_scene(reference)
    stack = stack_of(profile, scene, 16, exposure=0.85)
    found = measure_colour(stack, profile, corners)
    # The chart's colours, free of noise, through the matrix that was measured.
    true = reference @ np.linalg.inv(profile.colour_matrix(TEMPERATURE_K)).T
    assert colour_errors(true @ found.matrix.T, reference).mean() < 1
    red, blue = profile.colour_gains(TEMPERATURE_K)
    assert found.gains == pytest.approx((red, 1, blue), rel=0.02)
