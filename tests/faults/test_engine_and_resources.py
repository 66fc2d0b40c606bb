"""Errors of a warm-up, a machine at its limits, and callers' own functions that raise: counts stay exact."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_isp.engines.process import ProcessEngine
from edge_isp.errors import CameraError, EngineError
from edge_isp.frame import FrameStatus
from edge_isp.metering.exposure import AutoExposure
from edge_isp.models.card import find_model
from edge_isp.pipeline import (
    DropReason,
    Event,
    FramesDropped,
    Pipeline,
    PipelineState,
    QueuePolicy,
    ReconnectPolicy,
    StateChange,
    StreamOptions,
)
from edge_isp.pipeline.watchdog import Systemd
from tests.support.frames import frame_of
from tests.support.scripted import (
    ScriptedCamera,
    ScriptedEngine,
    ScriptedFrame,
    SimulatedClock,
    engine,
    resources,
)
from tests.support.streams import SCRIPTED, Events, check_account, opener

__all__ = ["engine"]

NO_DESCRIPTORS = OSError(errno.EMFILE, "Too many open files")


def failing(failures: int, error: BaseException) -> Callable[..., None]:
    """A function that fails the first times that it is called."""
    calls = itertools.count()

    def call(*_: object) -> None:
        if next(calls) < failures:
            raise error

    return call


@pytest.mark.parametrize(
    "error",
    [
        EngineError("the NPU is busy"),
        NO_DESCRIPTORS,
        MemoryError(),
        RuntimeError("the driver failed"),
        AttributeError("'NoneType' object has no attribute 'run'"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["on_load", "on_resize", "on_warm_up", "on_run"])
class TestErrorsOfAnEngine:
    def test_cost_a_cameras_frames(self, engine: type[ScriptedEngine], where: str, error: BaseException) -> None:
        """The model is made ready again for the next frame."""
        setattr(engine, where, staticmethod(failing(3, error)))
        options = StreamOptions(policy=QueuePolicy.BLOCK, clock=SimulatedClock())
        with Pipeline(ScriptedCamera(range(6)), SCRIPTED, options) as pipeline:
            assert [done.sequence for done in pipeline] == [3, 4, 5]
            assert pipeline.counts.dropped == {DropReason.ENGINE_ERROR: 3}
        check_account(pipeline)
        assert engine.opened == engine.closed
        assert engine.runs == (6 if where == "on_run" else 3), "what was made ready is warm"

    def test_are_limited(self, engine: type[ScriptedEngine], where: str, error: BaseException) -> None:
        setattr(engine, where, staticmethod(failing(99, error)))
        options = StreamOptions(
            policy=QueuePolicy.BLOCK, clock=SimulatedClock(), reconnect=ReconnectPolicy(engine_errors=4)
        )
        with Pipeline(ScriptedCamera(range(9)), SCRIPTED, options) as pipeline, pytest.raises(EngineError):
            list(pipeline)
        assert pipeline.counts.dropped[DropReason.ENGINE_ERROR] == 4
        check_account(pipeline)

    def test_end_a_recording(self, engine: type[ScriptedEngine], where: str, error: BaseException) -> None:
        setattr(engine, where, staticmethod(failing(1, error)))
        with Pipeline(ScriptedCamera(range(3), live=False), SCRIPTED) as pipeline, pytest.raises(EngineError):
            list(pipeline)
        check_account(pipeline)


def test_a_warm_up_after_a_change_of_size(engine: type[ScriptedEngine]) -> None:
    """One that fails is done again, and the frames of the old size are not affected."""
    other = frame_of(0)
    changes = {"data": other.data, "format": other.format}
    sizes = itertools.count()

    def warm_up() -> None:
        if next(sizes) in (1, 2):
            raise EngineError("not of this size, yet")

    engine.on_warm_up = staticmethod(warm_up)
    script: list[Any] = [0, 1, *(ScriptedFrame(n, changes=changes) for n in (2, 3, 4)), 5]
    options = StreamOptions(policy=QueuePolicy.BLOCK, clock=SimulatedClock())
    with Pipeline(ScriptedCamera(script), SCRIPTED, options) as pipeline:
        assert [done.sequence for done in pipeline] == [0, 1, 4, 5]
    check_account(pipeline)


def test_the_service_manager_cannot_be_told(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Out of descriptors there is no socket: the stream goes on, and the watchdog looks on."""
    monkeypatch.setattr("edge_isp.pipeline.watchdog.CHECK_PERIOD_S", 0.01)
    tried = threading.Semaphore(0)

    def no_socket(*_: object) -> None:
        tried.release()
        raise NO_DESCRIPTORS

    monkeypatch.setattr("edge_isp.pipeline.watchdog.socket.socket", no_socket)
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000"}
    monkeypatch.setattr(Systemd.__init__, "__defaults__", (environment,))

    def wait_for_tries() -> None:
        for _ in range(5):
            assert tried.acquire(timeout=60)

    options = StreamOptions(policy=QueuePolicy.BLOCK, clock=SimulatedClock(), notify_systemd=True)
    with Pipeline(ScriptedCamera([0, wait_for_tries, 1, wait_for_tries, 2]), SCRIPTED, options) as pipeline:
        assert [done.sequence for done in pipeline] == [0, 1, 2]
    assert pipeline.error is None


