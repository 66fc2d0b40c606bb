"""What `edge-isp record` does while it runs."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import typer

from edge_isp.cameras.spec import open_camera
from edge_isp.cli.signals import Interrupted
from edge_isp.doctor import examine
from edge_isp.frame import RawFrame
from edge_isp.pipeline import ModelOptions, Pipeline
from edge_isp.pipeline.raw_stream import RawStream
from edge_isp.sinks.mcap import McapSink

# How long the end of a short recording waits for `doctor`'s page.
_PAGE_S = 10.0


@dataclass(frozen=True, slots=True)
class Recording:
    """What is recorded.

    Attributes:
        sink: to this sink, which is closed at the end.
        cameras: their specifications by name; None is the recording that ships.
        model: that runs beside, and how; None runs none.
        frames: of each camera, at most.
        by_signal: whether SIGUSR1 begins an event.
    """

    sink: McapSink
    cameras: Mapping[str, str | None]
    model: ModelOptions | None
    frames: int | None
    by_signal: bool


def run_recording(recording: Recording) -> None:
    """Records until the cameras end, enough frames came, or the user interrupts it.

    Args:
        recording: what is recorded.
    """
    sink = recording.sink
    page = threading.Thread(target=_attach_page, args=(sink,), name="doctor", daemon=True)
    page.start()
    try:
        with _signal(sink) if recording.by_signal else nullcontext():
            if recording.model is None:
                _without_model(recording)
            else:
                _with_model(recording, recording.model)
    except (Interrupted, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    finally:
        page.join(_PAGE_S)
        sink.close()
    counts = sink.counts
    for path in sink.files:
        print(path)
    lost = "".join(f", {number} not recorded: {reason}" for reason, number in counts.lost.items())
    print(f"{counts.written} of {counts.frames} frames recorded{lost}")
    if not counts.frames:
        print("edge-isp: the camera delivered no frame", file=sys.stderr)
        raise typer.Exit(1)


def _without_model(recording: Recording) -> None:
    streams, errors = [], []
    for name, spec in recording.cameras.items():
        streams.append(
            RawStream(
                partial(open_camera, spec),
                partial(recording.sink.frame_arrived, camera=name),
                partial(recording.sink.event, camera=name),
            )
        )

    def run(stream: RawStream) -> None:
        try:
            stream.run(recording.frames)
        except BaseException as error:  # noqa: BLE001 - raised below, in the main thread
            errors.append(error)
            for other in streams:
                other.stop()

    # In threads, so that a signal finds the main thread waiting and not in a camera or the recorder.
    threads = [threading.Thread(target=run, args=(stream,), name="camera", daemon=True) for stream in streams]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for stream in streams:
            stream.stop()
        for thread in threads:
            thread.join(5.0)
    if errors:
        raise errors[0]


def _with_model(recording: Recording, model: ModelOptions) -> None:
    (spec,) = recording.cameras.values()
    with Pipeline(partial(open_camera, spec), model) as pipeline:
        pipeline.add_sink(_Limited(recording.sink, recording.frames, pipeline), name="recording")
        pipeline.run()


class _Limited:
    """The sink, until enough frames came. Closing it is its owner's affair.

    Args:
        sink: that records.
        most: how many frames are enough; None is unlimited.
        pipeline: stopped then.
    """

    def __init__(self, sink: McapSink, most: int | None, pipeline: Pipeline) -> None:
        self._sink, self._most, self._pipeline = sink, most, pipeline
        self._frames = 0
        self.event = sink.event
        self.write = sink.write

    def frame_arrived(self, frame: RawFrame) -> None:
        """See `Sink`."""
        if self._most is None or self._frames < self._most:
            self._frames += 1
            self._sink.frame_arrived(frame)
            if self._frames == self._most:
                self._pipeline.stop()

    def close(self) -> None:
        """See `Sink.close`."""


def _attach_page(sink: McapSink) -> None:
    """Puts `doctor`'s page into the recording, when it is ready. It leaves cameras and NPUs to the recording."""
    sink.attach("doctor.json", json.dumps(examine(try_delegates=False, open_cameras=False)).encode())


@contextmanager
def _signal(sink: McapSink) -> Iterator[None]:
    """SIGUSR1 begins an event."""
    before = signal.signal(signal.SIGUSR1, lambda number, frame: _trigger(sink))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _trigger(sink: McapSink) -> None:
    threading.Thread(target=sink.trigger, args=("signal",), name="trigger", daemon=True).start()
