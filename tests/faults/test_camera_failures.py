"""Any exception of a camera that can be opened again is a failure of the camera, never the end of the stream."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from asyncio import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_isp.cameras.base import ControlLimits, Controls
from edge_isp.errors import CameraError
from edge_isp.metering.exposure import AutoExposure
from edge_isp.pipeline import Pipeline, PipelineState, QueuePolicy, StreamOptions
from edge_isp.pipeline.allocator import give_back_free_memory
from tests.support.scripted import ScriptedCamera, ScriptedEngine, ScriptedFrame, SimulatedClock, engine
from tests.support.streams import SCRIPTED, Events, check_account, opener

__all__ = ["engine"]

# What picamera2, ctypes, NumPy, drivers and a machine at its limits raise.
FAILURES = (
    RuntimeError("camera frontend has timed out"),
    IndexError("list index out of range"),
    ValueError("mmap closed or invalid"),
    KeyError("SensorTimestamp"),
    AttributeError("'NoneType' object has no attribute 'request'"),
    MemoryError(),
    OSError(errno.EMFILE, "Too many open files"),
    NotImplementedError(),
    StopIteration(),
    CameraError("unplugged"),
    # Of a driver's own thread, of asyncio, and of extensions written in Rust: none of them an Exception.
    SystemExit("the driver gives up"),
    CancelledError(),
    BaseException("a panic"),
)


class AdjustableCamera(ScriptedCamera):
    """Can be set, until its settings fail."""

    def __init__(self, script: Any, *, limits_error: BaseException | None = None, control_error: Any = None) -> None:
        super().__init__(script)
        self._limits_error, self._control_error = limits_error, control_error

    @property
    def limits(self) -> ControlLimits:
        if self._limits_error is not None and len(self.delivered) > 1:
            raise self._limits_error
        return ControlLimits((100_000, 33_000_000), (1.0, 16.0))

    def control(self, controls: Controls) -> None:
        if self._control_error is not None and len(self.delivered) > 1:
            raise self._control_error


def stream(*cameras: Any, **options: Any) -> tuple[list[int], Pipeline, Events]:
    """The numbers of all results of a stream through these cameras, one opened after the other."""
    events = Events()
    settings = {"policy": QueuePolicy.BLOCK, "clock": SimulatedClock(), "on_event": events, **options}
    with Pipeline(opener(cameras), SCRIPTED, StreamOptions(**settings)) as pipeline:
        numbers = [done.sequence for done in pipeline]
    check_account(pipeline)
    for camera in cameras:
        if isinstance(camera, ScriptedCamera):
            assert not camera.lent
            assert camera.closed.is_set()
    assert PipelineState.RECOVERING in events.states
    assert pipeline.error is None
    return numbers, pipeline, events


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
class TestEveryExceptionOfACameraIsAFailureOfTheCamera:
    def test_of_read(self, engine: type[ScriptedEngine], failure: BaseException) -> None:
        numbers, pipeline, _ = stream(ScriptedCamera([0, failure]), ScriptedCamera([1]))
        assert (numbers, pipeline.restarts) == ([0, 1], 1)

    def test_of_opening_it_again(self, engine: type[ScriptedEngine], failure: BaseException) -> None:
        numbers, pipeline, _ = stream(ScriptedCamera([0, CameraError("gone")]), failure, failure, ScriptedCamera([1]))
        assert (numbers, pipeline.restarts) == ([0, 1], 1)

    def test_of_closing_the_failed_camera(self, engine: type[ScriptedEngine], failure: BaseException) -> None:
        failed = ScriptedCamera([0, CameraError("gone")], close_error=failure)
        numbers, pipeline, _ = stream(failed, ScriptedCamera([1]))
        assert (numbers, pipeline.restarts) == ([0, 1], 1)

    def test_of_closing_it_at_the_end(self, engine: type[ScriptedEngine], failure: BaseException) -> None:
        last = ScriptedCamera([1], close_error=failure)
        assert stream(ScriptedCamera([0, CameraError("gone")]), last)[0] == [0, 1]

    def test_of_release(self, engine: type[ScriptedEngine], failure: BaseException) -> None:
        """The frame was good: it is delivered, and the camera opened again."""
        released = threading.Event()

        class Camera(ScriptedCamera):
            def _back(self, number: int) -> None:
                try:
                    super()._back(number)
                finally:
                    released.set()

        first = Camera([ScriptedFrame(0, release_error=failure), released.wait, 1, 2, 3])
        numbers, pipeline, _ = stream(first, ScriptedCamera([4]))
        assert numbers in ([0, 1, 4], [0, 4]), "the frame that was being read is not lost"
        assert pipeline.restarts == 1

    def test_of_its_limits(self, engine: type[ScriptedEngine], failure: BaseException) -> None:
        cameras = AdjustableCamera([0, 1], limits_error=failure), AdjustableCamera([2])
        assert stream(*cameras, auto_exposure=AutoExposure())[0] == [0, 1, 2]

    def test_of_control(self, engine: type[ScriptedEngine], failure: BaseException) -> None:
        cameras = AdjustableCamera([0, 1], control_error=failure), AdjustableCamera([2])

        class Restless(AutoExposure):
            """Asks for new settings with every frame."""

            def adjust(self, frame: Any, camera: Any) -> Any:
                camera.control(Controls(exposure_ns=1_000_000))
                return frame

        assert stream(*cameras, auto_exposure=Restless())[0] == [0, 1, 2]


def test_memory_is_given_back_when_a_camera_is_opened_again(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the camera before it has freed; glibc would keep the pages, and the process grow."""
    calls: list[int] = []
    monkeypatch.setattr("edge_isp.pipeline.source.give_back_free_memory", lambda: calls.append(0))
    cameras = [ScriptedCamera([number, CameraError("gone")]) for number in range(3)]
    stream(*cameras, ScriptedCamera([3]))
    assert len(calls) == 3


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_free_memory_is_given_back() -> None:
    """Pages between arrays that are in use."""
    arrays = [np.ones(64_000, np.uint8) for _ in range(2000)]  # below the threshold of pages of their own
    kept = arrays[::100]
    del arrays
    before = resident_bytes()
    give_back_free_memory()
    assert before - resident_bytes() > 64_000_000
    assert all(array.all() for array in kept)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("returned", ["a text", 7, object()])
