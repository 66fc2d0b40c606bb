"""Who gets which results, in which way, and what is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_isp.errors import CameraError, EngineError, PipelineError
from edge_isp.frame import FrameStatus
from edge_isp.pipeline import (
    DropReason,
    FrameResult,
    FramesDropped,
    ModelOptions,
    Pipeline,
    PipelineState,
    QueuePolicy,
    ReconnectPolicy,
    StateChange,
    StreamOptions,
)
from tests.support.scripted import (
    PERIOD_NS,
    Action,
    ScriptedCamera,
    ScriptedEngine,
    SimulatedClock,
    engine,
    hang_at,
)

__all__ = ["engine"]


def pipeline_of(camera: ScriptedCamera, **options: Any) -> Pipeline:
    return Pipeline(camera, ModelOptions(engine="scripted"), StreamOptions(**options))


def sequences(results: object) -> list[int]:
    return [done.sequence for done in results]  # type: ignore[attr-defined]


def test_every_way_to_the_results_gives_all_of_a_recording(engine: type[ScriptedEngine]) -> None:
    def by_callback() -> list[int]:
        done: list[FrameResult] = []
        with pipeline_of(ScriptedCamera(range(9), live=False), callback=done.append) as pipeline:
            pipeline.run()
            assert pipeline.state is PipelineState.ENDED
        return sequences(done)

    def by_read() -> list[int]:
        with pipeline_of(ScriptedCamera(range(9), live=False)) as pipeline:
            return sequences(iter(lambda: pipeline.read(60), None))

    def by_async_for() -> list[int]:
        async def take() -> list[int]:
            with pipeline_of(ScriptedCamera(range(9), live=False)) as pipeline:
                return [done.sequence async for done in pipeline]

        return asyncio.run(take())

    def by_for() -> list[int]:
        with pipeline_of(ScriptedCamera(range(9), live=False)) as pipeline:
            return sequences(pipeline)

    for way in (by_callback, by_read, by_async_for, by_for):
        assert way() == list(range(9)), way
    assert engine.opened == engine.closed == 4


def test_results_say_when_and_how_long(engine: type[ScriptedEngine]) -> None:
    clock = SimulatedClock()
    engine.on_run = lambda number: clock.advance(7)
    with pipeline_of(ScriptedCamera(range(2), clock, live=False), clock=clock) as pipeline:
        for done in pipeline:
            assert list(done.stages_ns) == ["read", "encode", "infer", "decode"]
            assert list(done.queued_ns) == ["encode", "infer", "decode", "deliver"]
            assert done.stages_ns["read"] >= PERIOD_NS
            assert done.stages_ns["infer"] >= 7
            assert done.age_ns == done.delivered_ns - done.timestamp_ns >= 7
            assert done.picture.sequence == done.sequence
            assert done.delivered_ns <= clock.now_ns()


def test_consumers_at_different_rates_from_one_camera(engine: type[ScriptedEngine]) -> None:
    """One model on every frame, another on every third, and a third consumer of the first model's every fourth."""
    got: dict[str, list[int]] = {"second": [], "third": []}
    with pipeline_of(ScriptedCamera(range(12), live=False)) as pipeline:
        first = pipeline.consumers[0]
        second = pipeline.add_consumer(
            ModelOptions("rfdcsanet-m", engine="scripted"),
            every=3,
            in_turn_with=first,
            callback=lambda done: got["second"].append(done.sequence),
        )
        third = pipeline.add_consumer(of=first, every=4, callback=lambda done: got["third"].append(done.sequence))
        assert [c.name for c in pipeline.consumers] == ["rfdcsanet-s", "rfdcsanet-m", "rfdcsanet-s 2"]
        assert sequences(first) == list(range(12))
        pipeline.run()  # waits for the others
        assert got == {"second": [0, 3, 6, 9], "third": [0, 4, 8]}
        for consumer, delivered in ((first, 12), (second, 4), (third, 3)):
            counts = consumer.counts
            assert (counts.frames, counts.delivered, counts.in_flight) == (12, delivered, 0)
            assert counts.skipped == 12 - delivered
    assert engine.runs == 16
    assert engine.opened == 2


