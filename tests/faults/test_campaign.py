"""A fault campaign: 2,000 scripted faults of cameras, metadata, engines, consumers, sinks, signals, start and stop.

Every episode runs a pipeline through a random script and then asks where each frame of the sensor is. Time is
simulated: waits before a camera is opened again cost nothing. Threads switch as often as Python lets them, so that a
seed fixes the faults but not how the threads meet; that is what the many episodes are for.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import math
import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

from edge_isp.errors import CameraError, EngineError, FormatError
from edge_isp.frame import FrameStatus
from edge_isp.pipeline import (
    Consumer,
    DropReason,
    Event,
    FrameResult,
    FramesDropped,
    ModelOptions,
    Pipeline,
    PipelineState,
    QueuePolicy,
    ReconnectPolicy,
    StreamOptions,
)
from tests.support.scripted import (
    Action,
    ScriptedCamera,
    ScriptedEngine,
    ScriptedFrame,
    SimulatedClock,
    engine,
    resources,
)

__all__ = ["engine"]

EPISODES = int(os.environ.get("EDGE_ISP_FAULT_EPISODES", "250"))
FAULTS_PER_EPISODE = 8
DEADLOCK_S = 240

# Of these a stream recovers: the camera is opened again, ...
CAMERA_FAILURES: dict[str, Callable[[], BaseException]] = {
    "stall": lambda: CameraError("stall"),
    "disconnect": lambda: CameraError("disconnect"),
    "reopen fails": lambda: CameraError("reopen fails"),
    "close fails": lambda: CameraError("close fails"),
    "truncated": lambda: FormatError("truncated"),
    "driver error": lambda: OSError("driver error"),
    "runtime error": lambda: RuntimeError("camera frontend has timed out"),
    "index error": lambda: IndexError("list index out of range"),
    "out of memory": MemoryError,
}
# ... or a frame is lost, damaged or less well described, ...
FRAME_FAULTS: dict[str, dict[str, Any]] = {
    "corrupted": {"status": FrameStatus.CORRUPTED},
    "levels": {"black_level": (2000.0,) * 4},
    "shape": {"data": np.zeros((3, 3), np.uint8)},
    "gains": {"colour_gains": (0.0, math.nan)},
    "temperature": {"colour_temperature_k": math.nan},
    "gain and exposure": {"analogue_gain": math.inf, "exposure_ns": -1},
    "time": {"timestamp_ns": 0},
}
OTHER_CAMERA_FAULTS = ("gap", "flagged gap", "number jumps", "release fails", "no frame")
CAMERA_FAULTS = (*CAMERA_FAILURES, *FRAME_FAULTS, *OTHER_CAMERA_FAULTS)
# ... or the engine fails on a frame.
ENGINE_FAULTS = ("engine error", "engine out of descriptors", "load fails", "resize fails", "warm-up fails")
# These stop the stream, from wherever they are.
STOPS = ("event stops", "callback stops", "threads")
# These end it.
FATAL_FAULTS = (
    *STOPS,
    "engine crash",
    "callback fails",
    "event handler fails",
    "reader fails",
    "sink fails",
    "signal",
    "cancelled",
)


class ScriptedFailure(Exception):
    """What goes wrong on purpose, where it is not an error of the pipeline's own kinds."""


