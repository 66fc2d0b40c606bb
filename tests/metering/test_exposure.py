"""The auto-exposure and white-balance loop, on the synthetic camera."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edge_isp.calibration.profile import load_profile
from edge_isp.cameras import synthetic
from edge_isp.cameras.base import ControlLimits, Controls
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.cli.main import app
from edge_isp.errors import CameraError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.kernels.layout import CELL_PLANES
from edge_isp.kernels.unpack import unpack
from edge_isp.metering.exposure import TARGET, AutoExposure
from edge_isp.metering.light import measure
from edge_isp.pipeline import Pipeline, StreamOptions

SIZE = (256, 192)
SETTLED = 0.05  # within so much of the target
STEP_AT, FRAMES, PATIENCE = 12, 60, 10


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Patches, two in five coloured at random and the others grey. As large as a frame: it stands still."""
    rng = np.random.default_rng(0)
    shape = (12, 16)
    patches = np.repeat(rng.uniform(0, 1, (*shape, 1)) ** 1.2, 3, 2)
    coloured = rng.uniform(size=shape) < 0.4
    patches[coloured] = rng.uniform(0, 1, (int(coloured.sum()), 3))
    path = tmp_path / "scene.png"
    Image.fromarray((patches * 255).astype(np.uint8)).resize(SIZE, Image.Resampling.NEAREST).save(path)
    return path


@dataclass
class Seen:
    """What was seen of one frame: brightness over the target, settings, white balance."""

    brightness: float
    exposure_ns: int
    analogue_gain: float
    colour_gains: tuple[float, float]
    colour_temperature_k: float


class Silent:
    """A camera whose frames say nothing of exposure and white balance, as plain V4L2 ones do. Counts what is asked."""

    def __init__(self, camera: SyntheticCamera, hidden: tuple[str, ...]) -> None:
        self.camera, self.hidden, self.asked = camera, hidden, 0

    @property
    def limits(self) -> ControlLimits:
        return self.camera.limits

    def read(self) -> RawFrame:
        frame = self.camera.read()
        assert frame is not None
        hidden: dict[str, Any] = dict.fromkeys(self.hidden)
        return replace(frame, **hidden)

    def control(self, controls: Controls) -> None:
        self.asked += 1
        self.camera.control(controls)


WHITE_BALANCE = ("colour_gains", "colour_temperature_k")
EXPOSURE = ("exposure_ns", "analogue_gain")


def run(
    scene: Path,
    change: dict[int, dict[str, float]] | None = None,
    *,
    hidden: tuple[str, ...] = WHITE_BALANCE,
    frames: int = FRAMES,
    at: dict[int, Callable[[AutoExposure], None]] | None = None,
    **settings: Any,
) -> tuple[list[Seen], Silent]:
    """Runs the loop over `frames` frames; `change` says what happens to the light before which frame."""
    device = SyntheticCamera(scene, width=SIZE[0], height=SIZE[1], fps=None, **settings)
    camera, loop, seen = Silent(device, hidden), AutoExposure(), []
    for index in range(frames):
        device.illuminate(**(change or {}).get(index, {}))
        if at is not None and index in at:
            at[index](loop)
        frame = camera.read()
        adjusted = loop.adjust(frame, camera)
        seen.append(
            Seen(
                measure(frame).green / TARGET,
                frame.exposure_ns or 0,
                frame.analogue_gain or 0,
                adjusted.colour_gains or (math.nan, math.nan),  # none before there was any light
                adjusted.colour_temperature_k or math.nan,
            )
        )
    return seen, camera


def settling(values: list[float], final: float, tolerance: float) -> int:
    """Frames until all that follow stay within the tolerance of the final value."""
    outside = [index for index, value in enumerate(values) if abs(value / final - 1) > tolerance]
    return outside[-1] + 1 if outside else 0


