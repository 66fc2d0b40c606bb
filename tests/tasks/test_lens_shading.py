"""Lens shading of frames: corrected by default where it is known, and a word where it is not."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.calibration.profile import Noise, SensorProfile, load_profile
from edge_isp.calibration.readout import sensor_window
from edge_isp.calibration.simulation import Imperfections, SensorModel
from edge_isp.errors import ProfileError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import Flips
from edge_isp.kernels.pack import pack
from edge_isp.models.card import read_card, shipped_models
from edge_isp.sensor_window import SensorWindow
from edge_isp.tasks.isp import IspTask
from tests.support.planes import rggb_planes

CARD = read_card(shipped_models()["rfdcsanet-s-generic"])
KELVIN = 4300.0
CROP = SensorWindow(16, 200, 640, 480)
BINNED_CROP = SensorWindow(1000, 752, 1280, 960)
UNFLIPPED = Flips(vertical=False, horizontal=False)


def quiet(name: str) -> SensorProfile:
    profile = load_profile(name)
    return replace(profile, noise=Noise(1e-9), defects=())


def grey_frame(
    name: str = "imx219",
    window: SensorWindow | None = CROP,
    *,
    flips: Flips = UNFLIPPED,
    size: tuple[int, int] = (640, 480),
    kelvin: float = KELVIN,
) -> RawFrame:
    """A grey seen through the sensor's lens; the flips are only in the data and in its colour order."""
    profile = quiet(name)
    assert profile.size is not None
    cfa = profile.flipped_cfa(vertical=flips.vertical, horizontal=flips.horizontal)
    shown = window or SensorWindow(0, 0, *profile.size)
    codes = SensorModel(profile).codes(
        np.full((size[1], size[0], 3), 0.5, np.float32),
        np.random.default_rng(0),
        colour_temperature_k=kelvin,
        exposure=0.8,
        cfa=cfa,
        imperfections=Imperfections(window=replace(shown, sensor_size=profile.size, flips=flips)),
    )
    return RawFrame(
        data=pack(codes, packing=Packing.U16, bit_depth=profile.bit_depth),
        format=RawFormat(*size, Cfa(cfa), profile.bit_depth, Packing.U16),
        source="simulated",
        sequence=0,
        timestamp_ns=0,
        black_level=profile.black_level,
        white_level=profile.white_level,
        sensor=name,
        analogue_gain=1.0,
        colour_gains=profile.colour_gains(kelvin),
        colour_temperature_k=kelvin,
        window=window,
    )


def encoded(frame: RawFrame, task: IspTask | None = None) -> NDArray[np.int8]:
    task = task or IspTask(CARD)
    tensor = np.empty(task.input_shape(frame.format), np.int8)
    task.encode(frame, tensor)
    first: NDArray[np.int8] = tensor[0]
    return first