def test_a_watchdog_that_finds_an_error_looks_on(engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_isp.pipeline.watchdog.CHECK_PERIOD_S", 0.01)
    looked = threading.Semaphore(0)

    def notify(systemd: Systemd, *messages: str) -> None:
        if messages == ("WATCHDOG=1",):
            looked.release()
            raise MemoryError

    monkeypatch.setattr(Systemd, "notify", notify)

    def wait_for_looks() -> None:
        for _ in range(3):
            assert looked.acquire(timeout=60)

    with Pipeline(
        ScriptedCamera([0, wait_for_looks, 1]), SCRIPTED, StreamOptions(policy=QueuePolicy.BLOCK)
    ) as pipeline:
        pipeline.read()
        assert [done.sequence for done in pipeline] == [1]


@pytest.mark.parametrize("what", ["memfd_create", "socketpair", "Popen", "mmap"])
def test_an_engines_process_that_cannot_be_started_leaks_nothing(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = {"memfd_create": os, "socketpair": socket, "Popen": subprocess, "mmap": mmap}[what]
    path = find_model("rfdcsanet-s", None).path
    before = resources()

    def fail(*_: object, **__: object) -> None:
        raise NO_DESCRIPTORS

    with monkeypatch.context() as patch, pytest.raises(EngineError, match="Too many open files"):
        patch.setattr(owner, what, fail)
        ProcessEngine(path, engine="litert")
    assert resources() == before


def endless(begin: int = 0, **changes: Any) -> Iterator[Any]:
    """Frames without an end, with a pause after each, as a camera makes them."""
    pause = threading.Event()
    for number in itertools.count(begin):
        yield ScriptedFrame(number, **changes)
        yield lambda: pause.wait(0.001)


class OwnError(Exception):
    """Of a function of the caller's."""


def run_with(engine: type[ScriptedEngine], camera: ScriptedCamera, options: StreamOptions, **more: Any) -> Pipeline:
    """A stream that ends with the caller's error: every frame is released and accounted for."""
    with Pipeline(camera, SCRIPTED, options) as pipeline:
        if "callback" in more:
            pipeline.add_consumer(of=pipeline.consumers[0], callback=more["callback"])
        with pytest.raises(OwnError):
            list(pipeline)
        assert pipeline.state is PipelineState.FAILED
    check_account(pipeline)
    assert not camera.lent
    assert engine.opened == engine.closed
    return pipeline


@pytest.mark.parametrize("policy", [QueuePolicy.BLOCK, QueuePolicy.LATEST, QueuePolicy.buffered(2)], ids=str)
class TestACallersFunctionThatRaises:
    def test_callback(self, engine: type[ScriptedEngine], policy: QueuePolicy) -> None:
        def call_back(done: Any) -> None:
            if done.sequence >= 3:
                raise OwnError

        run_with(engine, ScriptedCamera(endless()), StreamOptions(policy=policy), callback=call_back)

    @pytest.mark.parametrize("cause", [DropReason.SENSOR_GAP, DropReason.CORRUPTED, DropReason.ENGINE_ERROR])
    def test_on_event_of_a_dropped_frame(
        self, engine: type[ScriptedEngine], policy: QueuePolicy, cause: DropReason
    ) -> None:
        def on_event(event: Event) -> None:
            if isinstance(event, FramesDropped) and event.cause is cause:
                raise OwnError

        def fail(number: int) -> None:
            raise EngineError("scripted")

        if cause is DropReason.ENGINE_ERROR:
            engine.on_run = staticmethod(fail)
        script = itertools.chain([0, 2, (3, FrameStatus.CORRUPTED)], endless(4))
        run_with(engine, ScriptedCamera(script), StreamOptions(policy=policy, on_event=on_event))

    @pytest.mark.parametrize("state", [PipelineState.STARTING, PipelineState.RUNNING])
    def test_on_event_of_a_state(self, engine: type[ScriptedEngine], policy: QueuePolicy, state: PipelineState) -> None:
        def on_event(event: Event) -> None:
            if isinstance(event, StateChange) and event.state is state:
                raise OwnError

        run_with(engine, ScriptedCamera(endless()), StreamOptions(policy=policy, on_event=on_event))

    def test_meter(self, engine: type[ScriptedEngine], policy: QueuePolicy) -> None:
        class Meter(AutoExposure):
            def adjust(self, frame: Any, camera: Any) -> Any:
                if frame.sequence >= 3:
                    raise OwnError
                return frame

        run_with(engine, ScriptedCamera(endless()), StreamOptions(policy=policy, auto_exposure=Meter()))

    def test_on_release(self, engine: type[ScriptedEngine], policy: QueuePolicy) -> None:
        """Of a camera that cannot be opened again."""
        script = itertools.chain(range(3), endless(3, release_error=OwnError()))
        run_with(engine, ScriptedCamera(script), StreamOptions(policy=policy))

    def test_on_release_of_two_models(self, engine: type[ScriptedEngine], policy: QueuePolicy) -> None:
        script = itertools.chain(range(3), endless(3, release_error=OwnError()))
        camera = ScriptedCamera(script)
        with Pipeline(camera, SCRIPTED, StreamOptions(policy=policy)) as pipeline:
            pipeline.add_consumer(SCRIPTED, callback=lambda done: None)
            with pytest.raises(OwnError):
                list(pipeline)
        check_account(pipeline)
        assert not camera.lent

    def test_on_release_while_it_stops(self, engine: type[ScriptedEngine], policy: QueuePolicy) -> None:
        """The frames that wait are dropped: each of them raises, and all are released."""
        reached, go_on = threading.Event(), threading.Event()

        def hang(number: int) -> None:
            reached.set()
            go_on.wait()

        engine.on_run = staticmethod(hang)
        camera = ScriptedCamera(itertools.chain([0, reached.wait], endless(1, release_error=OwnError())))
        pipeline = Pipeline(opener([camera]), SCRIPTED, StreamOptions(policy=policy))
        pipeline.start()
        assert reached.wait(60)
        go_on.set()
        pipeline.close()
        check_account(pipeline)
        assert not camera.lent


def test_a_camera_is_out_of_descriptors_while_it_is_opened_again(engine: type[ScriptedEngine]) -> None:
    events = Events()
    cameras = [ScriptedCamera([0, CameraError("gone")]), NO_DESCRIPTORS, MemoryError(), ScriptedCamera([1])]
    options = StreamOptions(policy=QueuePolicy.BLOCK, clock=SimulatedClock(), on_event=events)
    with Pipeline(opener(cameras), SCRIPTED, options) as pipeline:
        assert [done.sequence for done in pipeline] == [0, 1]
    check_account(pipeline)
