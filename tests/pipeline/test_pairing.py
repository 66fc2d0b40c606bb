"""Frames of several cameras that belong together: drift, jitter, drops, and a reason for every frame that is alone."""

from __future__ import annotations

import importlib.util
import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_isp import PhaseLoop, SyntheticCamera
from edge_isp.cameras.base import Controls
from edge_isp.errors import CameraError, PipelineError
from edge_isp.frame import FrameStatus
from edge_isp.pipeline import (
    FramePair,
    FramePairer,
    Pipeline,
    QueuePolicy,
    StreamOptions,
    Unpaired,
    UnpairedReason,
    pair,
    pairing,
)
from edge_isp.pipeline.synchroniser import Synchroniser
from tests.support.scripted import PERIOD_NS, ScriptedCamera, ScriptedEngine, SimulatedClock, engine
from tests.support.streams import SCRIPTED, opener

__all__ = ["engine"]

Frame = SimpleNamespace


def frame(sequence: int, timestamp_ns: float, status: FrameStatus = FrameStatus.OK, **truth: Any) -> Any:
    return Frame(sequence=sequence, timestamp_ns=round(timestamp_ns), status=status, **truth)


def test_ten_thousand_frames_of_three_cameras_have_no_wrong_pair() -> None:
    """Each camera is triggered at the same moments; its clock drifts and jitters, it drops frames, and frames arrive
    late and in any order among the cameras."""
    random = np.random.default_rng(5)
    period, tolerance = 33_333_333, 12_000_000
    arrivals = []
    for camera, (drift, offset) in enumerate([(0, 0), (2e-5, 2e6), (-1.5e-5, -1e6)]):
        kept = random.random(10_000) > 0.03
        for moment in np.nonzero(kept)[0]:
            # The clocks are set again every few minutes, so that they are less than a third of a period apart.
            wander = drift * (moment % 5_000) * period
            stamp = moment * period + offset + wander + random.normal(0, 300_000)
            delay = random.uniform(0, 2 * period)
            arrivals.append((stamp + delay, camera, frame(int(moment), stamp, moment=int(moment))))
    # Each camera delivers in order.
    newest = [-math.inf] * 3
    ordered = []
    for camera in range(3):
        for arrival, _, item in sorted((a for a in arrivals if a[1] == camera), key=lambda a: a[2].timestamp_ns):
            newest[camera] = max(newest[camera], arrival)
            ordered.append((newest[camera], camera, item))
    pairer = FramePairer(3, tolerance)
    decided: list[FramePair | Unpaired] = []
    for _, camera, item in sorted(ordered, key=lambda a: a[0]):
        decided += pairer.add(camera, item)
    decided += pairer.end()
    pairs = [found for found in decided if isinstance(found, FramePair)]
    alone = [found for found in decided if isinstance(found, Unpaired)]
    moments: list[set[int]] = [{i.moment for _, c, i in ordered if c == camera} for camera in range(3)]
    whole = moments[0] & moments[1] & moments[2]
    assert all(len({item.moment for item in found.items}) == 1 for found in pairs)
    assert {found.items[0].moment for found in pairs} == whole
    assert all(found.spread_ns <= tolerance for found in pairs)
    assert 3 * len(pairs) + len(alone) == len(ordered)
    assert len(pairs) > 9000
    assert {found.reason for found in alone} <= {UnpairedReason.PARTNER_LOST, UnpairedReason.STOPPED}


def reasons(decided: list[FramePair | Unpaired]) -> list[Any]:
    return [(f.camera, str(f.reason)) if isinstance(f, Unpaired) else len(f.items) for f in decided]


def test_each_reason() -> None:
    pairer = FramePairer(2, 5)
    assert pairer.add(0, frame(0, 100)) == []
    assert reasons(pairer.add(1, frame(0, 103))) == [2]
    assert reasons(pairer.add(1, frame(1, 103))) == [(1, "bad time stamp")]
    assert reasons(pairer.add(1, frame(2, 120, FrameStatus.BAD_TIMESTAMP))) == [(1, "bad time stamp")]
    assert pairer.add(0, frame(1, 200)) == []
    assert reasons(pairer.add(1, frame(1, 206))) == [(0, "out of tolerance")]
    assert reasons(pairer.add(0, frame(3, 300))) == [(1, "partner lost")]  # 0 has lost number 2
    assert reasons(pairer.add(1, frame(2, 305))) == [2]
    silent = [decision for i in range(9) for decision in pairer.add(0, frame(4 + i, 400 + 100 * i))]
    assert reasons(silent) == [(0, "partner silent")]
    assert reasons(pairer.end()) == [(0, "stopped")] * 8
    assert pairer.end() == []


def test_the_nearer_of_two_is_taken_where_the_tolerance_is_wide() -> None:
    pairer = FramePairer(2, 60)
    assert pairer.add(0, frame(0, 100)) == []
    assert pairer.add(0, frame(1, 133)) == []
    assert reasons(pairer.add(1, frame(0, 134))) == [(0, "out of tolerance"), 2]


