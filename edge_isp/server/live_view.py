"""What the live view shows and changes: the pipeline's results, the camera's settings, recordings and numbers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from edge_isp.board import Board
from edge_isp.cameras.base import Camera
from edge_isp.errors import PipelineError, SinkError
from edge_isp.frame import RawFrame
from edge_isp.kernels.warmup import compile_recording_kernels
from edge_isp.metering.exposure import AutoExposure
from edge_isp.models.card import find_model
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
from edge_isp.pipeline.consumer import Consumer
from edge_isp.result_json import result_json
from edge_isp.results import FrameResult, Picture
from edge_isp.server.broadcast import Broadcast
from edge_isp.server.camera_controls import CameraControls
from edge_isp.server.channel import Channel
from edge_isp.server.messages import (
    BoardStatus,
    EventsStatus,
    Frame,
    Model,
    Partition,
    RecordingStatus,
    RunningRecording,
    Status,
    ToneStatus,
)
from edge_isp.server.metrics import MachineMetrics, Metrics, exposition
from edge_isp.server.rate import Rate
from edge_isp.server.recorder import Recorder
from edge_isp.server.tone import Tone
from edge_isp.tasks.classical import ClassicalIsp

if TYPE_CHECKING:
    from edge_isp.sinks.mcap import McapSink

# Results that wait for a recording's file before the oldest is dropped.
_RECORDING_QUEUE = 16
# How often the board's files are read at most.
_BOARD_EVERY_S = 1.0


class LiveView:
    """A pipeline whose results are watched; a context manager.

    Pictures are shown of the first model that makes them ("network"), and of no model at all ("classical"); boxes are
    those of the first detector.

    Args:
        open_camera: opens the camera, and opens it again when it has failed.
        models: at least one; the engines of two models never run at the same time.
        auto_exposure: whether exposure and gain are set from the frames at the start. It can be switched later.
        recordings: folder of recordings and videos.
        before_s: seconds of RAW frames that are kept in memory for `trigger_event`; 0 keeps none.
        after_s: seconds that an event goes on after its last trigger.
        on_failed: called when the stream has failed; `Pipeline.error` says why.
        notify_systemd: see `StreamOptions`.
        reconnect: see `StreamOptions`.
        in_turn_with: another view, whose models never run at the same time as those of this one.

    Attributes:
        pipeline: that runs.
        controls: of the camera.
        channels: the streams of pictures by the names of their views.
        listeners: how many clients get detections.
        recorder: of recordings and videos.
        metrics: for Prometheus.

    Raises:
        MissingDependencyError: `before_s` needs the extra "recording".
        ModelError, PipelineError, PluginError: see `Pipeline`.
        SinkError: with `before_s`, nothing can be written to the folder.
    """

    def __init__(
        self,
        open_camera: Callable[[], Camera],
        models: list[ModelOptions],
        *,
        auto_exposure: bool = False,
        recordings: Path = Path("recordings"),
        before_s: float = 0.0,
        after_s: float = 5.0,
        on_failed: Callable[[], object] | None = None,
        notify_systemd: bool = False,
        reconnect: ReconnectPolicy | None = None,
        in_turn_with: LiveView | None = None,
    ) -> None:
        if not models:
            raise PipelineError("a live view needs at least one model")
        tasks = [find_model(options.model, None).task for options in models]
        self._on_failed = on_failed
        metering = AutoExposure(profile=models[0].profile)
        metering.exposure_locked = not auto_exposure
        compile_recording_kernels()  # now, so that neither the first viewer nor the first recording waits for it
        self._profile, self._curve, self._tone = models[0].profile, models[0].tone, Tone()
        self._classical = ClassicalIsp(self._profile, tone=self._curve)
        self._before_s, self._after_s = before_s, after_s
        self._lock = threading.Lock()
        self._rates: dict[Consumer, Rate] = {}
        self._ages_ns: dict[Consumer, int] = {}
        self._state_reason = ""
        self._started_ns = time.monotonic_ns()
        self._board, self._board_read = Board(), 0.0
        self._board_lock = threading.Lock()  # held while files are read, which may take long
        self._board_status: BoardStatus | None = None
        self.pipeline: Pipeline = Pipeline(
            lambda: self.controls.restored(open_camera()),
            models[0],
            StreamOptions(
                keep_raw=True,
                auto_exposure=metering,
                callback=partial(self._deliver, 0),
                on_event=self._note,
                notify_systemd=notify_systemd,
                reconnect=reconnect,
                in_turn_with=None if in_turn_with is None else in_turn_with.pipeline.consumers[0],
            ),
        )
        self.controls: CameraControls = CameraControls(self.pipeline, metering)
        first = self.pipeline.consumers[0]
        self._consumers = [first]
        for place, options in enumerate(models[1:], 1):
            self._consumers.append(
                self.pipeline.add_consumer(options, callback=partial(self._deliver, place), in_turn_with=first)
            )
        self._pictures_of = next((self._consumers[i] for i, task in enumerate(tasks) if task == "isp"), None)
        self._boxes_of = next((self._consumers[i] for i, task in enumerate(tasks) if task == "detector"), None)
        self.recorder = Recorder(recordings, self._profile)
        self._recording_of = self.pipeline.add_sink(
            self.recorder,
            name="recording",
            of=self._pictures_of or first,
            policy=QueuePolicy.buffered(_RECORDING_QUEUE),
        )
        self._events = self._event_recorder(recordings) if before_s else None
        self.channels: dict[str, Channel] = {}
        if self._pictures_of is not None:
            self.channels["network"] = Channel("network", lambda done: done.picture, lambda: self._tone)
        self.channels["classical"] = Channel("classical", self._develop, lambda: self._tone)
        self._found: Broadcast[bytes] = Broadcast()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.listeners = 0
        self.metrics = Metrics(self.pipeline, self._viewers, self._exposure)
        self._machine = MachineMetrics(self._board)

    def start(self) -> None:
        """Starts the stream.

        Raises:
            CameraError: the camera cannot be opened.
        """
        self.pipeline.start()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Detections are handed to this event loop from now on.

        Args:
            loop: of the server.
        """
        self._loop = loop

    def close(self) -> None:
        """Ends streams, recordings and the pipeline. Idempotent.

        Raises:
            SinkError: the recording cannot be completed.
        """
        self.end_streams()
        self.pipeline.close()

    def end_streams(self) -> None:
        """Ends what clients watch, so that the server can end. Idempotent."""
        self._in_loop(self._found.end)
        for channel in self.channels.values():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def detections(self) -> Broadcast[bytes]:
        """The newest detections, as JSON."""
        return self._found

    @property
    def newest(self) -> FrameResult | None:
        """The newest result with its RAW frame."""
        return self.channels["classical"].newest

    @property
    def clients(self) -> int:
        """How many clients watch a stream of pictures or of detections."""
        return self.listeners + sum(channel.viewers for channel in self.channels.values())

    @property
    def healthy(self) -> bool:
        """Whether every stage responds and nothing has failed."""
        return self.pipeline.state not in (PipelineState.STALLED, PipelineState.FAILED)

    @property
    def ready(self) -> bool:
        """Whether results arrive."""
        return self.pipeline.state is PipelineState.RUNNING and self.newest is not None

    def channel(self, view: str | None) -> Channel | None:
        """The channel of a view's name; None where there is no such view.

        Args:
            view: "network" or "classical"; None is the first that there is.
        """
        return next(iter(self.channels.values())) if view is None else self.channels.get(view)

    def metrics_text(self) -> tuple[bytes, str]:
        """All metrics in Prometheus's text format, and its content type."""
        return exposition(self.metrics, self._machine)

    def set_tone(self, tone: Tone, curve: str | None = None) -> None:
        """Changes brightness and contrast of the pictures that are shown, and the tone curve of all pictures.

        Args:
            tone: from now on.
            curve: "camera" or "srgb", for results and recordings, too, see `Pipeline.set_tone`; None leaves it as it
                is.

        Raises:
            PipelineError, ProfileError: see `Pipeline.set_tone`.
        """
        if curve is not None:
            self.pipeline.set_tone(curve)
            self._curve, self._classical = curve, ClassicalIsp(self._profile, tone=curve)
        self._tone = tone
        for channel in self.channels.values():
            channel.redraw()

    def start_recording(self, kind: str) -> None:
        """Starts a recording, see `Recorder.start`.

        Args:
            kind: of it.

        Raises:
            PluginError, SinkError: see there.
        """
        self.recorder.start(kind, tone=self._curve)

    def trigger_event(self) -> None:
        """Records the last seconds and those that follow, see `McapSink.trigger`.

        Raises:
            SinkError: no frames are kept for events.
        """
        if self._events is None:
            raise SinkError("no frames are kept for events: start with before_s (edge-isp serve --before 10s)")
        self._events.trigger("the button of the live view")

    def status(self) -> Status:
        """All numbers of the page."""
        now = time.monotonic_ns()
        newest = self.newest
        return Status(
            state=self.pipeline.state.value,
            reason=self._state_reason,
            uptime_s=round((now - self._started_ns) / 1e9, 1),
            camera=newest.source if newest else "",
            frame=_frame(self._newest_raw()),
            restarts=self.pipeline.restarts,
            views=list(self.channels),
            detector=self._boxes_of is not None,
            models=[self._model(consumer, now) for consumer in self._consumers],
            controls=self.controls.values(self._newest_raw()),
            tone=ToneStatus(self._tone.brightness_ev, self._tone.contrast, self._curve),
            recording=self._recording(now),
            events=self._event_status(),
            board=self._board_now(),
            viewers=self._viewers(),
        )

    def _event_recorder(self, folder: Path) -> McapSink:
        from edge_isp.sinks.mcap import McapSink

        sink = McapSink(folder, before_s=self._before_s, after_s=self._after_s, profile=self._profile)
        self.pipeline.add_sink(sink, name="events", of=self._boxes_of or self._consumers[0])
        return sink

    def _event_status(self) -> EventsStatus | None:
        if self._events is None:
            return None
        return EventsStatus(self._before_s, self._after_s, self._events.triggered, len(self._events.files))

    def _deliver(self, place: int, done: FrameResult) -> None:
        """Passes a result on; in a thread of the pipeline."""
        consumer = self._consumers[place]
        with self._lock:
            self._rates.setdefault(consumer, Rate()).add(done.delivered_ns)
            self._ages_ns[consumer] = done.latency_ns
        self.metrics.observe(done)
        if consumer is self._pictures_of:
            self.channels["network"].offer(done)
        if done.raw is not None:
            self.channels["classical"].offer(done)
        # Encoded once for all listeners, and not at all without any.
        if consumer is self._boxes_of and self.listeners:
            self._in_loop(self._found.publish, msgspec.json.encode(result_json(done)))

    def _note(self, event: Event) -> None:
        if isinstance(event, StateChange):
            self._state_reason = event.reason
            if event.state is PipelineState.FAILED and self._on_failed is not None:
                self._on_failed()

    def _develop(self, done: FrameResult) -> Picture:
        assert done.raw is not None
        return self._classical.develop(done.raw)

    def _exposure(self) -> tuple[int | None, float | None]:
        raw = self._newest_raw()
        return (None, None) if raw is None else (raw.exposure_ns, raw.analogue_gain)

    def _newest_raw(self) -> RawFrame | None:
        newest = self.newest
        return None if newest is None else newest.raw

    def _model(self, consumer: Consumer, now_ns: int) -> Model:
        counts, report = consumer.counts, consumer.report
        with self._lock:
            rate, age_ns = self._rates.get(consumer), self._ages_ns.get(consumer)
        return Model(
            name=consumer.name,
            boxes=consumer is self._boxes_of,
            rate_per_s=round(rate.per_second(now_ns), 2) if rate else 0.0,
            age_ms=None if age_ns is None else round(age_ns / 1e6, 1),
            frames=counts.frames,
            delivered=counts.delivered,
            dropped={reason.value: frames for reason, frames in counts.dropped.items()},
            engine=report.engine if report else "",
            delegate=report.delegate if report else "",
            threads=report.threads if report else 0,
            partitions=[Partition(each.executor, each.nodes) for each in report.partitions] if report else [],
        )

    def _recording(self, now_ns: int) -> RecordingStatus:
        running = self.recorder.running
        return RecordingStatus(
            kinds=list(self.recorder.kinds),
            error=self.recorder.error,
            dropped=sum(self._recording_of.counts.dropped.values()),
            running=None
            if running is None
            else RunningRecording(
                running.kind,
                running.file.name,
                round((now_ns - running.started_ns) / 1e9, 1),
                running.frames,
                running.lost,
            ),
        )

    def _board_now(self) -> BoardStatus:
        with self._board_lock:
            if self._board_status is None or time.monotonic() - self._board_read >= _BOARD_EVERY_S:
                throttling = self._board.throttling()
                self._board_status = BoardStatus(
                    self._board.temperatures_c(), None if throttling is None else list(throttling.now)
                )
                self._board_read = time.monotonic()
            return self._board_status

    def _viewers(self) -> dict[str, int]:
        return {name: channel.viewers for name, channel in self.channels.items()} | {"detections": self.listeners}

    def _in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed
                self._loop.call_soon_threadsafe(function, *arguments)


def _frame(raw: RawFrame | None) -> Frame | None:
    if raw is None:
        return None
    return Frame(raw.sequence, raw.format.width, raw.format.height, raw.sensor, raw.colour_temperature_k)
