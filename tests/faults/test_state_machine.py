"""Start, stop, close, read and events in any order and from any thread: a model of what the state may be."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edge_isp import plugins
from edge_isp.errors import CameraError, PipelineError
from edge_isp.pipeline import Event, Pipeline, PipelineState, QueuePolicy, StreamOptions
from tests.support.scripted import ScriptedCamera, ScriptedEngine, SimulatedClock
from tests.support.streams import SCRIPTED, check_account

EXAMPLES = int(os.environ.get("EDGE_ISP_STATE_EXAMPLES", "25"))
RETURNS_WITHIN_S = 60

STOPPED = {PipelineState.IDLE, PipelineState.STOPPED, PipelineState.ENDED, PipelineState.FAILED}
STARTED = {PipelineState.STARTING, PipelineState.RUNNING, PipelineState.RECOVERING, PipelineState.ENDED}


class CurrentEngine(ScriptedEngine):
    """The engine "stateful"."""


def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("edge_isp"))


class StartsAndStops(RuleBasedStateMachine):
    """A pipeline on a camera that never ends, whose opening may fail; calls from many threads at once.

    Attributes:
        running: whether the last call that was alone has left the stream running; None where several calls were made at
            once, so that either may be.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cameras: list[ScriptedCamera] = []
        self.running: bool | None = False
        self.closed = False
        self.openings_that_fail = 0
        self.camera_failed = False
        self.acting = threading.Lock()
        self.at_event: Callable[[], object] | None = None
        self.unexpected: list[BaseException] = []

    @initialize(policy=st.sampled_from([QueuePolicy.LATEST, QueuePolicy.BLOCK, QueuePolicy.buffered(2)]))
    def open(self, policy: QueuePolicy) -> None:
        options = StreamOptions(policy=policy, clock=SimulatedClock(), on_event=self.on_event)
        self.pipeline = Pipeline(self.open_camera, SCRIPTED_STATEFUL, options)
        self.pipeline.add_consumer(of=self.pipeline.consumers[0], name="callback", callback=self.call_back)

    def open_camera(self) -> ScriptedCamera:
        if self.openings_that_fail:
            self.openings_that_fail -= 1
            raise CameraError("not there")
        pause = threading.Event()
        script: Any = (each for n in itertools.count() for each in (n, lambda: pause.wait(0.0005)))
        self.cameras.append(ScriptedCamera(script))
        return self.cameras[-1]

    def on_event(self, event: Event) -> None:
        self.once()

    def call_back(self, done: object) -> None:
        self.once()

    def once(self) -> None:
        """Does once what was planned for the next event or result."""
        if self.at_event is not None and self.acting.acquire(blocking=False):
            try:
                action, self.at_event = self.at_event, None
                if action is not None:
                    action()
            finally:
                self.acting.release()

    def settle(self) -> None:
        """Drops what is planned, and waits for what was asked for inside events."""
        self.at_event = None
        with self.acting:
            pass
        self.pipeline._transitions.settle()

    def call(self, action: Callable[[], object]) -> None:
        """A call of the pipeline's, whose own errors are expected."""
        try:
            action()
        except (CameraError, PipelineError) as error:
            if "not there" not in str(error) and "closed" not in str(error):
                self.unexpected.append(error)
        except BaseException as error:  # noqa: BLE001 - reported by the invariant
            self.unexpected.append(error)

    def at_once(self, *actions: Callable[[], object]) -> None:
        barrier = threading.Barrier(len(actions))

        def body(action: Callable[[], object]) -> None:
            barrier.wait()
            self.call(action)

        running = [threading.Thread(target=body, args=(action,), daemon=True) for action in actions]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(RETURNS_WITHIN_S)
            assert not thread.is_alive(), "a call did not return"

    def actions(self) -> dict[str, Callable[[], object]]:
        return {"start": self.pipeline.start, "stop": self.pipeline.stop, "read": self.read}

    def read(self) -> None:
        with suppress(TimeoutError):
            self.pipeline.read(timeout_s=0.01)

    @precondition(lambda self: not self.closed)
    @rule()
    def start(self) -> None:
        self.settle()
        self.at_once(self.pipeline.start)
        self.running = True

    @precondition(lambda self: not self.closed)
    @rule()
    def stop(self) -> None:
        self.settle()
        self.at_once(self.pipeline.stop)
        self.running, self.camera_failed = False, False

    @precondition(lambda self: not self.closed and self.running and not self.camera_failed)
    @rule()
    def read_one(self) -> None:
        assert self.pipeline.read(timeout_s=RETURNS_WITHIN_S) is not None

    @precondition(lambda self: not self.closed)
    @rule(names=st.lists(st.sampled_from(["start", "stop", "read"]), min_size=2, max_size=6))
    def calls_at_once(self, names: list[str]) -> None:
        self.at_once(*(self.actions()[name] for name in names))
        self.running = None

    @precondition(lambda self: not self.closed)
    @rule(names=st.lists(st.sampled_from(["start", "stop"]), min_size=1, max_size=3))
    def calls_inside_an_event(self, names: list[str]) -> None:
        def act() -> None:
            for name in names:
                self.call(self.actions()[name])

        self.at_event = act
        self.running = None

    @precondition(lambda self: not self.closed)
    @rule()
    def an_opening_fails(self) -> None:
        self.settle()
        self.at_once(self.pipeline.stop)
        self.openings_that_fail = 1
        self.at_once(self.pipeline.start)
        self.openings_that_fail = 0
        self.running = None

    @precondition(lambda self: not self.closed)
    @rule()
    def the_camera_ends(self) -> None:
        """It is closed under its reader, as by another program."""
        for camera in self.cameras[-1:]:
            camera.closed.set()
        self.running, self.camera_failed = None, True

    @precondition(lambda self: not self.closed)
    @rule(names=st.lists(st.sampled_from(["start", "stop", "read"]), max_size=4), inside=st.booleans())
    def close(self, names: list[str], inside: bool) -> None:
        if inside:
            self.at_event = lambda: self.call(self.pipeline.close)
        self.at_once(self.pipeline.close, *(self.actions()[name] for name in names))
        self.closed, self.running = True, None

    @precondition(lambda self: self.closed)
    @rule(name=st.sampled_from(["start", "stop", "read"]))
    def after_close(self, name: str) -> None:
        self.at_once(self.actions()[name])

    @invariant()
    def nothing_unexpected(self) -> None:
        assert not self.unexpected

    @invariant()
    def the_state_is_that_of_the_last_call(self) -> None:
        if self.running is None:
            return
        state = self.pipeline.state
        assert state in (STARTED if self.running else STOPPED), (state, self.running)

    def teardown(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        self.at_event = None
        self.at_once(self.pipeline.close)
        assert threads() == []
        assert all(camera.closed.is_set() for camera in self.cameras)
        assert not [camera.lent for camera in self.cameras if camera.lent]
        check_account(self.pipeline)
        assert not self.unexpected


SCRIPTED_STATEFUL = type(SCRIPTED)(engine="stateful")
SETTINGS = settings(
    max_examples=EXAMPLES, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_is_called_in_whatever_order(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = plugins.Spec("tests.faults.test_state_machine:CurrentEngine")
    monkeypatch.setitem(plugins.BUILT_IN["engines"], "stateful", spec)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        run_state_machine_as_test(StartsAndStops, settings=SETTINGS)
    finally:
        sys.setswitchinterval(interval)
