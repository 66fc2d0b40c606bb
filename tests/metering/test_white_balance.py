"""White balance of frames that come without: grey world, and who sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.errors import FormatError
from edge_isp.frame import FrameStatus, Packing, RawFrame
from edge_isp.metering import white_balance
from edge_isp.metering.white_balance import WhiteBalanceLoop, grey_world, with_gains
from edge_isp.models.card import find_model
from edge_isp.pipeline import DropReason, ModelOptions, Pipeline, PipelineState
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.tasks.detect import DetectTask
from edge_isp.tasks.isp import IspTask
from tests.support.scripted import LAYOUT, ScriptedCamera, ScriptedEngine, engine

__all__ = ["engine"]


@pytest.fixture
def bare(recording: Callable[..., Path]) -> Iterator[RawFrame]:
    """A frame of a known sensor without gains."""
    with ReplayCamera(recording(frame="", frames=1)) as camera:
        frame = camera.read()
        assert frame is not None
        assert frame.colour_gains is None
        yield frame


def test_frames_with_gains_stay_as_they_are(bare: RawFrame) -> None:
    frame = replace(bare, colour_gains=(1.5, 1.25))
    assert with_gains(frame) is frame


def test_frames_without_gains_get_those_of_grey_world_in_daylight(bare: RawFrame) -> None:
    balanced = with_gains(bare)
    assert balanced.colour_gains == grey_world(bare)
    assert balanced.colour_temperature_k == 5500
    assert balanced.data is bare.data
    assert with_gains(replace(bare, colour_temperature_k=3200.0)).colour_temperature_k == 3200
    released: list[str] = []
    lent = replace(bare, on_release=lambda: released.append("once"), _released=[])
    twin = with_gains(lent)
    twin.release()
    lent.release()
    assert released == ["once"]


def test_grey_world_makes_the_mean_grey(bare: RawFrame) -> None:
    codes = np.empty((48, 64), np.uint16)
    codes[0::2, 0::2], codes[1::2, 1::2] = 64 + 100, 64 + 50
    codes[0::2, 1::2] = codes[1::2, 0::2] = 64 + 200
    layout = replace(bare.format, packing=Packing.U16, stride=0)
    frame = replace(bare, data=codes.view(np.uint8), format=layout, black_level=(64.0,) * 4)
    np.testing.assert_allclose(grey_world(frame), (2, 4))


def test_tasks_refuse_frames_without_gains(bare: RawFrame) -> None:
    isp, detector = (
        IspTask(find_model("rfdcsanet-s", None)),
        DetectTask(find_model("raw-detector", None), input_size=32),
    )
    for task in (isp, detector):
        tensor = np.empty(task.input_shape(bare.format), np.int8)
        with pytest.raises(FormatError, match="frame 0 has no colour gains.*metering.white_balance.with_gains"):
            task.encode(bare, tensor)
        task.encode(with_gains(bare), tensor)
    with pytest.raises(FormatError, match="no colour gains"):
        ClassicalIsp().develop(bare)


def test_a_frame_is_metered_once_for_all_models(
    bare: RawFrame, recording: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = grey_world

    def counting(frame: RawFrame) -> tuple[float, float]:
        seen.append(frame.sequence)
        return original(frame)

    monkeypatch.setattr(white_balance, "grey_world", counting)
    with Pipeline(ReplayCamera(recording(frame="", frames=3))) as pipeline:
        pipeline.add_consumer("rfdcsanet-m", callback=lambda done: None)
        done = list(pipeline)
        pipeline.run()
    assert seen == [0, 1, 2]
    assert all(list(one.stages_ns) == ["read", "meter", "encode", "infer", "decode"] for one in done)


def test_pictures_of_a_known_sensor_without_gains_have_not_changed(recording: Callable[..., Path]) -> None:
    """Recorded before white balance moved from encoding into the pipeline: grey world says nothing of the light, so
    colours are those of daylight."""
    with Pipeline(ReplayCamera(recording(frame="", frames=1))) as pipeline:
        (done,) = pipeline
    assert hashlib.sha256(done.picture.rgb.tobytes()).hexdigest() == PICTURE_SHA256


PICTURE_SHA256 = "e1609767df79c292b3d3994aaca82cf10e7c33a816c5667520ca50072d730047"


class NoGains(ScriptedCamera):
    """Frames without gains."""

    def _frame(self, number: int, status: FrameStatus) -> RawFrame:
        return replace(super()._frame(number, status), colour_gains=None)


def test_a_frame_that_cannot_be_metered_is_counted_and_released(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(frame: RawFrame) -> tuple[float, float]:
        raise ValueError("no light")

    monkeypatch.setattr(white_balance, "grey_world", fail)
    camera = NoGains([0, 1])
    with Pipeline(camera, ModelOptions(engine="scripted")) as pipeline:
        with pytest.raises(ValueError, match="no light"):
            list(pipeline)
        assert pipeline.state is PipelineState.FAILED
        assert pipeline.counts.dropped == {DropReason.STOPPED: 1}
        assert (pipeline.counts.frames, pipeline.counts.in_flight) == (1, 0)
    assert not camera.lent


def test_damaged_frames_are_not_metered(engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def grey(frame: RawFrame) -> tuple[float, float]:
        seen.append(frame.sequence)
        return 1.0, 1.0

    monkeypatch.setattr(white_balance, "grey_world", grey)
    camera = NoGains([0, (1, FrameStatus.CORRUPTED), (2, FrameStatus.TRUNCATED), 3], live=False)
    with Pipeline(camera, ModelOptions(engine="scripted")) as pipeline:
        assert [done.sequence for done in pipeline] == [0, 3]
    assert seen == [0, 3]
    assert LAYOUT.height == 16


def test_the_loop_says_nothing_before_it_has_seen_a_colour() -> None:
    loop = WhiteBalanceLoop(None)
    loop.adjust(np.empty((0, 2)))
    assert loop.gains is None
    loop.adjust(np.log(np.array([[0.5, 0.25], [0.5, 0.25], [4.0, 4.0]])))
    assert loop.gains == pytest.approx((2.0, 4.0))
    assert loop.colour_temperature_k is None
