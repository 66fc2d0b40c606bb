"""Start, stop and close from anywhere: one state machine, whatever thread asks and whatever fails meanwhile."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from edge_isp.errors import PipelineError
from edge_isp.pipeline import Event, FramesDropped, Pipeline, PipelineState, QueuePolicy, StateChange, StreamOptions
from edge_isp.pipeline.watchdog import Watchdog
from tests.support.scripted import ScriptedCamera, ScriptedEngine, SimulatedClock, engine
from tests.support.streams import SCRIPTED, Events, check_account

__all__ = ["engine"]


@pytest.fixture(autouse=True)
def _many_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("edge_isp"))


def endless() -> Iterator[Any]:
    """A script of frames without an end; the camera pauses for a moment at each, as a real one does."""
    pause = threading.Event()
    for number in itertools.count():
        yield number
        yield lambda: pause.wait(0.001)


class Opener:
    """Opens cameras without an end, and keeps them."""

    def __init__(self) -> None:
        self.opened: list[ScriptedCamera] = []

    def __call__(self) -> ScriptedCamera:
        self.opened.append(ScriptedCamera(endless()))
        return self.opened[-1]

    def check_closed(self) -> None:
        assert all(camera.closed.is_set() for camera in self.opened)
        assert not [camera.lent for camera in self.opened if camera.lent]


def at_once(*actions: Callable[[], object]) -> None:
    """Runs all of them in threads of their own, which begin together, and waits for them."""
    barrier = threading.Barrier(len(actions))

    def body(action: Callable[[], object]) -> None:
        barrier.wait()
        action()

    running = [threading.Thread(target=body, args=(action,)) for action in actions]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    assert not [thread for thread in running if thread.is_alive()], "a call did not return"


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_start_against_two_stops_leaks_nothing(engine: type[ScriptedEngine]) -> None:
    opener = Opener()

    stops = itertools.count()

    def stop() -> None:
        while next(stops) < 300:
            pipeline.stop()

    def start() -> None:
        while next(stops) < 300:
            pipeline.start()

    with Pipeline(opener, SCRIPTED) as pipeline:
        at_once(start, start, stop, stop)
    assert threads() == []
    opener.check_closed()
    check_account(pipeline)


def test_a_stop_that_is_late_does_not_forget_the_next_stream(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that stop the stream, one goes on when the stream has been started again."""
    opener, restarted, calls = Opener(), threading.Event(), itertools.count()
    stop = Watchdog.stop

    def late(watchdog: Watchdog, *arguments: Any) -> Any:
        if next(calls) == 1:
            restarted.wait(60)
        return stop(watchdog, *arguments)

    monkeypatch.setattr(Watchdog, "stop", late)
    pipeline = Pipeline(opener, SCRIPTED)
    pipeline.start()
    stops = [threading.Thread(target=pipeline.stop) for _ in range(2)]
    for thread in stops:
        thread.start()
    while all(thread.is_alive() for thread in stops):
        for thread in stops:
            thread.join(0.01)
    pipeline.start()
    restarted.set()
    for thread in stops:
        thread.join(60)
    pipeline.close()
    assert threads() == []
    opener.check_closed()
    check_account(pipeline)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_close_against_start_and_stop_leaks_nothing(engine: type[ScriptedEngine]) -> None:
    def start(pipeline: Pipeline) -> None:
        try:
            pipeline.start()
        except PipelineError as error:
            errors.append(str(error))

    errors: list[str] = []
    for _ in range(20):
        opener = Opener()
        pipeline = Pipeline(opener, SCRIPTED)
        start_it = partial(start, pipeline)
        at_once(start_it, pipeline.close, pipeline.stop, start_it, pipeline.close)
        assert threads() == []
        opener.check_closed()
        check_account(pipeline)
    assert engine.opened == engine.closed
    assert set(errors) <= {"the pipeline is closed"}


@pytest.mark.parametrize("state", [PipelineState.STARTING, PipelineState.RUNNING])
@pytest.mark.parametrize("method", ["stop", "close"])
def test_stop_inside_an_event_handler(engine: type[ScriptedEngine], state: PipelineState, method: str) -> None:
    opener, noted = Opener(), Events()

    def on_event(event: Event) -> None:
        noted(event)
        if isinstance(event, StateChange) and event.state is state:
            getattr(pipeline, method)()

    pipeline = Pipeline(opener, SCRIPTED, StreamOptions(on_event=on_event))
    pipeline.start()
    noted.wait_for(PipelineState.STOPPED)
    pipeline.close()
    assert pipeline.error is None
    assert threads() == []
    opener.check_closed()
    check_account(pipeline)


def test_stop_inside_the_event_handler_of_a_stop(engine: type[ScriptedEngine]) -> None:
    opener, noted = Opener(), Events()

    def on_event(event: Event) -> None:
        noted(event)
        pipeline.stop()

    pipeline = Pipeline(opener, SCRIPTED, StreamOptions(on_event=on_event))
    pipeline.start()
    pipeline.stop()
    pipeline.close()
    assert threads() == []
    check_account(pipeline)


def test_an_event_handler_starts_the_stream_anew(engine: type[ScriptedEngine]) -> None:
    """After each end, five times: a watchman of one's own."""
    cameras, noted, done = itertools.count(), Events(), threading.Event()

    def open_camera() -> ScriptedCamera:
        return ScriptedCamera([0, 1] if next(cameras) < 5 else [])

    def on_event(event: Event) -> None:
        noted(event)
        if isinstance(event, StateChange) and event.state is PipelineState.ENDED:
            if noted.states.count(PipelineState.ENDED) > 5:
                done.set()
                return
            pipeline.stop()
            pipeline.start()

    options = StreamOptions(policy=QueuePolicy.BLOCK, on_event=on_event, callback=lambda result: None)
    with Pipeline(open_camera, SCRIPTED, options) as pipeline:
        pipeline.start()
        assert done.wait(60)
    assert pipeline.error is None
    check_account(pipeline)
    assert pipeline.counts.frames == 10
    assert threads() == []