def test_in_turn_is_never_at_once(engine: type[ScriptedEngine]) -> None:
    running = threading.Lock()

    def on_run(number: int) -> None:
        assert running.acquire(blocking=False)
        running.release()

    engine.on_run = on_run
    with pipeline_of(ScriptedCamera(range(50), live=False)) as pipeline:
        second = pipeline.add_consumer(
            ModelOptions("rfdcsanet-m", engine="scripted"),
            in_turn_with=pipeline.consumers[0],
            callback=lambda done: None,
        )
        assert len(list(pipeline)) == 50
        pipeline.run()
        assert second.counts.delivered == 50


def test_models_of_two_pipelines_in_turn(engine: type[ScriptedEngine]) -> None:
    running, go_on, inside = threading.Lock(), threading.Event(), threading.Event()

    def on_run(number: int) -> None:
        assert running.acquire(blocking=False)
        inside.set()
        assert go_on.wait(60)
        running.release()

    first = pipeline_of(ScriptedCamera(range(20), live=False))
    second = pipeline_of(
        ScriptedCamera(range(20), live=False), in_turn_with=first.consumers[0], callback=lambda done: None
    )
    engine.on_run = on_run
    with first, second:
        second.start()
        assert inside.wait(60)
        first.start()
        go_on.set()
        second.run()
        assert len(list(first)) == 20
        assert second.consumers[0].counts.delivered == 20
    assert engine.closed == engine.opened == 2


def test_a_pipeline_closes_its_engine_while_another_one_runs(
    engine: type[ScriptedEngine], caplog: pytest.LogCaptureFixture
) -> None:
    first = pipeline_of(ScriptedCamera(range(2), live=False))
    second = pipeline_of(ScriptedCamera([0], live=False), in_turn_with=first.consumers[0])
    with second:
        assert len(list(first)) == 2
        with second.consumers[0].turns:  # as while its model runs
            first.close()
        assert engine.closed == 1
    assert "left behind" not in caplog.text


def test_wrong_consumers_are_errors(engine: type[ScriptedEngine]) -> None:
    with pipeline_of(ScriptedCamera(range(3))) as pipeline, pipeline_of(ScriptedCamera([])) as other:
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "either a model, or another consumer"),
            ({"model": "rfdcsanet-s", "of": pipeline.consumers[0]}, "either a model, or another consumer"),
            ({"model": "rfdcsanet-s", "every": 0}, "every must be at least 1, found 0"),
            ({"model": "rfdcsanet-s", "policy": "all"}, "policy must be QueuePolicy.LATEST, .*found str 'all'"),
            ({"model": "rfdcsanet-s", "name": "rfdcsanet-s"}, "named 'rfdcsanet-s' already"),
            ({"of": other.consumers[0]}, "belongs to another pipeline"),
        )
        for arguments, message in cases:
            with pytest.raises(PipelineError, match=message):
                pipeline.add_consumer(**arguments)
        pipeline.start()
        with pytest.raises(PipelineError, match="before the stream starts"):
            pipeline.add_consumer(of=pipeline.consumers[0])
        pipeline.close()
        pipeline.close()
        with pytest.raises(PipelineError, match="is closed"):
            pipeline.read()


