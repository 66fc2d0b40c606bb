"""White balance of frames that come without, and who sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.errors import FormatError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.metering import meter
from edge_isp.metering.light import Light, measure
from edge_isp.metering.meter import FrameMeter, complete_frame
from edge_isp.metering.white_balance import WhiteBalanceLoop, estimate_white_balance
from edge_isp.models.card import find_model
from edge_isp.pipeline import DropReason, ModelOptions, Pipeline, PipelineState, StreamOptions
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.tasks.detect import DetectTask
from edge_isp.tasks.isp import IspTask
from tests.support.scripted import LAYOUT, ScriptedCamera, ScriptedEngine, engine

__all__ = ["engine"]


@pytest.fixture
def bare() -> RawFrame:
    """A frame of a known sensor without gains."""
    return photo_frame("still life", 4600)


def test_frames_with_gains_stay_as_they_are(bare: RawFrame) -> None:
    frame = replace(bare, colour_gains=(1.5, 1.25), analogue_gain=1.0)
    assert complete_frame(frame) is frame


def test_frames_without_gains_get_those_of_the_light_that_is_found(bare: RawFrame) -> None:
    profile = load_profile("imx219")
    balanced = complete_frame(bare)
    found = estimate_white_balance(measure(bare), profile)
    assert found is not None
    assert found.colour_temperature_k is not None
    assert (balanced.colour_gains, balanced.colour_temperature_k) == (found.colour_gains, found.colour_temperature_k)
    assert found.colour_gains == pytest.approx(profile.colour_gains(found.colour_temperature_k))
    assert balanced.data is bare.data
    released: list[str] = []
    lent = replace(bare, on_release=lambda: released.append("once"), _released=[])
    twin = complete_frame(lent)
    twin.release()
    lent.release()
    assert released == ["once"]


def test_a_sensor_without_its_infrared_filter_is_not_on_the_curve(bare: RawFrame) -> None:
    unfiltered = complete_frame(replace(bare, sensor="imx219_noir")).colour_gains
    assert unfiltered == complete_frame(replace(bare, sensor=None)).colour_gains
    assert unfiltered != complete_frame(bare).colour_gains


def test_a_stated_colour_temperature_is_believed(bare: RawFrame) -> None:
    balanced = complete_frame(replace(bare, colour_temperature_k=3200.0))
    assert balanced.colour_gains == load_profile("imx219").colour_gains(3200)
    assert balanced.colour_temperature_k == 3200


@pytest.mark.parametrize(("sensor", "gains"), [("imx219", load_profile("imx219").colour_gains(5500)), (None, (1, 1))])
def test_a_dark_frame_gets_daylight(bare: RawFrame, sensor: str | None, gains: tuple[float, float]) -> None:
    dark = replace(bare, data=np.zeros_like(bare.data), sensor=sensor)
    assert complete_frame(dark).colour_gains == pytest.approx(gains)


def photo_frame(name: str, temperature_k: float, *, gain: float = 1.0, seed: int = 0) -> RawFrame:
    """Grey patches and two coloured ones, or a grey wall, under a light, on the IMX219."""
    rng = np.random.default_rng(seed)
    scene = np.full((192, 256, 3), 0.4, np.float32)
    if name == "still life":
        scene = np.random.default_rng(7).uniform(0.1, 0.9, (12, 16, 1)).repeat(3, 2).astype(np.float32)
        scene[3:6, 4:9] = (0.5, 0.15, 0.1)
        scene[8:11, 2:5] = (0.1, 0.2, 0.5)
        scene = scene.repeat(16, 0).repeat(16, 1)
    profile = load_profile("imx219")
    codes = SensorModel(profile).codes(scene, rng, colour_temperature_k=temperature_k, analogue_gain=gain)
    layout = RawFormat(codes.shape[1], codes.shape[0], Cfa.RGGB, 10, Packing.U16)
    data = pack(codes, packing="u16", bit_depth=10)
    return RawFrame(data, layout, name, 0, 0, profile.black_level, profile.white_level, sensor="imx219")


def angle(gains: tuple[float, float], right: tuple[float, float]) -> float:
    first, second = (np.array([1 / red, 1, 1 / blue]) for red, blue in (gains, right))
    return float(np.degrees(np.arccos(min(1.0, first @ second / np.linalg.norm(first) / np.linalg.norm(second)))))


@pytest.mark.parametrize("temperature_k", [2900, 4000, 5700, 7500])
@pytest.mark.parametrize("scene", ["wall", "still life"])
def test_the_light_is_found_in_simple_scenes(scene: str, temperature_k: float) -> None:
    found = complete_frame(photo_frame(scene, temperature_k)).colour_gains
    assert found is not None
    assert angle(found, load_profile("imx219").colour_gains(temperature_k)) < 2.5


def test_shades_of_grey_of_a_sensor_without_a_curve_are_grey(bare: RawFrame) -> None:
    codes = np.empty((192, 256), np.uint16)
    codes[0::2, 0::2], codes[1::2, 1::2] = 64 + 100, 64 + 50
    codes[0::2, 1::2] = codes[1::2, 0::2] = 64 + 200
    frame = replace(bare, data=codes.view(np.uint8), black_level=(64.0,) * 4, sensor=None)
    balanced = complete_frame(frame)
    np.testing.assert_allclose(balanced.colour_gains or (), (2, 4))
    assert balanced.colour_temperature_k is None


def test_white_balance_of_noisy_frames_is_stable() -> None:
    metered, gains = FrameMeter(), []
    for seed in range(60):
        gains.append(metered.complete(photo_frame("still life", 4600, gain=16.0, seed=seed)).colour_gains)
    spread = np.array(gains, float)
    assert (spread.max(0) / spread.min(0) - 1).max() < 0.01
    assert len(set(gains)) < 10, "tables are not made anew for what cannot be seen"


def test_another_source_begins_anew() -> None:
    metered = FrameMeter()
    for temperature_k in (7500, 2900):
        frame = replace(photo_frame("wall", temperature_k), source=f"{temperature_k}.raw")
        assert metered.complete(frame).colour_gains == complete_frame(frame).colour_gains


def test_tasks_refuse_frames_without_gains(bare: RawFrame) -> None:
    isp, detector = (
        IspTask(find_model("rfdcsanet-s", None)),
        DetectTask(find_model("raw-detector", None), input_size=32),
    )
    for task in (isp, detector):
        tensor = np.empty(task.input_shape(bare.format), np.int8)
        with pytest.raises(FormatError, match="frame 0 has no colour gains.*metering.meter.complete_frame"):
            task.encode(bare, tensor)
        task.encode(complete_frame(bare), tensor)
    with pytest.raises(FormatError, match="no colour gains"):
        ClassicalIsp().develop(bare)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the frames that are measured."""
    seen: list[int] = []

    def counting(frame: RawFrame) -> Light:
        seen.append(frame.sequence)
        return measure(frame)

    monkeypatch.setattr(meter, "measure", counting)
    return seen


