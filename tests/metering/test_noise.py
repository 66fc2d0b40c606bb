"""The noise of frames that do not say their gain, and what brightens a frame."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_isp.calibration.profile import UNKNOWN_NOISE, load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.cameras.base import CameraBase, Controls
from edge_isp.errors import CameraError, FormatError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.metering import meter
from edge_isp.metering.meter import FrameMeter, complete_frame
from edge_isp.models.card import find_model
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.tasks.isp import IspTask

PROFILE = load_profile("imx219")
assert PROFILE.noise is not None
NOISE = PROFILE.noise


def frame_at(gain: float, *, texture: float = 0.3, seed: int = 0, **fields: Any) -> RawFrame:
    """Grey patches, a part of them strongly textured, with the noise of a gain that the frame does not say."""
    rng = np.random.default_rng(1)
    scene = rng.uniform(0.05, 0.7, (24, 32, 1)).repeat(3, 2).repeat(16, 0).repeat(16, 1).astype(np.float32)
    scene[:, : int(512 * texture)] *= rng.uniform(0.2, 1.2, (384, int(512 * texture), 1)).astype(np.float32)
    codes = SensorModel(PROFILE).codes(
        scene, np.random.default_rng(seed), colour_temperature_k=5000, exposure=0.8, analogue_gain=gain
    )
    layout = RawFormat(512, 384, Cfa.RGGB, 10, Packing.U16)
    values: dict[str, Any] = {
        "sensor": "imx219",
        "colour_gains": PROFILE.colour_gains(5000),
        "colour_temperature_k": 5000.0,
        **fields,
    }
    data = pack(codes, packing="u16", bit_depth=10)
    return RawFrame(data, layout, "simulated", 0, 0, PROFILE.black_level, PROFILE.white_level, **values)


def gain_found(frame: RawFrame) -> float:
    assert frame.noise_profile is not None
    return frame.noise_profile[0] / NOISE.shot


@pytest.mark.parametrize("texture", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("gain", [1.0, 4.0, 16.0])
def test_the_gain_is_found_in_the_frame(gain: float, texture: float) -> None:
    found = complete_frame(frame_at(gain, texture=texture))
    assert abs(math.log2(gain_found(found) / gain)) < 0.8
    assert found.noise_profile is not None
    assert found.noise_profile[1] == pytest.approx(NOISE.read_variance(gain_found(found)))
    assert found.analogue_gain is None


def test_a_gain_that_is_known_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "measure", None)
    frame = frame_at(4.0, analogue_gain=4.0)
    assert complete_frame(frame) is frame
    stated = frame_at(4.0, noise_profile=(1e-3, 1e-6))
    assert complete_frame(stated) is stated


def test_noise_of_an_unknown_sensor_is_measured_whatever_its_gain() -> None:
    """The gain says nothing where the noise at gain 1 is not known."""
    found = complete_frame(frame_at(8.0, sensor=None, analogue_gain=100.0))
    assert found.noise_profile is not None
    assert found.noise_profile[0] == pytest.approx(8 * NOISE.shot, rel=0.5)


def test_noise_is_smoothed_over_a_stream() -> None:
    metered = FrameMeter()
    found = [gain_found(metered.complete(frame_at(8.0, seed=seed))) for seed in range(20)]
    assert len(set(found)) <= 2, "tables are not made anew for what cannot be seen"
    later = [gain_found(metered.complete(frame_at(1.0, seed=seed))) for seed in range(30)]
    assert later[0] > later[-1]
    assert later[-1] == pytest.approx(1.0, rel=0.35)


def noise_codes(frame: RawFrame) -> list[int]:
    """Of the noise planes that the network gets."""
    task = IspTask(find_model("rfdcsanet-s", None), tone="srgb")
    tensor = np.empty(task.input_shape(frame.format), np.int8)
    task.encode(frame, tensor)
    return [int(code) for code in tensor[0, 0, 0, -4:]]


def test_the_network_is_given_the_noise_of_the_frame() -> None:
    known, other = (noise_codes(frame_at(16.0, analogue_gain=gain)) for gain in (16.0, 1.0))
    measured = noise_codes(complete_frame(frame_at(16.0)))
    stated = noise_codes(frame_at(16.0, analogue_gain=1.0, noise_profile=(16 * NOISE.shot, 0.0)))
    assert stated == known
    for one, right, wrong in zip(measured, known, other, strict=True):
        assert abs(one - right) < abs(right - wrong) / 3


def test_noise_follows_each_frame() -> None:
    task = IspTask(find_model("rfdcsanet-s", None), tone="srgb")
    planes = []
    for shot in (1e-3, 4e-3):
        frame = frame_at(4.0, noise_profile=(shot, 0.0))
        tensor = np.empty(task.input_shape(frame.format), np.int8)
        task.encode(frame, tensor)
        planes.append(tensor[0, 0, 0, -4:].astype(int) + 128)
    np.testing.assert_allclose(planes[1], 2 * planes[0], atol=2)


def test_a_frame_may_state_that_it_has_no_noise() -> None:
    assert noise_codes(frame_at(1.0, noise_profile=(0.0, 0.0))) == [-128] * 4


def test_digital_gain_brightens_the_picture() -> None:
    plain = frame_at(1.0, analogue_gain=1.0)
    halved = (plain.data.view(np.uint16).astype(np.float64) - 64) / 2 + 64
    darker = replace(plain, data=np.rint(halved).astype(np.uint16).view(np.uint8))
    pictures = [
        ClassicalIsp().develop(frame).rgb.astype(int)
        for frame in (
            plain,
            replace(darker, digital_gain=2.0),
            replace(darker, baseline_exposure_ev=1.0),
            replace(darker, digital_gain=4.0, baseline_exposure_ev=-1.0),
        )
    ]
    for picture in pictures[1:]:
        assert np.abs(picture - pictures[0]).mean() < 1.5
    assert np.abs(ClassicalIsp().develop(darker).rgb.astype(int) - pictures[0]).mean() > 20


def test_what_is_clipped_stays_white() -> None:
    """A gain below 1 would show clipped codes in the colour of the light's gains."""
    frame = frame_at(1.0, analogue_gain=1.0, baseline_exposure_ev=-2.0)
    clipped = replace(frame, data=np.full_like(frame.data.view(np.uint16), 1023).view(np.uint8))
    assert ClassicalIsp().develop(clipped).rgb.min() >= 254