def test_latest_gives_the_engine_the_newest_frame(engine: type[ScriptedEngine]) -> None:
    """While the engine is at the first frame nine more come: of these it gets the last."""
    all_there, at_first, first_taken = threading.Event(), threading.Event(), threading.Event()

    def on_run(number: int) -> None:
        if number == 0:
            at_first.set()
            all_there.wait()
        else:
            first_taken.wait()

    engine.on_run = on_run
    losses: list[FramesDropped] = []

    def on_event(event: object) -> None:
        if isinstance(event, FramesDropped):
            losses.append(event)
            if len(losses) == 8:
                all_there.set()

    script = [0, at_first.wait, *range(1, 10), all_there.wait]
    with pipeline_of(ScriptedCamera(script), on_event=on_event) as pipeline:
        taken = [pipeline.read()]
        first_taken.set()
        taken.append(pipeline.read())
        assert [done.sequence for done in taken if done] == [0, 9]
        assert pipeline.read() is None
        assert pipeline.counts.dropped == {DropReason.QUEUE_FULL: 8}
    assert [loss.sequence for loss in losses] == list(range(1, 9))


def test_an_engine_three_times_too_slow_gives_results_of_at_most_two_of_its_periods(
    engine: type[ScriptedEngine],
) -> None:
    """Three frames come during each inference; the last of them is the next one's, and no more tensors are made."""
    runs = 6
    started = [threading.Event() for _ in range(runs + 1)]
    ended = [threading.Event() for _ in range(runs + 1)]
    lost, delivered = threading.Semaphore(0), threading.Semaphore(0)
    clock = SimulatedClock()

    def on_run(number: int) -> None:
        started[number].set()
        ended[number].wait()

    def on_event(event: object) -> None:
        if isinstance(event, FramesDropped) and event.cause is DropReason.QUEUE_FULL:
            lost.release()

    def script() -> Iterator[int | Callable[[], object]]:
        yield 0
        for run in range(runs):
            yield started[run].wait
            yield from range(3 * run + 1, 3 * run + 4)
            yield lost.acquire  # of three, two lose their places
            yield lost.acquire
            yield ended[run].set
            yield delivered.acquire  # simulated time stands still meanwhile
        ended[runs].set()

    engine.on_run = on_run

    def call_back(done: FrameResult) -> None:
        ages_ns.append(done.age_ns)
        delivered.release()

    ages_ns: list[int] = []
    with pipeline_of(
        ScriptedCamera(script(), clock),
        clock=clock,
        on_event=on_event,
        callback=call_back,
    ) as pipeline:
        pipeline.run()
        assert len(pipeline._branches[0]._tensors) <= 5
        counts = pipeline.counts
    assert counts.dropped[DropReason.QUEUE_FULL] == 2 * runs
    assert counts.delivered == len(ages_ns) == runs + 1
    assert max(ages_ns) <= 2 * 3 * PERIOD_NS


def test_a_queue_keeps_order_and_loses_the_oldest(engine: type[ScriptedEngine]) -> None:
    at_first, go_on = threading.Event(), threading.Event()
    engine.on_run = hang_at(0, at_first, go_on)
    losses: list[int] = []

    def on_event(event: object) -> None:
        if isinstance(event, FramesDropped):
            losses.append(event.sequence)

    # 0 is inferred, 1 is encoded, another one is being handed on, and three are in the queue.
    script = [0, at_first.wait, *range(1, 21), go_on.set]
    with pipeline_of(ScriptedCamera(script), policy=QueuePolicy.buffered(3), on_event=on_event) as pipeline:
        pipeline.start()
        go_on.wait()
        taken = sequences(pipeline)
        counts = pipeline.counts
    assert taken == sorted(taken)
    assert taken[-1] == 20
    assert sorted(taken + losses) == list(range(21))
    assert counts.dropped[DropReason.QUEUE_FULL] >= 21 - 6


def test_a_slow_taker_loses_results_and_is_told(engine: type[ScriptedEngine]) -> None:
    lost, inferred = threading.Semaphore(0), threading.Semaphore(0)

    def on_event(event: object) -> None:
        if isinstance(event, FramesDropped):
            lost.release()

    engine.on_run = lambda number: inferred.release()
    script: list[Action] = [action for i in range(5) for action in (i, inferred.acquire)]
    with pipeline_of(ScriptedCamera(script), on_event=on_event) as pipeline:
        pipeline.start()
        for _ in range(4):
            lost.acquire()
        assert sequences(pipeline) == [4]
        assert pipeline.counts.dropped == {DropReason.SINK_SLOW: 4}
        assert pipeline.counts.in_flight == 0