def unevenness(tensor: NDArray[np.int8]) -> float:
    """How far the light of a part of the frame is from the mean, of the worst plane and part."""
    rows, columns = (CARD.cell * side for side in tensor.shape[:2])
    light = ((rggb_planes(tensor, columns, rows).astype(np.float64) + 128) / 255) ** 2
    height, width = light.shape[0] // 8 * 8, light.shape[1] // 8 * 8
    tiles = light[:height, :width].reshape(8, height // 8, 8, width // 8, 4).mean((1, 3))
    return float(np.abs(tiles / tiles.mean((0, 1)) - 1).max())


@pytest.mark.parametrize("name", ["imx219", "imx477", "imx708", "ov5647", "imx296"])
@pytest.mark.parametrize("window", [CROP, BINNED_CROP])
def test_a_window_is_flat_by_default(name: str, window: SensorWindow) -> None:
    profile = load_profile(name)
    assert profile.size is not None
    if window.left + window.width > profile.size[0] or window.top + window.height > profile.size[1]:
        pytest.skip("the sensor is smaller")
    frame = grey_frame(name, window)
    assert unevenness(encoded(frame)) < 0.01
    assert unevenness(encoded(frame, IspTask(CARD, correct_shading=False))) > 0.02


@pytest.mark.parametrize(("vertical", "horizontal"), list(product((False, True), repeat=2)))
def test_the_flips_of_the_readout_are_followed(vertical: bool, horizontal: bool) -> None:
    """The window lies in a corner of the lens: what is mirrored wrongly is far from flat."""
    assert unevenness(encoded(grey_frame(flips=Flips(vertical, horizontal)))) < 0.01


def test_a_constant_colour_order_needs_to_be_told() -> None:
    turned = Flips(vertical=True, horizontal=True)
    frame = grey_frame("imx462", replace(CROP, flips=turned), flips=turned)
    assert frame.format.cfa == "RGGB"
    assert unevenness(encoded(frame)) < 0.01
    assert unevenness(encoded(replace(frame, window=CROP))) > 0.02


def test_a_frame_of_half_the_sensors_size_shows_all_of_it() -> None:
    assert unevenness(encoded(grey_frame(window=None, size=(1640, 1232)))) < 0.01


def test_the_noise_grows_with_the_gain() -> None:
    tensor = encoded(grey_frame(window=None, size=(1640, 1232)))[..., -4:].astype(int) + 128
    rows, columns = (side // 2 for side in tensor.shape[:2])
    centre, corner = tensor[rows - 4 : rows + 4, columns - 4 : columns + 4].mean((0, 1)), tensor[:4, :4].mean((0, 1))
    frame = grey_frame(window=None, size=(1640, 1232))
    shading, size = load_profile("imx219").shading, (3280, 2464)
    assert shading is not None
    gains = shading.gains_at(np.array([16.0, 1232.0]), np.array([16.0, 1632.0]), size, KELVIN)
    expected = np.sqrt(gains[0, 0] / gains[1, 1])[[0, 1, 1, 2]]
    assert sensor_window(frame, load_profile("imx219")).sensor_size == size
    np.testing.assert_allclose(corner / centre, expected, rtol=0.06)


def test_the_correction_follows_the_light(caplog: pytest.LogCaptureFixture) -> None:
    task = IspTask(CARD)
    for kelvin in (2900.0, 6500.0, 2900.0):
        assert unevenness(encoded(grey_frame(kelvin=kelvin), task)) < 0.01
    assert not caplog.records
    right = grey_frame(window=None, size=(1640, 1232), kelvin=2900.0)
    assert unevenness(encoded(right, task)) < 0.01
    assert unevenness(encoded(replace(right, colour_temperature_k=6500.0), task)) > 0.015


def test_the_correction_follows_the_window() -> None:
    """A camera that is opened anew in another mode, of the same size."""
    task = IspTask(CARD)
    for window in (CROP, BINNED_CROP, CROP):
        assert unevenness(encoded(grey_frame(window=window), task)) < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": None}, r"which part of the sensor a frame of 640x480 shows .* window = \[left, top"),
        ({"window": SensorWindow(3000, 0, 640, 480)}, "not inside the 3280x2464 of 'imx219'"),
    ],
)
def test_why_it_is_not_corrected_is_said_once(
    change: dict[str, SensorWindow | None], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    task, frame = IspTask(CARD), replace(grey_frame(), **change)  # type: ignore[arg-type]
    plain = encoded(frame, IspTask(CARD, correct_shading=False))
    for sequence in range(3):
        np.testing.assert_array_equal(encoded(replace(frame, sequence=sequence), task), plain)
    task.encode(replace(frame, analogue_gain=2.0), np.empty(task.input_shape(frame.format), np.int8))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("simulated: lens shading is not corrected: ")
    with pytest.raises(ProfileError, match=message):
        encoded(frame, IspTask(CARD, correct_shading=True))


def test_a_profile_without_shading(caplog: pytest.LogCaptureFixture) -> None:
    profile = replace(load_profile("imx219"), shading=None)
    encoded(grey_frame(), IspTask(CARD, profile=profile))
    assert "lens shading is not corrected: profile 'imx219' has none; measure it" in caplog.text
    with pytest.raises(ProfileError, match="has no lens shading to correct"):
        IspTask(CARD, profile=profile, correct_shading=True)


def test_a_sensor_without_a_profile_gets_one_line_not_two(caplog: pytest.LogCaptureFixture) -> None:
    encoded(replace(grey_frame(), sensor="mine"))
    (record,) = caplog.records
    assert "there is no profile of sensor 'mine'" in record.getMessage()
    assert "lens shading stays" in record.getMessage()


def test_frames_without_shading_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """An ideal simulation, or a recording that was corrected on its way: no correction, and nothing to say."""
    frame = replace(grey_frame(), lens_shading=False)
    np.testing.assert_array_equal(encoded(frame), encoded(frame, IspTask(CARD, correct_shading=False)))
    assert not caplog.records
    with pytest.raises(ProfileError, match="lens shading cannot be corrected: the frame has none"):
        encoded(frame, IspTask(CARD, correct_shading=True))
