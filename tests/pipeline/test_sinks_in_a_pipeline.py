"""Sinks and kept RAW frames in a pipeline."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.errors import PipelineError, SinkError
from edge_isp.frame import RawFrame
from edge_isp.pipeline import (
    DropReason,
    FramesDropped,
    ModelOptions,
    Pipeline,
    PipelineState,
    QueuePolicy,
    StreamOptions,
)
from edge_isp.results import FrameResult
from edge_isp.sinks.annotate import picture_of
from edge_isp.sinks.png import PngSink
from tests.support.scripted import ScriptedCamera, ScriptedEngine, engine

__all__ = ["engine"]

SCRIPTED = ModelOptions(engine="scripted")


class Recorder:
    """A sink that notes its calls; `on_write` may wait or fail."""

    needs_raw = False

    def __init__(self, on_write: Callable[[FrameResult], object] = lambda done: None) -> None:
        self.calls: list[int | str] = []
        self.results: list[FrameResult] = []
        self._on_write = on_write

    def write(self, result: FrameResult) -> None:
        self.calls.append(result.sequence)
        self.results.append(result)
        self._on_write(result)

    def close(self) -> None:
        self.calls.append("close")


class NeedsRaw(Recorder):
    needs_raw = True


def test_a_recording_is_written_whole_and_the_sink_closed_once(engine: type[ScriptedEngine]) -> None:
    """`run` needs no callback where there is a sink: results that nobody reads are skipped."""
    sink = Recorder()
    with Pipeline(ScriptedCamera(range(20), live=False), SCRIPTED) as pipeline:
        consumer = pipeline.add_sink(sink)
        assert consumer.name == "Recorder"
        pipeline.run()
        assert pipeline.state is PipelineState.ENDED
        assert sink.calls == list(range(20))
        assert consumer.counts.delivered == 20
        assert (pipeline.counts.frames, pipeline.counts.skipped, pipeline.counts.in_flight) == (20, 20, 0)
    pipeline.close()
    assert sink.calls == [*range(20), "close"]
    assert engine.opened == engine.closed == 1


def test_a_sink_beside_a_reader(engine: type[ScriptedEngine]) -> None:
    sink = Recorder()
    with Pipeline(ScriptedCamera(range(9), live=False), SCRIPTED) as pipeline:
        pipeline.add_sink(sink, name="disk")
        assert [done.sequence for done in pipeline] == list(range(9))
        pipeline.run()  # waits for the sink
        assert sink.calls == list(range(9))
        assert all(done.raw is None for done in sink.results)
        with pytest.raises(PipelineError, match="sinks are added before the stream starts"):
            pipeline.add_sink(Recorder())
        pipeline.stop()
        with pytest.raises(PipelineError, match="named 'disk' already"):
            pipeline.add_sink(Recorder(), name="disk")


@pytest.mark.parametrize("policy", [None, QueuePolicy.BLOCK, QueuePolicy.buffered(2)])
def test_a_slow_sink_of_a_camera_loses_results_and_stalls_nothing(
    engine: type[ScriptedEngine], policy: QueuePolicy | None
) -> None:
    """The sink hangs in its first write until the camera has delivered everything: even a stream that otherwise
    waits goes on."""
    writing, all_read = threading.Event(), threading.Event()
    losses: list[tuple[str, DropReason]] = []
    inferred = threading.Semaphore(0)
    engine.on_run = lambda number: inferred.release()

    def on_write(done: FrameResult) -> None:
        writing.set()
        assert all_read.wait(60)

    def on_event(event: object) -> None:
        if isinstance(event, FramesDropped):
            losses.append((event.consumer, event.cause))

    script = [0, writing.wait, *(action for i in range(1, 12) for action in (i, inferred.acquire))]
    sink = Recorder(on_write)
    stream = StreamOptions(policy=policy, on_event=on_event)
    with Pipeline(ScriptedCamera(script), SCRIPTED, stream) as pipeline:
        consumer = pipeline.add_sink(sink)
        taken = []
        while (done := pipeline.read(timeout_s=60)) is not None:
            taken.append(done.sequence)
        all_read.set()
        pipeline.run()
        counts = consumer.counts
    assert sink.calls[0] == 0
    assert counts.frames == 12
    assert counts.in_flight == 0
    assert counts.dropped[DropReason.SINK_SLOW] >= 8
    assert counts.delivered == len(sink.results)
    assert ("Recorder", DropReason.SINK_SLOW) in losses
    if policy == QueuePolicy.BLOCK:
        assert taken == list(range(12)), "the reader lost nothing to the sink"


def test_a_sink_that_fails_ends_the_stream_and_is_closed(engine: type[ScriptedEngine]) -> None:
    def fail(done: FrameResult) -> None:
        if done.sequence == 2:
            raise SinkError("disk full")

    sink, camera = Recorder(fail), ScriptedCamera(range(10**6), live=False)
    with Pipeline(camera, SCRIPTED) as pipeline:
        pipeline.add_sink(sink)
        with pytest.raises(SinkError, match="disk full"):
            pipeline.run()
        assert pipeline.state is PipelineState.FAILED
    assert sink.calls == [0, 1, 2, "close"]
    assert not camera.lent


def test_sinks_that_cannot_be_completed_do_not_keep_the_rest_open(engine: type[ScriptedEngine]) -> None:
    class Incomplete(Recorder):
        def close(self) -> None:
            super().close()
            raise SinkError("index not written")

    sinks, camera = [Incomplete(), Recorder()], ScriptedCamera(range(2), live=False)
    with pytest.raises(SinkError, match="index not written"), Pipeline(camera, SCRIPTED) as pipeline:
        for sink in sinks:
            pipeline.add_sink(sink)
        pipeline.run()
    assert all(sink.calls == [0, 1, "close"] for sink in sinks)
    assert camera.closed.is_set()
    assert engine.opened == engine.closed == 1
    pipeline.close()  # idempotent
    assert sinks[0].calls.count("close") == 1


def test_the_stream_can_be_closed_from_the_sink(engine: type[ScriptedEngine]) -> None:
    """The sink is closed after this write, not during it."""
    sink = Recorder(lambda done: pipeline.close())
    pipeline = Pipeline(ScriptedCamera(iter(range(10**9))), SCRIPTED)
    pipeline.add_sink(sink)
    pipeline.run()
    pipeline.close()
    assert len(sink.results) == 1
    assert sink.calls[1:] == ["close"]


def test_what_is_no_sink_is_one_clear_error(engine: type[ScriptedEngine]) -> None:
    wrong: Any
    with Pipeline(ScriptedCamera([]), SCRIPTED) as pipeline:
        for wrong, message in (
            ("png:out", "found str 'png:out'; edge_isp.sinks.spec.open_sink opens a sink"),
            (Recorder, "sink must be an object with the methods `write` and `close`, found type"),
            (print, "found builtin_function_or_method"),
        ):
            with pytest.raises(PipelineError, match=message):
                pipeline.add_sink(wrong)
        with pytest.raises(PipelineError, match="policy must be QueuePolicy"):
            pipeline.add_sink(Recorder(), policy="latest")  # type: ignore[arg-type]


class Filling(ScriptedCamera):
    """Its buffer is used again: when a frame is released, it is overwritten."""

    def _frame(self, number: int, status: Any) -> RawFrame:
        frame = super()._frame(number, status)
        frame.data[:] = number + 1
        release = frame.on_release
        assert release is not None

        def overwrite() -> None:
            frame.data[:] = 255
            release()

        object.__setattr__(frame, "on_release", overwrite)
        return frame


def test_kept_frames_outlive_the_cameras_buffer_and_are_copied_once(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[int] = []
    copy = RawFrame.copy

    def counting(frame: RawFrame) -> RawFrame:
        copies.append(frame.sequence)
        return copy(frame)

    monkeypatch.setattr(RawFrame, "copy", counting)
    got: dict[str, list[FrameResult]] = {"plain": [], "other": []}
    sink = NeedsRaw()
    with Pipeline(Filling(range(5), live=False), SCRIPTED, StreamOptions(keep_raw=True)) as pipeline:
        pipeline.add_consumer(of=pipeline.consumers[0], callback=got["plain"].append)
        pipeline.add_consumer(ModelOptions("rfdcsanet-m", engine="scripted"), callback=got["other"].append)
        pipeline.add_sink(sink)
        kept = list(pipeline)
        pipeline.run()
    assert copies == list(range(5)), "once for each frame, of the branch that keeps them"
    assert all(done.raw is None for results in got.values() for done in results)
    assert [len(results) for results in got.values()] == [5, 5]
    for results in (kept, sink.results):
        assert [done.sequence for done in results] == list(range(5))
        for done in results:
            assert done.raw is not None
            assert (done.raw.data == done.sequence + 1).all()
            assert done.raw.data.flags.owndata
            assert list(done.stages_ns) == ["read", "encode", "keep", "infer", "decode"]
            done.raw.release()  # does nothing


def test_frames_of_pictures_are_not_copied_for_sinks_of_pictures(
    engine: type[ScriptedEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RawFrame, "copy", lambda frame: pytest.fail("copied, and nobody reads it"))
    with Pipeline(ScriptedCamera(range(3), live=False), SCRIPTED) as pipeline:
        sink = pipeline.add_sink(PngSink(tmp_path))
        pipeline.run()
        assert sink.counts.delivered == 3


@pytest.mark.parametrize("needs_raw", ["yes", "detection", 2, None])
def test_a_sink_says_clearly_what_it_needs(engine: type[ScriptedEngine], needs_raw: object) -> None:
    sink = Recorder()
    sink.needs_raw = needs_raw  # type: ignore[assignment]
    with (
        Pipeline(ScriptedCamera([]), SCRIPTED) as pipeline,
        pytest.raises(PipelineError, match="Recorder: needs_raw must be True, False or 'detections', found"),
    ):
        pipeline.add_sink(sink)


def test_a_detectors_pictures_have_its_boxes(recording: Callable[..., Path], tmp_path: Path) -> None:
    """From the command's point of view: frames without gains, the real detector, PNG files."""
    path = recording(width=128, height=96, frames=2, frame="")
    options = ModelOptions("raw-detector", input_size=64, confidence=0.0)
    with Pipeline(ReplayCamera(path), options) as pipeline:
        pipeline.add_sink(PngSink(tmp_path / "out"))
        plain = list(pipeline)
        pipeline.run()
    assert [done.raw for done in plain] == [None, None]
    with Pipeline(ReplayCamera(path), options, StreamOptions(keep_raw=True)) as pipeline:
        expected = [picture_of(done).rgb for done in pipeline]
    files = sorted((tmp_path / "out").iterdir())
    names = [re.sub(r"_\d{8}T\d{6}Z_", "_", file.name) for file in files]
    assert names == ["scene_000000.png", "scene_000001.png"]
    for file, rgb in zip(files, expected, strict=True):
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image), rgb)