def test_what_cannot_be_paired() -> None:
    with pytest.raises(PipelineError, match="at least 2 cameras, found 1"):
        pair([ScriptedCamera([])], tolerance_s=1)
    for tolerance_s in (-1, math.nan, math.inf):
        with pytest.raises(PipelineError, match="tolerance_s must be"):
            pair([ScriptedCamera([]), ScriptedCamera([])], tolerance_s=tolerance_s)


def test_recordings_of_different_speed_lose_nothing(engine: type[ScriptedEngine]) -> None:
    """Cameras and a pipeline together; every buffer goes back."""
    cameras = [ScriptedCamera(range(50), SimulatedClock(), live=False) for _ in range(3)]
    pipeline = Pipeline(cameras[2], SCRIPTED)
    with pipeline, pair([cameras[0], cameras[1], pipeline], tolerance_s=0.001) as pairs:
        found = list(pairs)
    assert [f.items[0].sequence for f in found] == list(range(50))
    assert all({item.sequence for item in f.items} == {f.items[0].sequence} for f in found)
    assert (pairs.paired, pairs.lost) == (50, 0)
    assert pairs.unpaired == ({}, {}, {})
    assert not any(camera.lent for camera in cameras)


@pytest.mark.parametrize("live", [False, True])
def test_a_consumer_of_a_recording_waits_as_the_recording_does(engine: type[ScriptedEngine], live: bool) -> None:
    pipeline = Pipeline(ScriptedCamera(range(3), live=live), SCRIPTED)
    with pipeline, pipeline.subscribe() as subscription:
        assert list(subscription)
        for source in (pipeline, pipeline.consumers[0], subscription):
            assert pairing._is_live(source) == live


def test_the_error_of_a_camera_ends_the_pairs() -> None:
    clock = SimulatedClock()
    alone: list[Unpaired] = []
    broken = ScriptedCamera([0, CameraError("gone")], SimulatedClock(), live=False)
    with (
        pair(
            [ScriptedCamera(range(9), clock, live=False), broken], tolerance_s=0.001, on_unpaired=alone.append
        ) as pairs,
        pytest.raises(CameraError, match="gone"),
    ):
        for found in pairs:
            assert found.items[0].timestamp_ns == found.items[1].timestamp_ns
    counts = pairs.unpaired[0]
    assert set(counts) <= {UnpairedReason.STOPPED}
    assert sum(counts.values()) == len(alone)


def test_cameras_that_run(tmp_path: Path) -> None:
    Image.new("RGB", (96, 96)).save(tmp_path / "photo.png")
    make: Callable[[], SyntheticCamera] = lambda: SyntheticCamera(  # noqa: E731
        str(tmp_path / "photo.png"), width=64, height=64, fps=50
    )
    with make() as left, make() as right, pair([left, right], tolerance_s=0.02) as pairs:
        for number, found in enumerate(pairs):
            assert found.spread_ns <= 20_000_000
            if number == 4:
                break


# Software synchronisation


class FreeRunning:
    """A camera whose clock drifts, and whose period can be set; it takes effect two frames later."""

    def __init__(self, drift: float, start_ns: float, seed: int) -> None:
        self._drift, self._now_ns = drift, start_ns
        self._periods = [PERIOD_NS] * 2
        self._random = np.random.default_rng(seed)

    @property
    def limits(self) -> Any:
        raise NotImplementedError

    def control(self, controls: Controls) -> None:
        assert controls.fps is not None
        assert controls.names() == ["fps"]
        assert 0.98 < controls.fps * PERIOD_NS / 1e9 < 1.02
        self._periods.append(round(1e9 / controls.fps))

    def next_ns(self) -> int:
        period = self._periods.pop(0) if len(self._periods) > 1 else self._periods[0]
        self._now_ns += period * (1 + self._drift)
        return round(self._now_ns + self._random.normal(0, 20_000))  # jitter of 20 µs


@pytest.mark.parametrize(("drift", "start"), [(50e-6, 0.0), (-200e-6, 0.49), (100e-6, -0.3)])
def test_the_phase_loop_brings_drifting_cameras_together(drift: float, start: float) -> None:
    leader, follower = FreeRunning(0.0, 0.0, 1), FreeRunning(drift, start * PERIOD_NS, 2)
    loop = PhaseLoop(follower, 1e9 / PERIOD_NS)
    loop.follower(follower.next_ns())
    assert [loop.error_ns] == [None]  # nothing to follow yet
    errors: list[float] = []
    for _ in range(2000):
        loop.leader(leader.next_ns())
        loop.follower(follower.next_ns())
        assert loop.error_ns is not None
        errors.append(loop.error_ns)
    settled = np.abs(errors[600:])
    assert np.percentile(settled, 99) < 150_000  # 0.15 ms, with 20 µs of jitter in each
    # Without the loop they drift apart: by 3 ms and more in this time.
    assert abs(drift) * 2000 * PERIOD_NS > 3_000_000


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf])
def test_the_phase_loop_needs_a_rate(fps: float) -> None:
    with pytest.raises(CameraError, match="fps must be"):
        PhaseLoop(FreeRunning(0, 0, 0), fps)