@pytest.fixture(autouse=True)
def _many_switches() -> Iterator[None]:
    """Threads switch often, and a deadlock shows where."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    faulthandler.dump_traceback_later(DEADLOCK_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    sys.setswitchinterval(interval)


@dataclass
class Episode:
    """A script, and what happened.

    Attributes:
        sensor: numbers of all frames that the sensor made while it was read.
        faults: how many there were of each kind.
    """

    seed: int
    rng: random.Random
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    cameras: list[EpisodeCamera] = field(default_factory=list)
    sensor: list[int] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None
    fatal: str | None = None
    fatal_at: int = -1
    _next: int = 0
    _frames_left: int = 0
    _reopen_failures: int = 0

    def plan(self) -> None:
        """Chooses how long the stream is, and what ends it, if anything."""
        self.rng_of_engine = random.Random(f"{self.seed} engine")
        self._frames_left = self.rng.randint(5, 60)
        which = self.seed % (2 * len(FATAL_FAULTS))  # every other episode goes on to its end
        if which < len(FATAL_FAULTS):
            self.fatal = FATAL_FAULTS[which]
            self.fatal_at = self.rng.randint(0, 2)

    def open_camera(self) -> ScriptedCamera:
        if self.cameras and self._reopen_failures:
            self._reopen_failures -= 1
            raise CameraError("not there yet")
        self.cameras.append(EpisodeCamera(self._script(), self.clock))
        return self.cameras[-1]

    def _script(self) -> Iterator[Action]:
        """One opening of the camera: frames and faults, until it fails or the stream is over."""
        first = True
        while self._frames_left > 0:
            fault = self.rng.choice(CAMERA_FAULTS) if self.rng.random() < 0.25 else None
            if fault is not None:
                self.faults[fault] += 1
            if fault in CAMERA_FAILURES:
                if fault == "stall":
                    self.clock.advance(5 * 10**9)
                if fault == "reopen fails":
                    self._reopen_failures = self.rng.randint(1, 3)
                if fault == "close fails":
                    self.cameras[-1].close_error = RuntimeError(fault)
                yield CAMERA_FAILURES[fault]()
                return
            if fault == "no frame":
                yield NO_FRAME
                return
            status = FrameStatus.OK
            if fault in ("gap", "flagged gap") and not first:
                lost = self.rng.randint(1, 4) if fault == "gap" else 1
                self.sensor += range(self._next, self._next + lost)
                self._next += lost
                status = FrameStatus.GAP
            elif fault == "number jumps" and not first:
                self._next += 10_000_000
            changes = dict(FRAME_FAULTS.get(fault or "", {}))
            release_error = RuntimeError(fault) if fault == "release fails" else None
            first = False
            self._frames_left -= 1
            number, self._next = self._next, self._next + 1
            self.sensor.append(number)
            yield ScriptedFrame(number, changes.pop("status", status), changes, release_error)

    @property
    def was_stopped(self) -> bool:
        """Whether the stream did not come to its own end."""
        return any(self.faults[fault] for fault in (*STOPS, "cancelled"))

    def engine_may_fail(self, where: str) -> None:
        """Loading, resizing and warming up."""
        if self.rng_of_engine.random() < 0.1:
            self.faults[f"{where} fails"] += 1
            raise self.rng_of_engine.choice([EngineError("scripted"), OSError(24, "Too many open files")])

    def on_run(self, number: int) -> None:
        """The engine's part."""
        if self.fatal == "engine crash" and number == self.fatal_at:
            self.faults["engine crash"] += 1
            raise ScriptedFailure("engine crash")
        if self.fatal == "signal" and number == self.fatal_at:
            self.faults["signal"] += 1
            os.kill(os.getpid(), signal.SIGINT)
        draw = random.Random(f"{self.seed} {number}").random()
        if draw < 0.1:
            self.faults["engine error"] += 1
            raise EngineError("scripted")
        if draw < 0.15:
            self.faults["engine out of descriptors"] += 1
            raise OSError(24, "Too many open files")

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if self.fatal == "event stops" and isinstance(event, FramesDropped):
            self.fatal = "stopped by an event"
            self.faults["event stops"] += 1
            self.stop()
        if self.fatal == "event handler fails" and isinstance(event, FramesDropped) and event.sequence >= self.fatal_at:
            self.fatal = None
            self.faults["event handler fails"] += 1
            raise ScriptedFailure("event handler fails")


NO_FRAME: Any = ScriptedFrame(-1)


class EpisodeCamera(ScriptedCamera):
    """May return what is no frame."""

    def _changed(self, scripted: ScriptedFrame) -> Any:
        return "no frame" if scripted is NO_FRAME else super()._changed(scripted)