@pytest.mark.parametrize(
    "field",
    [
        *({"colour_gains": gains} for bad in (0, -1.0, math.nan, math.inf) for gains in ((bad, 1.5), (1.5, bad))),
        *({name: bad} for name in ("digital_gain", "analogue_gain") for bad in (0, -1.0, math.nan, math.inf)),
        {"baseline_exposure_ev": math.nan},
        {"noise_profile": (math.nan, 0.0)},
        {"noise_profile": (-1e-4, 0.0)},
    ],
    ids=str,
)
def test_a_frame_that_is_given_with_an_impossible_value_is_one_error(field: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=f"simulated: frame 0: .*{next(iter(field))}"):
        noise_codes(frame_at(1.0, **field))


class _Settable(CameraBase):
    """Takes white balance and a frame rate, and remembers what it was asked for."""

    settable = ("colour_gains", "fps")
    asked: Controls | None = None

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        return None

    def _apply(self, controls: Controls) -> None:
        self.asked = controls


@pytest.mark.parametrize("gains", [(0, 1.5), (1.5, -1), (math.inf, 1.5), (1.5, math.inf), (math.nan, 1), (1, math.nan)])
def test_impossible_gains_are_not_asked_for(gains: tuple[float, float]) -> None:
    camera = _Settable("camera")
    with pytest.raises(CameraError, match="colour_gains must be two positive numbers, red and blue, found"):
        camera.control(Controls(colour_gains=gains))
    assert camera.asked is None
    camera.control(Controls(colour_gains=(1.5, 2.0)))
    assert camera.asked is not None


@pytest.mark.parametrize("fps", [0.0, -1.0, math.nan, math.inf])
def test_impossible_frame_rates_are_not_asked_for(fps: float) -> None:
    with pytest.raises(CameraError, match="fps must be a positive number"):
        _Settable("camera").control(Controls(fps=fps))


def test_dark_frames_have_the_noise_of_gain_1(caplog: pytest.LogCaptureFixture) -> None:
    dark = frame_at(1.0)
    found = complete_frame(replace(dark, data=np.full_like(dark.data.view(np.uint16), 64).view(np.uint8)))
    assert gain_found(found) == 1
    assert UNKNOWN_NOISE.shot == 2e-4
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_table_is_a_part_of_the_package() -> None:
    assert (Path(meter.__file__).parent / "white_balance.npy").is_file()