@pytest.mark.parametrize("method", ["stop", "start", "close"])
def test_from_a_callback(engine: type[ScriptedEngine], method: str) -> None:
    opener, reached = Opener(), threading.Event()

    def call_back(result: object) -> None:
        getattr(pipeline, method)()
        reached.set()

    pipeline = Pipeline(opener, SCRIPTED, StreamOptions(callback=call_back))
    pipeline.start()
    assert reached.wait(60)
    pipeline.close()
    assert pipeline.error is None
    assert threads() == []
    opener.check_closed()
    check_account(pipeline)


def test_from_a_callback_and_an_event_handler_at_once(
    engine: type[ScriptedEngine], caplog: pytest.LogCaptureFixture
) -> None:
    """Each would wait for the other's thread."""
    opener, both = Opener(), threading.Barrier(2)
    once = [threading.Event(), threading.Event()]

    def stop_once(which: int) -> None:
        if not once[which].is_set():
            once[which].set()
            both.wait(60)
            pipeline.stop()

    def on_event(event: Event) -> None:
        if isinstance(event, FramesDropped):  # since the callback keeps the others waiting
            stop_once(0)

    pipeline = Pipeline(opener, SCRIPTED, StreamOptions(callback=lambda result: stop_once(1), on_event=on_event))
    pipeline.run()
    pipeline.close()
    assert not [record for record in caplog.records if "left behind" in record.getMessage()]
    assert threads() == []
    check_account(pipeline)


@pytest.mark.parametrize("fails_at", range(8))
def test_a_thread_that_cannot_start(
    engine: type[ScriptedEngine], fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is that of the thread, everything that had begun ends, and the next start works."""
    start, started = threading.Thread.start, itertools.count()

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("edge_isp") and next(started) == fails_at:
            raise RuntimeError("can't start new thread")
        start(thread)

    opener = Opener()
    pipeline = Pipeline(opener, SCRIPTED, StreamOptions(callback=lambda result: None))
    monkeypatch.setattr(threading.Thread, "start", limited)
    try:
        pipeline.start()
    except PipelineError as error:
        assert "thread cannot be started: can't start new thread" in str(error)  # noqa: PT017
        assert threads() == []
        pipeline.start()
    pipeline.stop()
    assert next(started) > fails_at
    assert threads() == []
    pipeline.close()
    assert threads() == []
    opener.check_closed()
    check_account(pipeline)


def test_a_stop_whose_thread_cannot_start_stops_all_the_same(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = Opener()
    pipeline = Pipeline(opener, SCRIPTED)
    pipeline.start()

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    pipeline.stop()
    assert pipeline.state is PipelineState.STOPPED
    pipeline.close()
    assert threads() == []
    opener.check_closed()
    check_account(pipeline)


def test_a_camera_that_was_left_behind_cannot_end_the_next_stream(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `read` returns at last when the pipeline has been started again."""
    hung, go_on = threading.Event(), threading.Event()
    cameras: list[ScriptedCamera] = []

    class Deaf(ScriptedCamera):
        """`close` does not end its `read`."""

        def close(self) -> None:
            pass

    def open_camera() -> ScriptedCamera:
        cameras.append(ScriptedCamera(endless()) if cameras else Deaf([0, hung.set, go_on.wait, 1]))
        return cameras[-1]

    with Pipeline(open_camera, SCRIPTED, StreamOptions(clock=SimulatedClock())) as pipeline:
        assert pipeline.read() is not None
        assert hung.wait(60)
        with monkeypatch.context() as patch:
            patch.setattr("edge_isp.pipeline.stream.LAST_FRAME_S", 0.01)
            patch.setattr("edge_isp.pipeline.stream.LEFT_BEHIND_S", 0.01)
            pipeline.stop()
        pipeline.start()
        assert pipeline.read() is not None
        old = [thread for thread in threading.enumerate() if thread.name == "edge_isp capture"]
        assert len(old) == 2
        go_on.set()
        old[0].join(60)
        assert not old[0].is_alive()
        for _ in range(5):
            assert pipeline.read(timeout_s=60) is not None
        assert pipeline.state is PipelineState.RUNNING
    assert threads() == []
    check_account(pipeline)


def test_a_callback_that_was_left_behind_cannot_end_the_next_stream(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises when the pipeline has been started again."""
    hung, go_on = threading.Event(), threading.Event()

    def call_back(done: object) -> None:
        if not hung.is_set():
            hung.set()
            go_on.wait()
            raise RuntimeError("too late")

    pipeline = Pipeline(lambda: ScriptedCamera(endless()), SCRIPTED, StreamOptions(clock=SimulatedClock()))
    with pipeline:
        pipeline.add_consumer(of=pipeline.consumers[0], callback=call_back)
        pipeline.start()
        assert hung.wait(60)
        with monkeypatch.context() as patch:
            patch.setattr("edge_isp.pipeline.stream.LEFT_BEHIND_S", 0.01)
            pipeline.stop()
        pipeline.start()
        old = next(thread for thread in threading.enumerate() if thread.name.endswith("callback"))
        go_on.set()
        old.join(60)
        assert not old.is_alive()
        for _ in range(5):
            assert pipeline.read(timeout_s=60) is not None
        assert pipeline.state is PipelineState.RUNNING
    assert threads() == []