@pytest.mark.parametrize("damage", [FrameStatus.CORRUPTED, FrameStatus.TRUNCATED])
def test_gaps_and_damaged_frames_are_counted(engine: type[ScriptedEngine], damage: FrameStatus) -> None:
    script: list[Action] = [0, 1, 5, (6, damage), (7, FrameStatus.GAP), (9, FrameStatus.GAP)]
    events: list[object] = []
    with pipeline_of(ScriptedCamera(script), policy=QueuePolicy.BLOCK, on_event=events.append) as pipeline:
        assert sequences(pipeline) == [0, 1, 5, 7, 9]
        counts = pipeline.counts
    assert counts.dropped == {DropReason.SENSOR_GAP: 3 + 1 + 1, DropReason.CORRUPTED: 1}
    assert counts.frames == 6 + 5
    losses = [(e.sequence, e.frames, e.cause) for e in events if isinstance(e, FramesDropped)]
    assert losses == [
        (2, 3, DropReason.SENSOR_GAP),
        (6, 1, DropReason.CORRUPTED),
        (6, 1, DropReason.SENSOR_GAP),
        (8, 1, DropReason.SENSOR_GAP),
    ]


def test_old_frames_and_old_results_are_stale(engine: type[ScriptedEngine]) -> None:
    clock = SimulatedClock()
    engine.on_run = lambda number: clock.advance(2_000_000_000) if number == 1 else None
    camera = ScriptedCamera(range(4), clock)
    with pipeline_of(camera, policy=QueuePolicy.BLOCK, max_age_s=1.0, clock=clock) as pipeline:
        taken = sequences(pipeline)
        counts = pipeline.counts
    assert 1 not in taken
    assert counts.dropped[DropReason.STALE] == 4 - len(taken)
    assert counts.delivered == len(taken)


def test_an_engine_error_costs_a_frame_of_a_camera_and_ends_a_recording(engine: type[ScriptedEngine]) -> None:
    def on_run(number: int) -> None:
        if number in (2, 3):
            raise EngineError(f"run {number}")

    engine.on_run = on_run
    with pipeline_of(ScriptedCamera(range(6)), policy=QueuePolicy.BLOCK) as pipeline:
        assert sequences(pipeline) == [0, 1, 4, 5]
        assert pipeline.counts.dropped == {DropReason.ENGINE_ERROR: 2}
    engine.runs = 0
    with pipeline_of(
        ScriptedCamera(range(6)), policy=QueuePolicy.BLOCK, reconnect=ReconnectPolicy(engine_errors=1)
    ) as pipeline:
        results = iter(pipeline)
        assert [next(results).sequence, next(results).sequence] == [0, 1]
        with pytest.raises(EngineError, match="run 3"):
            next(results)
        assert pipeline.state is PipelineState.FAILED
        assert isinstance(pipeline.error, EngineError)
    engine.runs = 0
    with pipeline_of(ScriptedCamera(range(6), live=False)) as pipeline:
        results = iter(pipeline)
        assert [next(results).sequence, next(results).sequence] == [0, 1]
        with pytest.raises(EngineError, match="run 2"):
            next(results)


def test_a_callback_that_fails_ends_the_stream_for_all(engine: type[ScriptedEngine]) -> None:
    camera = ScriptedCamera(iter(range(10**9)))

    def fail(done: FrameResult) -> None:
        raise ZeroDivisionError(done.sequence)

    with pipeline_of(camera, policy=QueuePolicy.BLOCK) as pipeline:
        pipeline.add_consumer(of=pipeline.consumers[0], callback=fail)
        with pytest.raises(ZeroDivisionError):
            list(pipeline)
        with pytest.raises(ZeroDivisionError):
            pipeline.run()
    assert not camera.lent
    assert camera.closed.is_set()