def start_and_stop(pipeline: Pipeline, rng: random.Random) -> list[threading.Thread]:
    """Threads that start and stop a pipeline a few times."""

    def many(methods: list[str]) -> None:
        for method in methods:
            with suppress(CameraError):  # not there yet
                getattr(pipeline, method)()

    plans = [[rng.choice(("start", "stop")) for _ in range(4)] for _ in range(3)]
    threads = [threading.Thread(target=many, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    return threads


def read_patiently(pipeline: Pipeline) -> FrameResult | None:
    """The next result, through many time-outs."""
    while True:
        with suppress(TimeoutError):
            return pipeline.read(timeout_s=0.0005)


def consume(episode: Episode, pipeline: Pipeline, consumer: Consumer, results: list[int]) -> None:
    """Takes results in one of the ways there are, perhaps until something fails."""
    way = episode.rng.choice(("for", "read", "async for"))
    if episode.fatal == "cancelled":
        way = "async for"

    def take(done: FrameResult) -> None:
        results.append(done.sequence)
        if episode.fatal == "reader fails" and len(results) > episode.fatal_at:
            episode.faults["reader fails"] += 1
            raise ScriptedFailure("reader fails")

    async def take_all() -> None:
        async for done in consumer:
            take(done)
            if episode.fatal == "cancelled" and len(results) > episode.fatal_at:
                episode.faults["cancelled"] += 1
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)

    if way == "for":
        for done in consumer:
            take(done)
    elif way == "async for":
        with suppress(asyncio.CancelledError):
            asyncio.run(take_all())
    else:
        while (result := read_patiently(pipeline)) is not None:
            take(result)


class ScriptedSink:
    """Notes what it gets, and may fail."""

    needs_raw = True

    def __init__(self, episode: Episode, results: list[int]) -> None:
        self._episode, self._results = episode, results
        self.closed = 0

    def write(self, result: FrameResult) -> None:
        assert not self.closed
        assert result.raw is not None
        self._results.append(result.sequence)
        if self._episode.fatal == "sink fails" and len(self._results) > self._episode.fatal_at:
            self._episode.faults["sink fails"] += 1
            raise ScriptedFailure("sink fails")

    def close(self) -> None:
        self.closed += 1


def run_episode(seed: int, engine: type[ScriptedEngine]) -> Counter[str]:
    episode = Episode(seed, random.Random(seed))
    episode.plan()
    engine.on_run = episode.on_run
    for where, name in (("load", "on_load"), ("resize", "on_resize"), ("warm-up", "on_warm_up")):
        setattr(engine, name, staticmethod(partial(episode.engine_may_fail, where)))
    engine.runs = engine.opened = engine.closed = 0
    rng = episode.rng
    results: dict[str, list[int]] = {}

    def call_back(done: FrameResult) -> None:
        results["callback"].append(done.sequence)
        if episode.fatal == "callback fails" and len(results["callback"]) > episode.fatal_at:
            episode.faults["callback fails"] += 1
            raise ScriptedFailure("callback fails")
        if episode.fatal == "callback stops" and len(results["callback"]) > episode.fatal_at:
            episode.fatal = "stopped by a callback"
            episode.faults["callback stops"] += 1
            pipeline.stop()

    pipeline = Pipeline(
        episode.open_camera,
        ModelOptions(engine="scripted"),
        StreamOptions(
            policy=rng.choice((QueuePolicy.LATEST, QueuePolicy.BLOCK, QueuePolicy.buffered(2), None)),
            max_age_s=rng.choice((None, 3.0)),
            clock=episode.clock,
            reconnect=ReconnectPolicy(engine_errors=rng.choice((None, 5))),
            on_event=episode.on_event,
        ),
    )
    episode.stop = pipeline.stop
    first = pipeline.consumers[0]
    results[first.name] = []
    if episode.fatal in ("callback fails", "callback stops") or rng.random() < 0.5:
        results["callback"] = []
        pipeline.add_consumer(
            of=first,
            name="callback",
            every=rng.choice((1, 2)),
            policy=rng.choice((QueuePolicy.LATEST, QueuePolicy.BLOCK)),
            callback=call_back,
        )
    sink = None
    if episode.fatal == "sink fails" or rng.random() < 0.3:
        results["sink"] = []
        sink = ScriptedSink(episode, results["sink"])
        pipeline.add_sink(sink, name="sink")
    failure: BaseException | None = None
    stop_early = rng.random() < 0.2
    try:
        if stop_early:
            pipeline.start()
            done = pipeline.read()
            results[first.name] += [done.sequence] if done else []
            pipeline.stop()
            episode.faults["stopped"] += 1
            pipeline.start()
        callers = start_and_stop(pipeline, rng) if episode.fatal == "threads" else []
        episode.faults["threads"] += len(callers)
        consume(episode, pipeline, first, results[first.name])
        for caller in callers:
            caller.join()
        if len(results) > 1 and not episode.was_stopped:
            pipeline.run()  # waits for its end
    except (ScriptedFailure, CameraError, EngineError, KeyboardInterrupt) as error:
        failure = error
    finally:
        pipeline.close()
    check(episode, pipeline, engine, results, failure)
    assert sink is None or sink.closed == 1
    return episode.faults


def check(
    episode: Episode,
    pipeline: Pipeline,
    engine: type[ScriptedEngine],
    results: dict[str, list[int]],
    failure: BaseException | None,
) -> None:
    captured = [number for camera in episode.cameras for number in camera.delivered]
    assert not [camera.lent for camera in episode.cameras if camera.lent], "every buffer is back"
    assert all(camera.closed.is_set() for camera in episode.cameras)
    assert engine.opened == engine.closed
    # Of frames that are lost at the end of a stream nobody can know.
    sensor = [number for number in episode.sensor if captured and number <= max(captured)]
    for consumer in pipeline.consumers:
        counts = consumer.counts
        lost = [
            (number, event.cause)
            for event in episode.events
            if isinstance(event, FramesDropped) and event.consumer == consumer.name
            for number in range(event.sequence, event.sequence + event.frames)
        ]
        assert counts.in_flight == 0
        assert counts.frames == counts.delivered + counts.skipped + sum(counts.dropped.values())
        assert counts.frames == len(sensor)
        assert Counter(cause for _, cause in lost) == counts.dropped
        taken = results[consumer.name]
        handed_over = len(taken) + isinstance(failure, KeyboardInterrupt)  # a signal may come between hand and eye
        assert len(taken) <= counts.delivered <= handed_over
        assert taken == sorted(set(taken)), "in order, each once"
        accounted = Counter(taken) + Counter(number for number, _ in lost)
        assert not accounted - Counter(sensor), "no frame twice, none that never was"
        missing = Counter(sensor) - accounted
        assert missing.total() == counts.skipped + counts.delivered - len(taken)
    if isinstance(failure, KeyboardInterrupt):
        return
    causes = {event.cause for event in episode.events if isinstance(event, FramesDropped)}
    assert (pipeline.error is not None) == (pipeline.state is PipelineState.FAILED)
    if failure is None and not episode.faults["stopped"] and not episode.was_stopped:
        assert pipeline.error is None
        assert DropReason.STOPPED not in causes, "who takes everything loses nothing to the end"


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_every_frame_is_accounted_for(engine: type[ScriptedEngine]) -> None:
    run_episode(-1, engine)  # what is made once, is made
    gc.collect()
    before = resources()
    faults: Counter[str] = Counter()
    for seed in range(EPISODES):
        try:
            faults += run_episode(seed, engine)
        except BaseException:
            print(f"episode {seed}", file=sys.stderr)
            raise
    gc.collect()
    assert resources() == before
    assert threading.active_count() >= 1
    print(f"{faults.total()} faults in {EPISODES} episodes: {dict(faults)}")
    assert set(faults) >= {*CAMERA_FAULTS, *ENGINE_FAULTS, *FATAL_FAULTS, "stopped"}
    assert faults.total() >= FAULTS_PER_EPISODE * EPISODES
