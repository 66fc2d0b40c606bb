"""Nothing is exempt from the heartbeat: whatever hangs is `stalled`, and the service manager is told nothing more."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_isp.cameras.base import ControlLimits, Controls
from edge_isp.errors import CameraError
from edge_isp.frame import FrameStatus
from edge_isp.metering.exposure import AutoExposure
from edge_isp.models.card import ModelCard
from edge_isp.pipeline import (
    Event,
    ModelOptions,
    Pipeline,
    PipelineState,
    QueuePolicy,
    ReconnectPolicy,
    StateChange,
    StreamOptions,
)
from edge_isp.pipeline.watchdog import Systemd, Watchdog
from edge_isp.tasks.registry import task_for
from tests.support.frames import frame_of
from tests.support.scripted import (
    ScriptedCamera,
    ScriptedEngine,
    ScriptedFrame,
    SimulatedClock,
    engine,
    hang_at,
)
from tests.support.streams import SCRIPTED, Events

__all__ = ["engine"]

LIMITS = ReconnectPolicy()


class Manager:
    """A service manager: notes what it is told."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def messages(self) -> list[str]:
        """What came since the last call."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    monkeypatch.setattr(os, "environ", {**os.environ, "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "30000"})
    monkeypatch.setattr(Systemd.__init__, "__defaults__", (os.environ,))
    yield manager
    manager.close()


class Hang:
    """Something that hangs until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        self.reached.set()
        self.go_on.wait()


class Looks:
    """Counts the checks of all watchdogs."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait_for(self, more: int) -> None:
        """Waits for checks.

        Args:
            more: how many, from now on.
        """
        with self._changed:
            wanted = self._count + more
            assert self._changed.wait_for(lambda: self._count >= wanted, 60), "the watchdog does not look"


looks = Looks()


def check_that_it_is_seen(
    pipeline: Pipeline, hang: Hang, clock: SimulatedClock, events: Events, manager: Manager, *, after_s: float
) -> None:
    """Something hangs in a pipeline that is started here: it is responsive until `after_s`, then it is stalled."""
    reader = threading.Thread(target=lambda: list(pipeline))
    reader.start()
    try:
        assert hang.reached.wait(60)
        clock.advance(round((after_s - 0.5) * 1e9))
        looks.wait_for(3)
        assert PipelineState.STALLED not in events.states
        clock.advance(10**9)
        events.wait_for(PipelineState.STALLED)
        manager.messages()
        looks.wait_for(3)
        assert not [message for message in manager.messages() if "WATCHDOG" in message or "READY" in message]
    finally:
        hang.go_on.set()
        pipeline.stop()
        reader.join()
        pipeline.close()


@pytest.fixture(autouse=True)
def _many_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_isp.pipeline.watchdog.CHECK_PERIOD_S", 0.01)
    look = Watchdog.look

    def counted(watchdog: Watchdog) -> None:
        look(watchdog)
        looks.add()

    monkeypatch.setattr(Watchdog, "look", counted)


def options(clock: SimulatedClock, on_event: Callable[[Event], object], **more: Any) -> StreamOptions:
    return StreamOptions(
        policy=QueuePolicy.BLOCK, clock=clock, on_event=on_event, notify_systemd=True, reconnect=LIMITS, **more
    )


@pytest.mark.parametrize("where", ["on_load", "on_resize", "on_warm_up"])
def test_a_model_that_never_becomes_ready(engine: type[ScriptedEngine], manager: Manager, where: str) -> None:
    hang, clock, events = Hang(), SimulatedClock(), Events()
    setattr(engine, where, staticmethod(hang))
    pipeline = Pipeline(ScriptedCamera([0, 1], clock), SCRIPTED, options(clock, events))
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=LIMITS.prepare_s)


@pytest.mark.parametrize("where", ["on_resize", "on_warm_up"])
def test_a_change_of_the_frames_size(engine: type[ScriptedEngine], manager: Manager, where: str) -> None:
    """When the stream has been running, and the service manager been told so."""
    hang, clock, events = Hang(), SimulatedClock(), Events()
    other = frame_of(1)
    changes = {"data": other.data, "format": other.format}

    def arm() -> None:
        running.wait()
        setattr(engine, where, staticmethod(hang))

    running = threading.Event()
    camera = ScriptedCamera([0, arm, ScriptedFrame(1, changes=changes)], clock)
    pipeline = Pipeline(camera, SCRIPTED, options(clock, events))
    pipeline.add_consumer(of=pipeline.consumers[0], callback=lambda done: running.set())
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=LIMITS.prepare_s)


def test_a_task_that_is_never_made(engine: type[ScriptedEngine], manager: Manager) -> None:
    hang, clock, events = Hang(), SimulatedClock(), Events()
    calls: list[int] = []

    def make_task(card: ModelCard) -> Any:
        calls.append(1)
        if len(calls) > 1:  # the first checks the options
            hang()
        return task_for(card)

    model = ModelOptions(engine="scripted", make_task=make_task)
    pipeline = Pipeline(ScriptedCamera([0, 1], clock), model, options(clock, events))
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=LIMITS.prepare_s)


def test_waiting_for_an_engine_that_another_model_holds(engine: type[ScriptedEngine], manager: Manager) -> None:
    """The other is seen first; but where it is exempt, or another program's, the one that waits is seen."""
    hang, clock, events = Hang(), SimulatedClock(), Events()
    pipeline = Pipeline(ScriptedCamera([0, 1], clock), SCRIPTED, options(clock, events))
    turn = threading.Lock()

    class Turn:
        def __enter__(self) -> None:
            hang.reached.set()
            turn.acquire()

        def __exit__(self, *_: object) -> None:
            turn.release()

    pipeline._branches[0].in_turn = Turn()  # type: ignore[assignment]
    turn.acquire()
    hang.go_on.set = turn.release  # type: ignore[method-assign]
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=LIMITS.prepare_s)