def test_an_event_handler_that_fails_ends_the_stream(engine: type[ScriptedEngine]) -> None:
    def fail(event: object) -> None:
        if isinstance(event, FramesDropped):
            raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        pipeline_of(ScriptedCamera(range(0, 10**9, 2)), policy=QueuePolicy.BLOCK, on_event=fail) as pipeline,
    ):
        list(pipeline)


def test_stop_and_start_again(engine: type[ScriptedEngine]) -> None:
    states: list[PipelineState] = []

    def on_event(event: object) -> None:
        if isinstance(event, StateChange):
            states.append(event.state)

    camera = ScriptedCamera(iter(range(10**9)))
    with pipeline_of(camera, on_event=on_event) as pipeline:
        first = pipeline.read()
        pipeline.stop()
        assert pipeline.state is PipelineState.STOPPED
        assert not camera.closed.is_set()
        assert not camera.lent
        counts = pipeline.counts
        assert counts.in_flight == 0
        assert counts.frames == len(camera.delivered)
        assert pipeline.read() is None  # who asks once more does not start it again
        assert list(pipeline) == []
        pipeline.start()
        second = pipeline.read()
        assert first is not None
        assert second is not None
        assert second.sequence > first.sequence
        assert DropReason.SENSOR_GAP not in pipeline.counts.dropped
    assert camera.closed.is_set()
    assert engine.opened == engine.closed == 1
    assert states == [PipelineState.STARTING, PipelineState.RUNNING, PipelineState.STOPPED] * 2


def test_a_callback_may_stop_the_pipeline(engine: type[ScriptedEngine]) -> None:
    done: list[int] = []

    def once(result: FrameResult) -> None:
        done.append(result.sequence)
        pipeline.stop()

    with pipeline_of(ScriptedCamera(iter(range(10**9))), callback=once) as pipeline:
        pipeline.run()
        assert pipeline.state is PipelineState.STOPPED
    assert len(done) == 1


def test_an_async_task_can_be_cancelled_without_losing_a_result(engine: type[ScriptedEngine]) -> None:
    waiting = threading.Event()

    async def take() -> list[int]:
        with pipeline_of(ScriptedCamera([0, waiting.wait, 1], live=False)) as pipeline:
            results = aiter(pipeline)
            taken = [(await anext(results)).sequence]
            task = asyncio.ensure_future(anext(results))
            done, _ = await asyncio.wait([task], timeout=0)
            assert not done
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            waiting.set()
            return taken + [done.sequence async for done in pipeline]

    assert asyncio.run(take()) == [0, 1]


def test_read_does_not_wait_for_ever(engine: type[ScriptedEngine]) -> None:
    go_on = threading.Event()
    with pipeline_of(ScriptedCamera([go_on.wait, 0], live=False)) as pipeline:
        with pytest.raises(TimeoutError):
            pipeline.read(timeout_s=0.001)
        go_on.set()
        assert pipeline.read() is not None


def test_running_for_nobody_is_an_error(engine: type[ScriptedEngine]) -> None:
    with pipeline_of(ScriptedCamera(range(3))) as pipeline:
        with pytest.raises(PipelineError, match="nobody takes the results of rfdcsanet-s: give a callback"):
            pipeline.run()
        assert len(list(pipeline)) > 0


def test_the_error_comes_after_the_results_before_it(engine: type[ScriptedEngine]) -> None:
    with pipeline_of(ScriptedCamera([0, 1, CameraError("unplugged"), 2], live=False)) as pipeline:
        results = iter(pipeline)
        assert [next(results).sequence, next(results).sequence] == [0, 1]
        with pytest.raises(CameraError, match="unplugged"):
            next(results)
