"""What a control loop asks of a pipeline: the newest result, its age, deadlines, fewer frames, subscriptions."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edge_isp import SyntheticCamera, WallClock
from edge_isp.errors import CameraError, PipelineError
from edge_isp.pipeline import (
    DeadlineMissed,
    DropReason,
    FrameResult,
    FramesDropped,
    Pipeline,
    QueuePolicy,
    StreamOptions,
    WallClockStepped,
)
from edge_isp.pipeline.deadline import Deadline
from edge_isp.rate_limit import RateLimiter
from tests.support.scripted import (
    PERIOD_NS,
    Action,
    ScriptedCamera,
    ScriptedEngine,
    ScriptedFrame,
    SimulatedClock,
    engine,
)
from tests.support.streams import SCRIPTED, Events, check_account

__all__ = ["engine"]

HOUR_NS = 3600 * 10**9


def pipeline_of(camera: Any, **options: Any) -> Pipeline:
    return Pipeline(camera, SCRIPTED, StreamOptions(**options))


# Ages


def test_the_age_is_that_of_now(engine: type[ScriptedEngine]) -> None:
    clock = SimulatedClock()
    with pipeline_of(ScriptedCamera(range(1), clock, live=False), clock=clock) as pipeline:
        done = pipeline.read(60)
        assert done is not None
        for _ in range(3):
            clock.advance(445_000_000)
            assert done.age_ns == clock.now_ns() - done.timestamp_ns
        assert done.latency_ns == done.delivered_ns - done.timestamp_ns < 445_000_000
        assert done.age_ns >= 3 * 445_000_000


def test_ages_of_a_synthetic_camera_are_true_at_every_reading(engine: type[ScriptedEngine], photo: Path) -> None:
    with pipeline_of(SyntheticCamera(str(photo), width=64, height=64, fps=100, frames=20)) as pipeline:
        for done in pipeline:
            for _ in range(3):
                before = time.monotonic_ns() - done.timestamp_ns
                age_ns = done.age_ns
                assert before <= age_ns <= time.monotonic_ns() - done.timestamp_ns
                time.sleep(0)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (96, 96), (90, 120, 60)).save(path)
    return path


@pytest.mark.parametrize("step_ns", [HOUR_NS, -HOUR_NS])
def test_a_step_of_the_wall_clock_changes_no_age_and_is_reported(engine: type[ScriptedEngine], step_ns: int) -> None:
    clock, events = SimulatedClock(), Events()
    epoch_ns = [1_700_000_000_000_000_000]
    wall = WallClock(lambda: clock.now_ns() + epoch_ns[0], clock.now_ns)

    first = threading.Event()

    def step() -> None:
        assert first.wait(60)
        epoch_ns[0] += step_ns

    script: list[Action] = [0, 1, step, 2, 3]
    with pipeline_of(ScriptedCamera(script, clock, live=False), clock=clock, wall_clock=wall, on_event=events) as line:
        results = []
        for done in line:
            results.append(done)
            if done.sequence == 1:
                first.set()
    for done in results:
        assert done.latency_ns <= 5 * PERIOD_NS
        assert done.age_ns == clock.now_ns() - done.timestamp_ns
    assert results[0].timestamp_realtime_ns == results[0].timestamp_ns + epoch_ns[0] - step_ns
    assert results[-1].timestamp_realtime_ns == results[-1].timestamp_ns + epoch_ns[0]
    assert [event.step_ns for event in events.all if isinstance(event, WallClockStepped)] == [step_ns]


def test_stamps_of_the_day_are_those_of_the_exposure(engine: type[ScriptedEngine], photo: Path) -> None:
    with pipeline_of(SyntheticCamera(str(photo), width=64, height=64, fps=100, frames=3)) as pipeline:
        for done in pipeline:
            expected = time.time_ns() - (time.monotonic_ns() - done.timestamp_ns)
            assert abs(done.timestamp_realtime_ns - expected) < 100_000


# The newest result


def test_newest_never_waits_and_never_repeats(engine: type[ScriptedEngine]) -> None:
    going, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        going.set()
        assert go_on.wait(60)

    script: list[Action] = [0, 1, 2, 3, pause, 4]
    with pipeline_of(ScriptedCamera(script), policy=QueuePolicy.buffered(9)) as pipeline:
        pipeline.start()
        assert going.wait(60)
        while pipeline.counts.in_flight and pipeline.consumers[0].offered < 4:
            time.sleep(0.001)
        done = pipeline.newest()
        assert done is not None
        assert done.sequence == 3
        assert pipeline.newest() is None
        assert pipeline.counts.dropped == {DropReason.SINK_SLOW: 3}
        go_on.set()
        pipeline.run()
        last = pipeline.newest()
        assert last is not None
        assert last.sequence == 4
        assert pipeline.newest() is None
        assert pipeline.newest(pipeline.consumers[0]) is None
    check_account(pipeline)


def test_newest_does_not_wait_for_a_camera_that_opens(engine: type[ScriptedEngine]) -> None:
    opening, opened, calls = threading.Event(), threading.Event(), []

    def open_camera() -> ScriptedCamera:
        calls.append(1)
        opening.set()
        assert opened.wait(60)
        return ScriptedCamera(range(1), live=False)

    with pipeline_of(open_camera) as pipeline:
        assert pipeline.newest() is None
        assert opening.wait(60)
        threads = threading.active_count()
        for _ in range(100):
            assert pipeline.newest() is None
        assert threading.active_count() <= threads
        opened.set()
        while (done := pipeline.newest()) is None:
            time.sleep(0.001)
        assert done.sequence == 0
    assert len(calls) == 1


def test_newest_says_why_there_is_nothing(engine: type[ScriptedEngine]) -> None:
    def broken() -> ScriptedCamera:
        raise CameraError("unplugged")

    with pipeline_of(broken) as pipeline, pytest.raises(CameraError, match="unplugged"):
        while pipeline.newest() is None:
            time.sleep(0.001)
    with pytest.raises(PipelineError, match="closed"):
        pipeline.newest()
    with pipeline_of(ScriptedCamera([0, CameraError("gone")], live=False)) as pipeline:
        seen = []
        with pytest.raises(CameraError, match="gone"):
            while True:
                done = pipeline.newest()
                if done is not None:
                    seen.append(done.sequence)
        assert seen == [0]
    with pipeline_of(ScriptedCamera([])) as other, pytest.raises(PipelineError, match="another pipeline"):
        other.newest(pipeline.consumers[0])


# asyncio


def test_the_loop_goes_on_while_a_camera_opens_and_closes(engine: type[ScriptedEngine]) -> None:
    """Opening waits for the loop's own next step: it would never come if the loop waited for the camera."""

    async def main() -> list[int]:
        loop, stepped = asyncio.get_running_loop(), threading.Event()

        class SlowToClose(ScriptedCamera):
            def close(self) -> None:
                closed = threading.Event()
                loop.call_soon_threadsafe(closed.set)
                assert closed.wait(60)
                super().close()

        def open_camera() -> ScriptedCamera:
            loop.call_soon_threadsafe(stepped.set)
            assert stepped.wait(60)
            return SlowToClose(range(3), live=False)

        async with pipeline_of(open_camera) as pipeline:
            return [done.sequence async for done in pipeline]

    assert asyncio.run(asyncio.wait_for(main(), 50)) == [0, 1, 2]