def test_a_camera_that_returns_no_frame_has_failed(engine: type[ScriptedEngine], returned: object) -> None:
    class Camera(ScriptedCamera):
        def read(self, timeout_s: float | None = None) -> Any:
            return super().read() or returned

    events = Events()
    cameras = [Camera([0]), ScriptedCamera([1])]
    options = StreamOptions(policy=QueuePolicy.BLOCK, clock=SimulatedClock(), on_event=events)
    with Pipeline(opener(cameras), SCRIPTED, options) as pipeline:
        assert [done.sequence for done in pipeline] == [0, 1]
    assert "expected a RawFrame" in events.wait_for(PipelineState.RECOVERING).reason


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_camera_that_hangs_is_closed_though_its_close_fails(
    engine: type[ScriptedEngine], failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog survives it, and the state does not stay `stalled`."""
    monkeypatch.setattr("edge_isp.pipeline.watchdog.CHECK_PERIOD_S", 0.01)
    clock, events, hung = SimulatedClock(), Events(), threading.Event()
    cameras: list[ScriptedCamera] = []

    def hang() -> None:
        hung.set()
        cameras[0].closed.wait()

    cameras += [ScriptedCamera([0, hang], close_error=failure), ScriptedCamera([1])]
    options = StreamOptions(policy=QueuePolicy.BLOCK, clock=clock, on_event=events)
    with Pipeline(opener(cameras), SCRIPTED, options) as pipeline:
        results = iter(pipeline)
        assert next(results).sequence == 0
        assert hung.wait(60)
        clock.advance(11 * 10**9)
        assert [done.sequence for done in results] == [1]
        assert pipeline.restarts == 1
        assert pipeline.state is PipelineState.ENDED
    assert {PipelineState.STALLED, PipelineState.RECOVERING} <= set(events.states)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_camera_that_cannot_be_opened_again_ends_the_stream_with_its_error(
    engine: type[ScriptedEngine], failure: BaseException
) -> None:
    camera = ScriptedCamera([0, failure, 1])
    with Pipeline(camera, SCRIPTED, StreamOptions(policy=QueuePolicy.BLOCK)) as pipeline:
        results = iter(pipeline)
        assert next(results).sequence == 0
        with pytest.raises(Exception) as raised:  # noqa: PT011 (any)
            next(results)
        assert failure in (raised.value, raised.value.__cause__), raised.value
        assert pipeline.state is PipelineState.FAILED
    check_account(pipeline)
    assert not camera.lent


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_camera_that_cannot_be_opened_at_first_is_an_error_of_start(
    engine: type[ScriptedEngine], failure: BaseException
) -> None:
    with Pipeline(opener([failure, ScriptedCamera([0])]), SCRIPTED) as pipeline:
        with pytest.raises((CameraError, OSError)):
            pipeline.start()
        assert [done.sequence for done in pipeline] == [0], "it can be tried again"


def test_a_camera_of_ones_own_whose_close_fails_is_reported(engine: type[ScriptedEngine]) -> None:
    """Nothing can be done about it, but everything else is closed."""
    camera = ScriptedCamera([0], close_error=RuntimeError("cannot be closed"))
    with (
        pytest.raises(RuntimeError, match="cannot be closed"),
        Pipeline(camera, SCRIPTED, StreamOptions(policy=QueuePolicy.BLOCK)) as pipeline,
    ):
        assert [done.sequence for done in pipeline] == [0]
    assert engine.opened == engine.closed == 1
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("edge_isp")]