def test_a_frame_is_metered_once_for_all_models(recording: Callable[..., Path], measured: list[int]) -> None:
    with Pipeline(ReplayCamera(recording(frame="", frames=3))) as pipeline:
        pipeline.add_consumer("rfdcsanet-m", callback=lambda done: None)
        done = list(pipeline)
        pipeline.run()
    assert measured == [0, 1, 2]
    assert all(list(one.stages_ns) == ["read", "meter", "encode", "infer", "decode"] for one in done)


def test_the_profile_of_the_model_options_is_metered_with(recording: Callable[..., Path]) -> None:
    """A sensor that has no shipped profile: its own is given."""
    path = recording(frame="", frames=1, sensor="name='imx999'\nblack_level=[64,64,64,64]\nwhite_level=1023")
    with ReplayCamera(path) as camera:
        bare = camera.read()
    assert bare is not None
    profile = load_profile("imx477").at_bit_depth(10)
    with Pipeline(ReplayCamera(path), ModelOptions(profile=profile), StreamOptions(keep_raw=True)) as pipeline:
        (done,) = pipeline
    assert done.raw is not None
    assert done.raw.colour_gains == complete_frame(bare, profile).colour_gains
    assert done.raw.colour_gains != complete_frame(bare).colour_gains


class NoGains(ScriptedCamera):
    """Frames without gains."""

    def _frame(self, number: int, status: FrameStatus) -> RawFrame:
        return replace(super()._frame(number, status), colour_gains=None, colour_temperature_k=None)


def test_a_frame_that_cannot_be_metered_is_counted_and_released(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(frame: RawFrame) -> Light:
        raise ValueError("no light")

    monkeypatch.setattr(meter, "measure", fail)
    camera = NoGains([0, 1])
    with Pipeline(camera, ModelOptions(engine="scripted")) as pipeline:
        with pytest.raises(ValueError, match="no light"):
            list(pipeline)
        assert pipeline.state is PipelineState.FAILED
        assert pipeline.counts.dropped == {DropReason.STOPPED: 1}
        assert (pipeline.counts.frames, pipeline.counts.in_flight) == (1, 0)
    assert not camera.lent


def test_damaged_frames_are_not_metered(engine: type[ScriptedEngine], measured: list[int]) -> None:
    camera = NoGains([0, (1, FrameStatus.CORRUPTED), (2, FrameStatus.TRUNCATED), 3], live=False)
    with Pipeline(camera, ModelOptions(engine="scripted")) as pipeline:
        assert [done.sequence for done in pipeline] == [0, 3]
    assert measured == [0, 3]
    assert LAYOUT.height == 16


def test_the_loop_says_nothing_before_it_has_seen_a_colour() -> None:
    loop = WhiteBalanceLoop(None)
    dark = photo_frame("wall", 5000)
    found = []
    for frame in (replace(dark, data=np.zeros_like(dark.data)), dark):
        loop.adjust(measure(frame))
        found.append(loop.balance)
    assert found[0] is None
    assert found[1] is not None
    assert found[1].colour_temperature_k is None