@pytest.fixture(scope="module")
def simulation() -> Any:
    """The simulated cameras of the plot in the documentation."""
    path = Path(__file__).parents[2] / "scripts" / "plot_phase_error.py"
    spec = importlib.util.spec_from_file_location("plot_phase_error", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pairs_bring_drifting_cameras_together(simulation: Any) -> None:
    """Three followers at once; without synchronisation they drift apart."""
    errors = np.abs(simulation.phase_errors_ms(simulation.CAMERAS, 1200, 30.0))
    assert len(errors) > 1100
    assert np.percentile(errors[600:], 99) < 0.15
    free = simulation.phase_errors_ms(simulation.CAMERAS[:1], 1200, None)
    assert free[-1, 0] - free[0, 0] == pytest.approx(50e-6 * len(free) * PERIOD_NS / 1e6, rel=0.1)
    assert abs(free[-1, 0]) > 5


def test_the_present_phase_errors_are_known(simulation: Any) -> None:
    timeline = simulation.Timeline()
    leader, follower = (simulation.DriftingCamera(timeline, d, 0.1, 400, 1) for d in (0.0, 5e-5))
    with pair([leader, follower], tolerance_s=0.016, synchronise_fps=30) as pairs:
        before = pairs.phase_errors_ns
        assert sum(1 for _ in pairs) == 400
        first, second = pairs.phase_errors_ns
    assert before == (None, None)
    assert first is None
    assert second is not None
    assert abs(second) < 200_000
    with pair([leader, follower], tolerance_s=0.016) as free:
        assert free.phase_errors_ns == (None, None)


class Noting(ScriptedCamera):
    """Notes the frame rates that it is asked for, or refuses them."""

    def __init__(self, *arguments: Any, refuses: bool = False, synchronised: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rates: list[float | None] = []
        self._refuses, self.synchronised = refuses, synchronised

    def control(self, controls: Controls) -> None:
        self.rates.append(controls.fps)
        if self._refuses:
            raise CameraError("the frame rate of this camera cannot be set")


def test_cameras_that_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """One that the driver synchronises is never asked, one that refuses is asked once, the first one leads."""
    leader, synchronised = Noting(range(9), live=False), Noting(range(9), live=False, synchronised=True)
    refuses = Noting(range(9), live=False, refuses=True)
    with pair([leader, synchronised, refuses], tolerance_s=0.001, synchronise_fps=30) as pairs:
        assert len(list(pairs)) == 9
        assert pairs.phase_errors_ns == (None, None, None)
    assert leader.rates == synchronised.rates == []
    assert len(refuses.rates) == 1
    assert caplog.messages == ["a camera is not synchronised: the frame rate of this camera cannot be set"]


def test_a_camera_that_a_pipeline_opens_again_is_driven_again(engine: type[ScriptedEngine]) -> None:
    clock, third = SimulatedClock(), threading.Event()
    opened = [Noting([0, 1, 2, third.wait, CameraError("gone")], clock), Noting(range(3, 6), clock)]
    follower = Pipeline(opener(opened), SCRIPTED, StreamOptions(clock=clock, policy=QueuePolicy.BLOCK))
    leader = Noting(range(6), SimulatedClock(), live=False)
    synchroniser = Synchroniser([leader, follower], 30)
    with follower:
        for number in range(6):
            frame_of_leader = leader.read()
            assert frame_of_leader is not None
            synchroniser.noted(0, frame_of_leader)
            frame_of_leader.release()
            done = follower.read(60)
            assert done is not None
            assert done.sequence == number
            synchroniser.noted(1, done)
            if number == 2:
                third.set()
    assert all(camera.rates for camera in opened)


def test_a_bad_time_stamp_drives_nothing() -> None:
    leader, follower = Noting([]), Noting([])
    synchroniser = Synchroniser([leader, follower], 30)
    synchroniser.noted(1, frame(0, 100))  # nothing to follow yet
    synchroniser.noted(0, frame(0, 100, FrameStatus.BAD_TIMESTAMP))
    synchroniser.noted(1, frame(1, 200))
    synchroniser.noted(0, frame(1, 200))
    synchroniser.noted(1, frame(2, 300, FrameStatus.BAD_TIMESTAMP))
    assert follower.rates == []
    synchroniser.noted(1, frame(3, 400))
    assert len(follower.rates) == 1


def test_what_cannot_be_synchronised(engine: type[ScriptedEngine]) -> None:
    cameras = [ScriptedCamera([]), ScriptedCamera([])]
    for fps in (0, -1, math.nan, math.inf):
        with pytest.raises(PipelineError, match="synchronise_fps must be a positive number"):
            pair(cameras, tolerance_s=0.01, synchronise_fps=fps)
    with (
        Pipeline(ScriptedCamera([]), SCRIPTED) as pipeline,
        pytest.raises(PipelineError, match="needs cameras or pipelines, whose cameras can be set, found Consumer"),
    ):
        pair([pipeline, pipeline.consumers[0]], tolerance_s=0.01, synchronise_fps=30)