def test_an_error_in_the_block_closes_the_pipeline(engine: type[ScriptedEngine]) -> None:
    async def main(pipeline: Pipeline) -> None:
        async with pipeline:
            raise ValueError("of the user")

    camera = ScriptedCamera(range(3))
    with pytest.raises(ValueError, match="of the user"):
        asyncio.run(main(pipeline_of(camera)))
    assert camera.closed.is_set()


# Subscriptions


def test_subscriptions_get_what_comes_after_them(engine: type[ScriptedEngine]) -> None:
    half, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        half.set()
        assert go_on.wait(60)

    script: list[Action] = [0, 1, pause, 2, 3, 4]
    with pipeline_of(ScriptedCamera(script, live=False)) as pipeline:
        early = pipeline.subscribe()
        pipeline.start()
        got = [done.sequence for done in (early.read(60), early.read(60)) if done is not None]
        assert half.wait(60)
        with pipeline.subscribe(every=2, policy=QueuePolicy.buffered(9)) as late:
            go_on.set()
            got += [done.sequence for done in early]
            assert [done.sequence for done in late] == [2, 4]
            counts = late.counts
            assert (counts.frames, counts.delivered, counts.skipped, counts.in_flight) == (3, 2, 1, 0)
        assert got == [0, 1, 2, 3, 4]
        # Nobody has asked for the first consumer's own results, and so they hold nothing up.
        assert pipeline.counts.skipped == 5
        assert list(pipeline.subscribe()) == []  # the stream has ended
    check_account(pipeline)