def test_opening_the_camera_at_first(engine: type[ScriptedEngine], manager: Manager) -> None:
    hang, clock, events = Hang(), SimulatedClock(), Events()

    def open_camera() -> ScriptedCamera:
        hang()
        return ScriptedCamera([0], clock)

    pipeline = Pipeline(open_camera, SCRIPTED, options(clock, events))
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=LIMITS.prepare_s)


def test_opening_the_camera_again(engine: type[ScriptedEngine], manager: Manager) -> None:
    hang, clock, events = Hang(), SimulatedClock(), Events()
    opened: list[ScriptedCamera] = []

    def open_camera() -> ScriptedCamera:
        if opened:
            hang()
        opened.append(ScriptedCamera([len(opened), CameraError("gone")] if not opened else [1], clock))
        return opened[-1]

    pipeline = Pipeline(open_camera, SCRIPTED, options(clock, events))
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=LIMITS.prepare_s)


class HangingCamera(ScriptedCamera):
    """Hangs where it is set."""

    def __init__(self, script: Any, clock: SimulatedClock, hang: Hang) -> None:
        super().__init__(script, clock)
        self._hang = hang

    @property
    def limits(self) -> ControlLimits:
        return ControlLimits((100_000, 33_000_000), (1.0, 16.0))

    def control(self, controls: Controls) -> None:
        self._hang()


def test_setting_the_exposure(engine: type[ScriptedEngine], manager: Manager) -> None:
    hang, clock, events = Hang(), SimulatedClock(), Events()
    camera = HangingCamera([ScriptedFrame(0, changes={"exposure_ns": 10_000_000})], clock, hang)
    pipeline = Pipeline(camera, SCRIPTED, options(clock, events, auto_exposure=AutoExposure()))
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=2 * LIMITS.stall_s)


def test_an_event_handler(engine: type[ScriptedEngine], manager: Manager) -> None:
    """In the thread of the camera, between two frames."""
    hang, clock, events = Hang(), SimulatedClock(), Events()

    def on_event(event: Event) -> None:
        events(event)
        if isinstance(event, StateChange) and event.state is PipelineState.RUNNING:
            hang()

    pipeline = Pipeline(ScriptedCamera([0, 1], clock), SCRIPTED, options(clock, on_event))
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=2 * LIMITS.stall_s)


@pytest.mark.parametrize("stage", ["infer", "callback"])
def test_one_frame(engine: type[ScriptedEngine], manager: Manager, stage: str) -> None:
    hang, clock, events = Hang(), SimulatedClock(), Events()
    if stage == "infer":
        engine.on_run = hang_at(0, hang.reached, hang.go_on)
    pipeline = Pipeline(ScriptedCamera([0, 1], clock), SCRIPTED, options(clock, events))
    if stage == "callback":
        pipeline.add_consumer(of=pipeline.consumers[0], callback=hang)
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=2 * LIMITS.stall_s)


def test_a_release_that_hangs(engine: type[ScriptedEngine], manager: Manager) -> None:
    hang, clock, events = Hang(), SimulatedClock(), Events()

    class Camera(ScriptedCamera):
        def _back(self, number: int) -> None:
            super()._back(number)
            hang()

    pipeline = Pipeline(Camera([0], clock), SCRIPTED, options(clock, events))
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=2 * LIMITS.stall_s)


@pytest.mark.parametrize("status", [FrameStatus.CORRUPTED, FrameStatus.TRUNCATED])
def test_a_release_in_the_cameras_thread_that_hangs(
    engine: type[ScriptedEngine], manager: Manager, status: FrameStatus
) -> None:
    """Of a frame that no model gets to see."""
    hang, clock, events = Hang(), SimulatedClock(), Events()

    class Camera(ScriptedCamera):
        def _back(self, number: int) -> None:
            super()._back(number)
            hang()

    pipeline = Pipeline(Camera([(0, status)], clock), SCRIPTED, options(clock, events))
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=2 * LIMITS.stall_s)


def test_closing_a_camera_that_has_failed(engine: type[ScriptedEngine], manager: Manager) -> None:
    hang, clock, events = Hang(), SimulatedClock(), Events()

    class Camera(ScriptedCamera):
        def close(self) -> None:
            super().close()
            hang()

    def script() -> Iterator[Any]:
        yield ScriptedFrame(0, release_error=RuntimeError("the driver failed"))
        for number in itertools.count(1):
            if hang.reached.is_set():
                return
            yield number

    cameras = iter([Camera(script(), clock), ScriptedCamera([2], clock)])
    pipeline = Pipeline(lambda: next(cameras), SCRIPTED, options(clock, events))
    check_that_it_is_seen(pipeline, hang, clock, events, manager, after_s=2 * LIMITS.stall_s)
