"""Automatic brightness: off by default; to mid-grey, but not into the clip; smoothed in a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

import edge_isp
from edge_isp import ModelOptions, Pipeline, StreamOptions
from edge_isp.cameras.base import CameraBase
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.metering.brightness import estimate_brightness
from edge_isp.metering.meter import FrameMeter, complete_frame
from edge_isp.tasks.classical import ClassicalIsp

GAINS = (1.75, 1.43)


def frame_of(light: NDArray[np.float64], sequence: int = 0, packing: Packing = Packing.U16, bits: int = 12) -> RawFrame:
    """A frame of white-balanced light (height, width); the sensor clips."""
    height, width = light.shape
    seen = light.copy()
    seen[0::2, 0::2] /= GAINS[0]
    seen[1::2, 1::2] /= GAINS[1]
    white = 2**bits - 1
    black = white / 16
    codes = np.rint(np.clip(black + seen * (white - black), 0, white)).astype(np.uint16)
    return RawFrame(
        data=pack(codes, packing=packing, bit_depth=bits),
        format=RawFormat(width, height, Cfa.RGGB, bits, packing),
        source="by hand",
        sequence=sequence,
        timestamp_ns=sequence * 1_000_000 + 1,
        black_level=(black,) * 4,
        white_level=white,
        sensor="imx219",
        analogue_gain=1.0,
        colour_gains=GAINS,
        colour_temperature_k=5700.0,
        lens_shading=False,
    )


def scene(mean: float, seed: int = 0) -> NDArray[np.float64]:
    """Light of little contrast, with this mean."""
    return mean * (0.8 + 0.4 * np.random.default_rng(seed).random((64, 96)))


@pytest.mark.parametrize("packing", [Packing.U16, Packing.CSI2P, Packing.U16_LEFT])
@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize(("mean", "factor"), [(0.18, 1.0), (0.02, 9.0), (0.06, 3.0), (0.36, 0.5), (0.001, 16.0)])
def test_the_mean_becomes_mid_grey(mean: float, factor: float, packing: Packing, bits: int) -> None:
    assert estimate_brightness(frame_of(scene(mean), packing=packing, bits=bits)) == pytest.approx(factor, rel=0.06)


@pytest.mark.parametrize("share", [0.005, 0.02, 0.2])
@pytest.mark.parametrize("bright", [0.2, 0.5, 1.0])
def test_no_more_than_a_hundredth_is_clipped(share: float, bright: float) -> None:
    light = scene(0.02)
    light[np.random.default_rng(1).random(light.shape) < share] = bright
    factor = estimate_brightness(frame_of(light))
    assert factor is not None
    assert factor >= 1 or light.mean() > 0.18
    # Histograms are in 256 steps: what they cannot tell apart counts as bright.
    assert (light * factor > 1.0).mean() <= 0.011 or factor == 1
    if share > 0.01:
        assert factor == pytest.approx(min(0.18 / light.mean(), 1 / bright), rel=0.06)
    else:
        assert factor > 4


def test_what_is_brightened_already_counts() -> None:
    dark = frame_of(scene(0.02))
    assert estimate_brightness(replace(dark, digital_gain=3.0)) == pytest.approx(3.0, rel=0.06)
    assert estimate_brightness(replace(dark, baseline_exposure_ev=1.0)) == pytest.approx(4.5, rel=0.06)


def test_black_frames_say_nothing() -> None:
    assert estimate_brightness(frame_of(np.zeros((64, 96)))) is None
    assert complete_frame(frame_of(np.zeros((64, 96))), auto_brightness=True).auto_brightness == 1


def test_it_is_off_unless_asked_for() -> None:
    dark = frame_of(scene(0.02))
    assert complete_frame(dark) is dark
    assert complete_frame(dark, auto_brightness=True).auto_brightness == pytest.approx(9, rel=0.06)


@pytest.mark.parametrize("mean", [0.012, 0.04, 0.18, 0.5])
def test_pictures_of_every_exposure_look_alike(mean: float) -> None:
    found = ClassicalIsp(tone="srgb").develop(complete_frame(frame_of(scene(mean)), auto_brightness=True)).rgb
    assert found.mean() == pytest.approx(118, abs=6)


def test_what_the_sensor_has_clipped_becomes_grey_and_not_coloured() -> None:
    light = scene(0.5)
    light[:, :48] = 4.0  # every colour is clipped
    picture = ClassicalIsp().develop(complete_frame(frame_of(light), auto_brightness=True)).rgb.astype(int)
    clipped = picture[4:-4, 4:40]
    assert clipped.max() < 250
    assert np.ptp(clipped.reshape(-1, 3).mean(axis=0)) < 2


def test_a_stream_is_smooth_and_still() -> None:
    meter = FrameMeter(auto_brightness=True)
    noisy = [meter.complete(frame_of(scene(0.05, seed), seed)).auto_brightness for seed in range(60)]
    assert len(set(noisy)) == 1
    darker = [meter.complete(frame_of(scene(0.03, seed), seed)).auto_brightness for seed in range(60)]
    steps = np.diff(np.log2([noisy[-1], *darker]))
    assert steps.max() < 0.25
    assert darker[-1] == pytest.approx(0.18 / 0.03, rel=0.1)


class Recording(CameraBase):
    """Dark frames."""

    live = False

    def __init__(self) -> None:
        super().__init__("by hand")
        self._frames: Iterator[RawFrame] = iter([frame_of(scene(0.02), number) for number in range(3)])

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        return next(self._frames, None)


def test_pipelines_and_develop_take_it() -> None:
    means = {}
    for asked in (False, True):
        options = StreamOptions(auto_brightness=asked)
        with Pipeline(Recording(), ModelOptions(tone="srgb"), options) as pipeline:
            means[asked] = [float(result.picture.rgb.mean()) for result in pipeline]
        found = edge_isp.develop(frame_of(scene(0.02)), tone="srgb", auto_brightness=asked)
        assert found.mean() == pytest.approx(means[asked][0], abs=1e-6)
    assert means[False] == pytest.approx([38] * 3, abs=3)
    assert means[True] == pytest.approx([118] * 3, abs=6)