def test_a_subscription_that_is_closed_holds_nothing_up(engine: type[ScriptedEngine]) -> None:
    with pipeline_of(ScriptedCamera(range(50), live=False)) as pipeline:
        left, stays = pipeline.subscribe(), pipeline.subscribe()
        first = left.read(60)
        assert first is not None
        left.close()
        left.close()
        assert [done.sequence for done in stays] == list(range(50))
        assert list(left) == []
        assert left.counts.in_flight == 0


def test_subscribers_get_the_error(engine: type[ScriptedEngine]) -> None:
    with pipeline_of(ScriptedCamera([0, CameraError("gone")], live=False)) as pipeline:
        subscription = pipeline.subscribe()
        seen = []
        with pytest.raises(CameraError, match="gone"):
            for done in subscription:
                seen.append(done.sequence)
        assert seen == [0]
        with pytest.raises(CameraError, match="gone"):
            pipeline.subscribe().read(60)


def test_a_subscription_in_asyncio_and_across_streams(engine: type[ScriptedEngine]) -> None:
    cameras = iter([ScriptedCamera(range(3), live=False), ScriptedCamera(range(7, 9), live=False)])

    async def main() -> list[list[int]]:
        got = []
        async with pipeline_of(lambda: next(cameras)) as pipeline:
            with pipeline.subscribe() as one:
                got.append([done.sequence async for done in one])
            pipeline.stop()
            with pipeline.subscribe() as two:
                pipeline.start()
                got.append([done.sequence async for done in two])
        with pytest.raises(PipelineError, match="closed"):
            pipeline.subscribe()
        return got

    assert asyncio.run(main()) == [[0, 1, 2], [7, 8]]


def test_a_slow_subscriber_of_a_camera_slows_nobody(engine: type[ScriptedEngine]) -> None:
    with pipeline_of(ScriptedCamera(range(40)), policy=QueuePolicy.BLOCK) as pipeline:
        slow = pipeline.subscribe()
        got: list[FrameResult] = list(pipeline)  # would wait for `slow`, which takes nothing
        assert len(got) == 40
        assert slow.counts.dropped == {DropReason.SINK_SLOW: 39}


def test_a_raw_frame_for_a_subscriber(engine: type[ScriptedEngine]) -> None:
    pipeline = pipeline_of(ScriptedCamera(range(3), live=False))
    with pipeline, pipeline.subscribe(keep_raw=True) as subscription:
        assert [done.raw is None for done in subscription] == [False] * 3


# Deadlines


def test_a_camera_that_stops_delivering_misses_the_deadline(engine: type[ScriptedEngine]) -> None:
    delivered, missed = threading.Event(), threading.Event()
    events: list[DeadlineMissed] = []
    got: list[int] = []
    clock = SimulatedClock()

    def on_event(event: object) -> None:
        if isinstance(event, DeadlineMissed):
            events.append(event)
            missed.set()

    def take(done: FrameResult) -> None:
        got.append(done.sequence)
        if done.sequence == 2:
            delivered.set()

    def hang() -> None:
        assert delivered.wait(60)
        clock.advance(300_000_000)
        assert missed.wait(60)  # noticed while nothing moves
        clock.advance(10_000_000_000)

    script: list[Action] = [0, 1, 2, hang, 3]
    options = {"clock": clock, "max_age_s": 0.2, "on_event": on_event, "callback": take}
    with pipeline_of(ScriptedCamera(script, clock, live=False), **options) as pipeline:
        pipeline.run()
    assert got == [0, 1, 2, 3]
    (event,) = events
    assert (event.consumer, event.max_age_s) == ("rfdcsanet-s", 0.2)
    assert event.age_ns == 300_000_000


def test_a_result_that_is_too_old_misses_the_deadline(engine: type[ScriptedEngine]) -> None:
    clock, events = SimulatedClock(), Events()
    engine.on_run = lambda number: clock.advance(400_000_000) if number == 1 else None
    gate = threading.Semaphore(1)
    script: list[Action] = [action for number in range(4) for action in (gate.acquire, number)]

    def on_event(event: object) -> None:
        events(event)  # type: ignore[arg-type]
        if isinstance(event, FramesDropped):
            gate.release()

    options = {"clock": clock, "max_age_s": 0.3, "on_event": on_event, "callback": lambda done: gate.release()}
    with pipeline_of(ScriptedCamera(script, clock, live=False), **options) as pipeline:
        pipeline.run()
    assert pipeline.counts.dropped == {DropReason.STALE: 1}
    (missed,) = [event for event in events.all if isinstance(event, DeadlineMissed)]
    assert missed.age_ns == 400_000_000 + PERIOD_NS  # of the result before


