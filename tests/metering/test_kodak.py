"""White balance and noise on the Kodak images, which nothing was fitted on: the figures of `docs/calibration.md`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp import develop
from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.evaluation.exposures import SimulatedExposure, expose_image
from edge_isp.metering.meter import complete_frame
from edge_isp.training.simulation.samples import Capture
from tests.metering.test_white_balance import angle

PROFILE = load_profile("imx219")
SENSOR = SensorModel(PROFILE)

pytestmark = [pytest.mark.torch, pytest.mark.slow]


def exposures(data: Path, every: int, temperature_k: float, gain: float = 1.0) -> Iterator[SimulatedExposure]:
    capture = Capture(colour_temperature_k=temperature_k, exposure=1.0, analogue_gain=gain)
    for path in sorted((data / "photos" / "kodak").glob("*.png"))[::every]:
        yield expose_image(path, SENSOR, capture)


def psnr(picture: NDArray[np.uint8], photo: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((picture.astype(float) - photo) ** 2)))


def test_the_light_is_found(data: Path) -> None:
    errors = [
        angle(complete_frame(bare).colour_gains or (1, 1), PROFILE.colour_gains(temperature_k))
        for temperature_k in (2900, 4000, 5700, 7500)
        for bare in (
            replace(exposure.frame(), colour_gains=None, colour_temperature_k=None)
            for exposure in exposures(data, 1, temperature_k)
        )
    ]
    assert len(errors) == 96
    assert np.median(errors) < 2.0
    assert np.mean(errors) < 2.5


@pytest.mark.parametrize("gain", [1.0, 4.0, 16.0])
def test_pictures_without_a_gain_are_as_good(data: Path, gain: float) -> None:
    losses = []
    for exposure in exposures(data, 6, 5000, gain):
        frame = exposure.frame()
        known, unknown = (
            psnr(develop(one, tone="srgb"), exposure.photo) for one in (frame, replace(frame, analogue_gain=None))
        )
        losses.append(known - unknown)
    assert np.mean(losses) < 0.4  # 0.22 at gain 1, 0.21 at gain 4