@pytest.mark.parametrize("delays", [(1, 1), (2, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("stops", [4, 2, 0.5, -0.5, -2, -4])
def test_exposure_settles_after_a_step_of_light(
    scene: Path, monkeypatch: pytest.MonkeyPatch, stops: float, delays: tuple[int, int]
) -> None:
    monkeypatch.setattr(synthetic, "DELAYS", dict(zip(EXPOSURE, delays, strict=True)))
    seen, camera = run(scene, {STEP_AT: {"light": 2.0**stops}})
    after = [one.brightness for one in seen[STEP_AT:]]
    assert abs(math.log2(after[0])) > 0.4  # there was a step
    assert settling(after, 1.0, SETTLED) <= PATIENCE
    # Too bright stays above the target until it is there, too dark below.
    overshoot = max(1 - v for v in after) if stops > 0 else max(v - 1 for v in after)
    assert overshoot <= 0.2
    # Nothing moves any more, and nothing more is asked for.
    totals = [one.exposure_ns * one.analogue_gain for one in seen[STEP_AT + PATIENCE + 4 :]]
    assert max(totals) / min(totals) < 1.001
    assert camera.asked <= 12


def test_exposure_settles_without_being_told_the_exposure(scene: Path) -> None:
    seen, _ = run(scene, {30: {"light": 16.0}, 60: {"light": 1.0}}, hidden=WHITE_BALANCE + EXPOSURE, frames=90)
    for start in (0, 30, 60):
        part = [one.brightness for one in seen[start : start + 30]]
        assert settling(part, 1.0, SETTLED) <= 20
    assert max(one.brightness for one in seen[60:90]) <= 1.2
    assert min(one.brightness for one in seen[30:60]) >= 0.8


@pytest.mark.parametrize("gain", [4.0, 15.5])
def test_exposure_is_exact_with_noise_at_high_gain(scene: Path, gain: float) -> None:
    reference, _ = run(scene, frames=STEP_AT)
    total_ns = reference[-1].exposure_ns * reference[-1].analogue_gain
    seen, camera = run(scene, {0: {"light": total_ns / (camera_period_ns(scene) * gain)}})
    settled = seen[PATIENCE:]
    assert all(abs(one.analogue_gain / gain - 1) < 0.05 for one in settled)
    assert all(abs(one.brightness - 1) < 0.02 for one in settled)
    assert camera.asked <= 6
    for channel in (0, 1):
        gains = [one.colour_gains[channel] for one in seen[2 * PATIENCE :]]
        assert max(gains) / min(gains) < 1.02


def camera_period_ns(scene: Path) -> int:
    return SyntheticCamera(scene, width=SIZE[0], height=SIZE[1], fps=None).limits.exposure_ns[1]


def test_nothing_winds_up_where_the_light_is_too_little_or_too_much(scene: Path) -> None:
    seen, _ = run(scene, {0: {"light": 1e-4}, 20: {"light": 1.0}, 40: {"light": 1e4}, 60: {"light": 1.0}}, frames=80)
    assert (seen[19].exposure_ns, seen[19].analogue_gain) == (camera_period_ns(scene), 16.0)
    assert (seen[59].exposure_ns, seen[59].analogue_gain) == (20_000, 1.0)
    for start in (20, 60):
        assert settling([one.brightness for one in seen[start : start + 20]], 1.0, SETTLED) <= PATIENCE


def test_exposure_never_exceeds_the_frame_period(scene: Path) -> None:
    rng = np.random.default_rng(1)
    changes = {index: {"light": float(2.0 ** rng.uniform(-10, 6))} for index in range(0, 120, 3)}
    seen, _ = run(scene, changes, frames=120)
    period_ns = camera_period_ns(scene)
    assert max(one.exposure_ns for one in seen) == period_ns
    assert max(one.analogue_gain for one in seen) > 1
    # Gain only where the frame period is used up: no change of both is in flight.
    for before, one in pairwise(seen):
        steady = (before.exposure_ns, before.analogue_gain) == (one.exposure_ns, one.analogue_gain)
        if steady and one.analogue_gain > 1.001:
            assert one.exposure_ns == period_ns
    with SyntheticCamera(scene, width=SIZE[0], height=SIZE[1], fps=50.0) as camera:
        loop = AutoExposure()
        camera.illuminate(light=1e-3)
        for _ in range(12):
            frame = camera.read()
            assert frame is not None
            loop.adjust(frame, camera)
            assert frame.exposure_ns is not None
            assert frame.exposure_ns <= 20_000_000
        assert frame is not None
        assert frame.exposure_ns == 20_000_000


@pytest.mark.parametrize(("start_k", "end_k"), [(5700.0, 3700.0), (5700.0, 7700.0), (3000.0, 5000.0), (5000.0, 3000.0)])
def test_white_balance_settles_after_a_step_of_colour(scene: Path, start_k: float, end_k: float) -> None:
    change = {STEP_AT: {"colour_temperature_k": end_k}}
    seen, _ = run(scene, change, colour_temperature_k=start_k)
    for channel in (0, 1):
        values = [one.colour_gains[channel] for one in seen[STEP_AT:]]
        start, final = seen[STEP_AT - 1].colour_gains[channel], float(np.mean(values[-20:]))
        assert abs(final / start - 1) > 0.08  # there was a step
        assert settling(values, final, SETTLED) <= PATIENCE
        assert settling(values, final, 0.03) <= PATIENCE + 4  # and nothing moves any more
        overshoot = max((value - final) / (final - start) for value in values)
        assert overshoot <= 0.2
        truth = load_profile("imx219").colour_gains(end_k)[channel]
        assert abs(final / truth - 1) < 0.06


def test_coloured_surfaces_have_no_say(tmp_path: Path) -> None:
    """Where most of the view is one colour, grey world would be far off."""
    rng = np.random.default_rng(2)
    patches = np.repeat(rng.uniform(0.2, 0.9, (12, 16, 1)), 3, 2)
    patches[:, :10] = (0.25, 0.65, 0.2)  # a lawn
    path = tmp_path / "lawn.png"
    Image.fromarray((patches * 255).astype(np.uint8)).resize(SIZE, Image.Resampling.NEAREST).save(path)
    seen, _ = run(path, frames=15, colour_temperature_k=4600.0)
    truth = load_profile("imx219").colour_gains(4600.0)
    np.testing.assert_allclose(seen[-1].colour_gains, truth, rtol=0.06)


def test_a_sensor_without_a_curve_takes_the_frame_for_grey(scene: Path, caplog: pytest.LogCaptureFixture) -> None:
    with SyntheticCamera(scene, width=SIZE[0], height=SIZE[1], fps=None) as camera:
        loop = AutoExposure()
        for _ in range(12):
            frame = camera.read()
            assert frame is not None
            adjusted = loop.adjust(replace(frame, sensor="imx999", colour_gains=None), camera)
    assert adjusted.colour_gains is not None
    np.testing.assert_allclose(adjusted.colour_gains, load_profile("imx219").colour_gains(5700.0), rtol=0.1)
    assert [record.message for record in caplog.records if "AWB curve" in record.message] == [
        f"{scene}: it has no colour gains, and no AWB curve of sensor 'imx999' is known: white balance takes the frame "
        "for grey"
    ]


def test_locks_hold(scene: Path) -> None:
    def lock(loop: AutoExposure) -> None:
        loop.exposure_locked = loop.white_balance_locked = True

    def unlock_exposure(loop: AutoExposure) -> None:
        loop.exposure_locked = False

    def unlock_white_balance(loop: AutoExposure) -> None:
        loop.white_balance_locked = False

    seen, _ = run(
        scene,
        {20: {"light": 4.0, "colour_temperature_k": 3700.0}},
        frames=80,
        at={15: lock, 40: unlock_exposure, 60: unlock_white_balance},
    )
    assert len({(one.exposure_ns, one.analogue_gain) for one in seen[16:41]}) == 1
    assert len({one.colour_gains for one in seen[15:60]}) == 1
    assert seen[39].brightness > 2
    assert settling([one.brightness for one in seen[40:]], 1.0, SETTLED) <= PATIENCE
    assert abs(seen[59].colour_temperature_k / 5700 - 1) < 0.1
    assert abs(seen[79].colour_temperature_k / 3700 - 1) < 0.1


def test_what_was_set_while_locked_is_mended_when_unlocked(scene: Path) -> None:
    with SyntheticCamera(scene, width=SIZE[0], height=SIZE[1], fps=None) as camera:
        loop, brightness = AutoExposure(), []
        for index in range(40):
            if index == 10:
                loop.exposure_locked = True
                camera.control(Controls(exposure_ns=1_000_000))
            if index == 20:
                loop.exposure_locked = False
            frame = camera.read()
            assert frame is not None
            loop.adjust(frame, camera)
            brightness.append(measure(frame).green / TARGET)
    assert brightness[19] < 0.5
    assert settling(brightness[20:], 1.0, SETTLED) <= PATIENCE


def test_frames_keep_the_white_balance_of_their_camera(scene: Path) -> None:
    with SyntheticCamera(scene, width=SIZE[0], height=SIZE[1], fps=None) as camera:
        frame = camera.read()
        assert frame is not None
        assert AutoExposure().adjust(frame, camera) is frame


def test_a_frame_and_its_adjusted_twin_are_released_once(scene: Path) -> None:
    with SyntheticCamera(scene, width=SIZE[0], height=SIZE[1], fps=None) as camera:
        frame, released = camera.read(), []
        assert frame is not None
        lent = replace(frame, colour_gains=None, on_release=lambda: released.append(1))
        twin = AutoExposure().adjust(lent, camera)
        assert twin is not lent
        twin.release()
        lent.release()
    assert released == [1]


def test_damaged_frames_are_not_measured(scene: Path) -> None:
    with SyntheticCamera(scene, width=SIZE[0], height=SIZE[1], fps=None) as camera:
        frame = camera.read()
        assert frame is not None
        spy = Silent(camera, ())
        damaged = replace(frame, data=np.zeros_like(frame.data), status=FrameStatus.CORRUPTED, colour_gains=None)
        assert AutoExposure().adjust(damaged, spy).colour_gains is None
    assert spy.asked == 0


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
@pytest.mark.parametrize("packing", ["csi2p", "u16", "u16-left"])
def test_light_is_measured_alike_in_every_layout(recording: Callable[..., Path], cfa: str, packing: str) -> None:
    path = recording(cfa=cfa, packing=packing, stride=160, frames=1, width=64, height=48)
    with ReplayCamera(path) as camera:
        frame = camera.read()
        assert frame is not None
        codes = unpack(frame.data, frame.format.layout)
        greens = [
            codes[place // 2 :: 2, place % 2 :: 2] for place, plane in enumerate(CELL_PLANES[cfa]) if plane in (1, 2)
        ]
        expected = np.minimum((np.stack(greens) - 64.0) / (1023 - 64), 1).mean()
        assert abs(measure(frame).green - expected) < 1e-3


def test_a_recording_has_no_exposure_to_set_but_takes_white_balance(recording: Callable[..., Path]) -> None:
    path = recording(frame="", width=64, height=48)
    with ReplayCamera(path) as camera:
        frame = camera.read()
        assert frame is not None
        loop = AutoExposure()
        with pytest.raises(CameraError, match="the exposure and gain of a recording cannot be set"):
            loop.adjust(frame, camera)
        with pytest.raises(CameraError, match="exposure_ns cannot be set; this camera takes no settings; a recording"):
            camera.control(Controls(exposure_ns=1))
        loop.exposure_locked = True
        assert loop.adjust(frame, camera).colour_gains is not None


def test_the_pipeline_runs_the_loop(scene: Path) -> None:
    camera = SyntheticCamera(scene, width=SIZE[0], height=SIZE[1], fps=None, frames=8)
    camera.illuminate(light=1 / 8)
    with Pipeline(camera, stream=StreamOptions(auto_exposure=AutoExposure())) as pipeline:
        done = list(pipeline)
    assert list(done[0].stages_ns) == ["read", "meter", "encode", "infer", "decode"]
    first, last = (one.picture.rgb.mean() for one in (done[0], done[-1]))
    assert last > 1.5 * first


def test_the_command_line_runs_the_loop(scene: Path, recording: Callable[..., Path]) -> None:
    spec = f"synthetic:{scene},width={SIZE[0]},height={SIZE[1]},fps=none,frames=2"
    result = CliRunner().invoke(app, ["run", "--camera", spec, "--auto-exposure", "--json"])
    assert result.exit_code == 0, result.output
    assert ["meter" in json.loads(line)["stages_ns"] for line in result.stdout.splitlines()] == [True, True]
    result = CliRunner().invoke(app, ["run", "--camera", str(recording()), "--auto-exposure", "--json"])
    assert isinstance(result.exception, CameraError)
    assert "of a recording cannot be set" in str(result.exception)