def test_a_limit_of_the_model_is_one_of_all_its_consumers(engine: type[ScriptedEngine]) -> None:
    """One frame in two seconds is what was asked for."""
    clock, events, taken = SimulatedClock(), Events(), threading.Semaphore(0)
    got: list[int] = []

    def take(done: FrameResult) -> None:
        got.append(done.sequence)
        taken.release()

    def wait() -> None:
        for _ in range(2):
            assert taken.acquire(timeout=60)

    script: list[Action] = [0, wait, *range(1, 61), wait, *range(61, 121), wait, *range(121, 130)]
    options: dict[str, Any] = {"clock": clock, "max_fps": 0.5, "on_event": events, "callback": lambda done: None}
    with pipeline_of(ScriptedCamera(script, clock, live=False), **options) as pipeline:
        pipeline.add_consumer(of=pipeline.consumers[0], max_age_s=0.5, callback=take)
        for done in pipeline.subscribe(max_age_s=0.5):
            take(done)
    assert got == [number for number in (0, 60, 120) for _ in range(2)]
    assert not [event for event in events.all if isinstance(event, DeadlineMissed)]


def test_the_deadline_of_a_subscription_counts_frames_and_not_results(engine: type[ScriptedEngine]) -> None:
    """Of every tenth frame, the next result is due after ten frames, a third of a second."""
    clock, missed, last = SimulatedClock(), threading.Event(), threading.Event()

    def hang() -> None:
        assert last.wait(60)
        clock.advance(2_000_000_000)
        assert missed.wait(20)

    def on_event(event: object) -> None:
        if isinstance(event, DeadlineMissed):
            missed.set()

    script: list[Action] = [*range(31), hang]
    options: dict[str, Any] = {"clock": clock, "on_event": on_event, "callback": lambda done: None}
    with pipeline_of(ScriptedCamera(script, clock, live=False), **options) as pipeline:
        tenth = pipeline.add_consumer(SCRIPTED, every=10, callback=lambda done: None)
        subscription = pipeline.subscribe(of=tenth, max_age_s=1.0)
        for done in subscription:
            if done.sequence == 30:
                last.set()
    assert missed.is_set()


def test_a_subscription_whose_frames_are_all_too_old_misses_its_deadline(engine: type[ScriptedEngine]) -> None:
    clock, events = SimulatedClock(), Events()
    script: list[Action] = [ScriptedFrame(i, changes={"timestamp_ns": (i + 1) * PERIOD_NS}) for i in range(5)]
    options: dict[str, Any] = {"clock": clock, "on_event": events, "max_age_s": 0.1, "callback": lambda done: None}
    with pipeline_of(ScriptedCamera(script, clock, live=False), **options) as pipeline:
        assert list(pipeline.subscribe(name="late", max_age_s=0.1)) == []
        pipeline.run()
    assert pipeline.counts.dropped == {DropReason.STALE: 5}
    assert [event.consumer for event in events.all if isinstance(event, DeadlineMissed)] == ["rfdcsanet-s", "late"]


def deadline(clock: SimulatedClock, events: Events, **options: Any) -> Deadline:
    return Deadline("c", 0.1, **{"every": 1, "period_ns": 0, "report": events, "now_ns": clock.now_ns, **options})


@pytest.mark.parametrize(("options", "taken"), [({}, 1), ({"every": 10}, 10), ({"period_ns": 330_000_000}, 10)])
def test_results_that_nobody_asked_for_miss_no_deadline(options: dict[str, Any], taken: int) -> None:
    clock, events = SimulatedClock(), Events()
    limit = deadline(clock, events, **options)
    for number in range(60):
        clock.advance(PERIOD_NS)
        limit.frame(clock.now_ns())
        if number % taken == 0:
            limit.met(clock.now_ns())
        limit.check()
    assert not events.all
    clock.advance(100_000_000 + (taken + 1) * PERIOD_NS)
    for _ in range(3):
        limit.check()
    assert len(events.all) == 1
    limit.met(clock.now_ns())
    clock.advance(10**9)
    limit.check()
    assert len(events.all) == 2
    limit.restart()
    clock.advance(10**9)
    limit.check()
    assert len(events.all) == 2


@pytest.mark.parametrize("age_s", [0, -1, math.nan, math.inf])
def test_a_deadline_is_a_positive_time(engine: type[ScriptedEngine], age_s: float) -> None:
    with pytest.raises(PipelineError, match="max_age_s must be a positive"):
        pipeline_of(ScriptedCamera([]), max_age_s=age_s)
    with pipeline_of(ScriptedCamera([])) as pipeline:
        for add in (pipeline.add_consumer, pipeline.subscribe):
            with pytest.raises(PipelineError, match="max_age_s must be a positive"):
                add(of=pipeline.consumers[0], max_age_s=age_s)
        assert len(pipeline.consumers) == 1


# Fewer frames


@pytest.mark.parametrize(
    ("camera_fps", "limit", "expected"), [(30, 10, 100), (30, 30, 300), (30, 7, 70), (25, 60, 250)]
)
@pytest.mark.parametrize("jitter_ns", [0, 1_500_000])
def test_the_limiter_keeps_its_average(camera_fps: int, limit: int, expected: int, jitter_ns: int) -> None:
    limiter = RateLimiter(limit)
    period = 1e9 / camera_fps
    stamps = [round(i * period) + (-1) ** i * jitter_ns for i in range(10 * camera_fps)]
    passed = sum(limiter.passes(stamp) for stamp in stamps)
    if limit == camera_fps and jitter_ns:
        assert passed <= expected + 1
    else:
        assert abs(passed - expected) <= 1


def test_the_limiter_begins_anew_with_another_clock() -> None:
    limiter = RateLimiter(10)
    assert [limiter.passes(t) for t in (10**12, 10**12 + 1, 5, 6, 10**8 + 5)] == [True, False, True, False, True]
    for fps in (0, -1, math.nan, math.inf):
        with pytest.raises(PipelineError, match="max_fps must be a positive number"):
            RateLimiter(fps)


def test_a_model_runs_on_the_frames_that_pass_only(engine: type[ScriptedEngine]) -> None:
    with pipeline_of(ScriptedCamera(range(30), live=False), max_fps=10) as pipeline:
        few = pipeline.subscribe(max_fps=5, policy=QueuePolicy.buffered(99))
        assert [done.sequence for done in pipeline] == list(range(0, 30, 3))
        assert [done.sequence for done in few] == list(range(0, 30, 6))
        assert pipeline.counts.skipped == 20
    assert engine.runs == 10


@pytest.mark.parametrize("shares_model", [False, True])
def test_the_rate_is_of_the_frames_that_every_takes(engine: type[ScriptedEngine], shares_model: bool) -> None:
    """Frame 5 is lost; from there on the frames that `every` takes lie between the periods of the limit."""
    clock = SimulatedClock()
    script: list[Action] = [*range(5), lambda: clock.advance(PERIOD_NS), *range(6, 60)]
    got: list[int] = []
    with pipeline_of(ScriptedCamera(script, clock, live=False), callback=lambda done: None) as pipeline:
        of = {"of": pipeline.consumers[0]} if shares_model else {"model": SCRIPTED}
        pipeline.add_consumer(**of, every=2, max_fps=15, callback=lambda done: got.append(done.sequence))
        pipeline.run()
    assert got == [0, 2, 4, *range(7, 60, 2)]


def test_the_limit_begins_anew_with_each_stream(engine: type[ScriptedEngine]) -> None:
    """A recording that is played again: its times are those of the first stream."""
    got: list[list[int]] = [[], []]
    with pipeline_of(
        lambda: ScriptedCamera(range(3), SimulatedClock(), live=False),
        max_fps=10,
        callback=lambda done: got[0].append(done.sequence),
    ) as pipeline:
        model = pipeline.add_consumer(SCRIPTED, callback=lambda done: None)
        pipeline.add_consumer(of=model, max_fps=10, callback=lambda done: got[1].append(done.sequence))
        for _ in range(2):
            pipeline.run()
            pipeline.stop()
    assert got == [[0, 0], [0, 0]]


def test_a_frame_that_is_early_by_a_hair_passes_alone() -> None:
    """A hundredth of a minute is many frames."""
    limiter = RateLimiter(1 / 60)
    assert sum(limiter.passes(number * PERIOD_NS) for number in range(30 * 130)) == 3
