"""Frames from a camera, through models, to those who use the results."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self

from edge_isp.cameras.base import Camera
from edge_isp.engines.base import EngineReport
from edge_isp.errors import PipelineError
from edge_isp.kernels.warmup import compile_pipeline_kernels
from edge_isp.pipeline.branch import Branch
from edge_isp.pipeline.capture import Capture
from edge_isp.pipeline.clock import SystemClock
from edge_isp.pipeline.consumer import Consumer
from edge_isp.pipeline.drops import Account, FrameCounts, PipelineState
from edge_isp.pipeline.options import ModelOptions, QueuePolicy, StreamOptions, check_policy
from edge_isp.pipeline.reconnect import ReconnectPolicy
from edge_isp.pipeline.runner import Model, Runner
from edge_isp.pipeline.sink_writer import SinkWriter
from edge_isp.pipeline.source import Source, camera_or_opener
from edge_isp.pipeline.stage_thread import StageThread
from edge_isp.pipeline.status import Status
from edge_isp.pipeline.watchdog import Heartbeat, Systemd, Watchdog
from edge_isp.results import FrameResult
from edge_isp.sinks.base import Sink

_log = logging.getLogger(__name__)

# When a pipeline stops, a camera that is being read may deliver for this long; then it is closed under the reader.
_LAST_FRAME_S = 1.0
# A thread that has not returned this long after that is left behind: it hangs in somebody's native code.
_LEFT_BEHIND_S = 10.0
# Between two checks of the watchdog.
_CHECK_PERIOD_S = 1.0


class Pipeline:
    """Frames of a camera through models, each stage in a thread of its own; a context manager.

    Iterating over it, `read`, `async for` and a callback give the results of `model`; `add_consumer` adds other models
    and other users of the results, and `add_sink` adds files, videos and whatever else results are written to. The
    stream starts when the first result is asked for, or with `start`. The kernels are compiled, or loaded from their
    cache, when the pipeline is made; a model is loaded when its first frame arrives.

    If a stage or a consumer is slower than the camera, its `QueuePolicy` says what happens. Each dropped frame is
    counted by its cause, see `Consumer.counts`, and reported to `on_event`.

    Args:
        camera: a camera, which is closed together with the pipeline; or a function or class that opens one when it is
            called without arguments, so that the pipeline can open the camera again when it fails. It is called when
            the stream starts.
        model: a model's name, or its options.
        stream: options of the stream; None is `StreamOptions()`.

    Raises:
        ModelError: there is no such model, or it is not what its card says.
        PipelineError: an argument is not what it must be.
        PluginError: there is no such engine.
    """

    def __init__(
        self,
        camera: Camera | Callable[[], Camera],
        model: str | ModelOptions = "rfdcsanet-s",
        stream: StreamOptions | None = None,
    ) -> None:
        if stream is not None and not isinstance(stream, StreamOptions):
            raise PipelineError(f"stream must be StreamOptions, found {type(stream).__name__} {stream!r}")
        options = self._options = stream or StreamOptions()
        self._reconnect, self._clock = options.reconnect or ReconnectPolicy(), options.clock or SystemClock()
        self._systemd = Systemd() if options.notify_systemd else Systemd({})
        self._stop, self._finished = threading.Event(), threading.Event()
        self._finished.set()
        self._status = Status(options.on_event, self._systemd, self._clock, self._stop)
        self._aborting = threading.Lock()
        self._lock = threading.RLock()  # of everything below
        self._ready = self._closed = False
        self._threads: list[StageThread] = []
        self._alive = 0
        self._watchdog: Watchdog | None = None
        self._branches: list[Branch] = []
        self._consumers: list[Consumer] = []
        self._sinks: dict[Consumer, SinkWriter] = {}
        self._heartbeat = Heartbeat("camera")
        self._source = Source(
            *camera_or_opener(camera),
            reconnect=self._reconnect,
            clock=self._clock,
            heartbeat=self._heartbeat,
            report=self._status.change,
            stop=self._stop,
        )
        self._capture = Capture(
            self._source, self._branches, options.auto_exposure, self._status, self._clock, self._stop
        )
        self.add_consumer(
            model,
            policy=options.policy,
            max_age_s=options.max_age_s,
            callback=options.callback,
            keep_raw=options.keep_raw,
        )

    def add_consumer(
        self,
        model: str | ModelOptions | None = None,
        *,
        of: Consumer | None = None,
        name: str | None = None,
        every: int = 1,
        policy: QueuePolicy | None = None,
        max_age_s: float | None = None,
        callback: Callable[[FrameResult], object] | None = None,
        keep_raw: bool = False,
        in_turn_with: Consumer | None = None,
    ) -> Consumer:
        """Adds another consumer of the same camera's frames, before the stream starts.

        Args:
            model: the consumer gets frames through this model, on an engine of its own; a name or options.
            of: the consumer gets the results of this consumer's model, without another inference. Either `model` or
                `of` is given.
            name: in events and statistics; None is the model's name, with a number if it is taken.
            every: takes the first frame (or result, with `of`) and every Nth one after it.
            policy: of the consumer's queues; None is the stream's.
            max_age_s: frames and results that are older than this are dropped; None is unlimited.
            callback: called with each result, in a thread of the pipeline; its exception ends the stream.
            keep_raw: whether results carry a copy of their RAW frame, see `FrameResult.raw`.
            in_turn_with: never runs its model at the same time as this consumer's model: for two models on one NPU.

        Raises:
            ModelError: see `Pipeline`.
            PipelineError: the stream runs, the name is taken, or the arguments contradict each other.
            PluginError: see `Pipeline`.
        """
        if (model is None) == (of is None):
            raise PipelineError("a consumer needs either a model, or another consumer to get the results of")
        if every < 1:
            raise PipelineError(f"every must be at least 1, found {every}")
        check_policy(policy)
        with self._lock:
            if self._threads:
                raise PipelineError("consumers are added before the stream starts, or after `stop`")
            if of is not None:
                branch = self._branch_of(of)
            else:
                assert model is not None
                turns = self._branch_of(in_turn_with).in_turn if in_turn_with else threading.Lock()
                branch = self._new_branch(ModelOptions.of(model), every=every, policy=policy, in_turn=turns)
            consumer = self._new_consumer(
                branch,
                name or self._free_name(branch.model.name),
                every=every if of is not None else 1,
                policy=policy,
                max_age_s=max_age_s,
                callback=callback,
                keep_raw=keep_raw,
            )
            if of is None:
                self._branches.append(branch)
        return consumer

    def add_sink(
        self,
        sink: Sink,
        *,
        name: str | None = None,
        of: Consumer | None = None,
        policy: QueuePolicy | None = None,
    ) -> Consumer:
        """Writes results to a sink, in a thread of its own; before the stream starts.

        A sink that is slower than a camera loses results, counted as `DropReason.SINK_SLOW`, and never stalls the
        stream; for a recording the stream waits for it. An exception of the sink ends the stream, as one of a callback
        does; a sink that can go on after a failure must handle it itself. The pipeline's `close` closes the sink, once,
        after the last write.

        Args:
            sink: belongs to the pipeline from now on.
            name: in events and statistics; None is the name of the sink's class, with a number if it is taken.
            of: whose results are written; None is the pipeline's first consumer.
            policy: of the queue of results; None is the stream's, but `LATEST` where that would wait for the sink while
                a camera runs.

        Raises:
            PipelineError: the stream runs, the name is taken, or `sink` is not a sink.
        """
        if isinstance(sink, type) or not all(callable(getattr(sink, method, None)) for method in ("write", "close")):
            hint = "; edge_isp.sinks.spec.open_sink opens a sink by its specification" if isinstance(sink, str) else ""
            raise PipelineError(
                f"sink must be an object with the methods `write` and `close`, found {type(sink).__name__} "
                f"{sink!r}{hint}"
            )
        check_policy(policy)
        with self._lock:
            if self._threads:
                raise PipelineError("sinks are added before the stream starts, or after `stop`")
            writer = SinkWriter(sink)
            consumer = self._new_consumer(
                self._branch_of(of or self._consumers[0]),
                name or self._free_name(type(sink).__name__),
                policy=policy,
                callback=writer.write,
                keep_raw=bool(getattr(sink, "needs_raw", False)),
                never_blocks=True,
            )
            self._sinks[consumer] = writer
        return consumer

    @property
    def camera(self) -> Camera | None:
        """The camera that is open."""
        return self._source.camera

    @property
    def state(self) -> PipelineState:
        """What the pipeline does."""
        return self._status.state

    @property
    def error(self) -> BaseException | None:
        """The error that the stream failed with."""
        return self._status.error

    @property
    def restarts(self) -> int:
        """How many times the camera was opened again after it had failed."""
        return self._source.restarts

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """All consumers; the first is that of the pipeline's own model."""
        return tuple(self._consumers)

    @property
    def counts(self) -> FrameCounts:
        """What became of the frames for the first consumer."""
        return self._consumers[0].counts

    @property
    def report(self) -> EngineReport | None:
        """What runs the first consumer's model; None before the first frame."""
        return self._consumers[0].report

    def read(self, timeout_s: float | None = None) -> FrameResult | None:
        """The first consumer's next result; see `Consumer.read`.

        Args:
            timeout_s: seconds to wait at most; None is unlimited.
        """
        return self._consumers[0].read(timeout_s)

    def __iter__(self) -> Iterator[FrameResult]:
        return iter(self._consumers[0])

    def __aiter__(self) -> AsyncIterator[FrameResult]:
        return aiter(self._consumers[0])

    def start(self) -> None:
        """Starts the stream; does nothing before `stop` if it has started. After `stop` it starts anew, with the next
        frames, also if it had ended or failed.

        Raises:
            CameraError: the camera cannot be opened.
            PipelineError: the pipeline is closed, or what was opened is no camera.
        """
        with self._lock:
            if self._closed:
                raise PipelineError("the pipeline is closed")
            if self._threads:
                return
            self._source.start()
            self._stop.clear()
            self._finished.clear()
            live = self._source.live
            policy = self._options.policy or (QueuePolicy.LATEST if live else QueuePolicy.BLOCK)
            stages = [("capture", self._capture.run)]
            for branch in self._branches:
                branch.open(policy, live=live)
                stages += branch.stages()
            for consumer in self._consumers:
                if consumer.callback is not None:
                    stages.append((f"{consumer.name} callback", partial(_call_back, consumer)))
            self._status.starting()
            self._alive = len(stages)
            self._threads = [StageThread(name, partial(self._run_stage, body)) for name, body in stages]
            self._watchdog = self._new_watchdog()
            for thread in self._threads:
                thread.start()
            self._watchdog.start()

    def run(self) -> None:
        """Starts the stream and waits for its end, for pipelines with callbacks and sinks.

        A consumer without a callback whose model has a sink is skipped: only the sink gets its results.

        Raises:
            PipelineError: nobody takes the results of a consumer: it has no callback, its model has no sink, and nobody
                has begun to read.
            Exception: the error that the stream failed with: CameraError, ModelError, EngineError, SinkError, an
                exception of a callback, and so on.
        """
        with self._lock:
            if not self._threads:
                self._skip_unread()
                self.start()
        self._finished.wait()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Stops the stream, and drops what is in flight. Models stay loaded and sinks open; a camera that the pipeline
        has opened is closed, another one stays open."""
        self._halt(close_camera=False)

    def close(self) -> None:
        """Stops the stream, and closes the sinks, the engines and the camera. Idempotent.

        Raises:
            SinkError: a sink cannot be completed; everything else is closed nevertheless.
        """
        with self._lock:
            self._closed = True
        self._systemd.notify("STOPPING=1")
        with ExitStack() as stack:
            for branch in self._branches:
                stack.callback(branch.close)
            for writer in self._sinks.values():
                stack.callback(writer.close)
            self._halt(close_camera=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_branch(
        self, options: ModelOptions, *, every: int, policy: QueuePolicy | None, in_turn: threading.Lock
    ) -> Branch:
        model = Model(options)
        compile_pipeline_kernels(model.card.task)
        return Branch(
            model,
            Runner(model, options),
            every=every,
            policy=policy,
            in_turn=in_turn,
            engine_errors=self._reconnect.engine_errors,
            clock=self._clock,
            failed=self._status.fail,
        )

    def _new_consumer(
        self,
        branch: Branch,
        name: str,
        *,
        policy: QueuePolicy | None,
        callback: Callable[[FrameResult], object] | None,
        keep_raw: bool,
        every: int = 1,
        max_age_s: float | None = None,
        never_blocks: bool = False,
    ) -> Consumer:
        if any(consumer.name == name for consumer in self._consumers):
            raise PipelineError(f"there is a consumer named '{name}' already")
        consumer = Consumer(
            name,
            every=every,
            policy=policy,
            max_age_s=max_age_s,
            callback=callback,
            keep_raw=keep_raw,
            never_blocks=never_blocks,
            account=Account(name, self._status.report, self._clock.now_ns),
            clock=self._clock,
            start=self._start_first,
            runner=branch.runner,
        )
        branch.consumers.append(consumer)
        self._consumers.append(consumer)
        return consumer

    def _start_first(self) -> None:
        """Starts the stream when the first result is asked for; not after `stop`, which may have come between two
        requests."""
        with self._lock:
            if self._closed:
                raise PipelineError("the pipeline is closed")
            if self._status.state is PipelineState.IDLE:
                self.start()

    def _skip_unread(self) -> None:
        """Skips results that nobody will ask for, because only sinks take them."""
        unread = [consumer for consumer in self._consumers if consumer.callback is None]
        missing = [c.name for c in unread if not any(other in self._sinks for other in self._branch_of(c).consumers)]
        if missing:
            raise PipelineError(
                f"nobody takes the results of {', '.join(missing)}: give a callback or a sink, or iterate instead"
            )
        for consumer in unread:
            consumer.idle = True

    def _run_stage(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - the consumers get it
            self._status.fail(error)
        finally:
            with self._lock:
                self._alive -= 1
                last = self._alive == 0
            if last:
                self._finished.set()

    def _halt(self, *, close_camera: bool) -> None:
        with self._lock:
            threads, watchdog = self._threads, self._watchdog
        if threads:
            self._stop.set()
            self._abort()
            if not threads[0].join(_LAST_FRAME_S):
                self._source.close()
            for thread in threads:
                if not thread.join(_LEFT_BEHIND_S):
                    _log.error("%s does not return and is left behind", thread.name)
            if watchdog is not None:
                watchdog.stop()
            with self._lock:
                self._threads, self._watchdog = [], None
                for consumer in self._consumers:
                    consumer.idle = False
            self._status.halted()
        if close_camera:
            self._source.close()
        else:
            self._source.stop()

    def _abort(self) -> None:
        """Drops everything in flight, in a thread of its own: Ctrl-C interrupts the main thread between any two steps,
        and the account of the frames would be incomplete."""

        def abort() -> None:
            with self._aborting:  # by an earlier call that was interrupted
                for branch in self._branches:
                    branch.abort()

        thread = StageThread("stop", abort)
        thread.start()
        thread.join()

    def _new_watchdog(self) -> Watchdog:
        beats = [self._heartbeat]
        beats += [beat for branch in self._branches for beat in branch.heartbeats.values()]
        beats += [consumer.heartbeat for consumer in self._consumers]
        sign_of_life_s = self._systemd.watchdog_s
        return Watchdog(
            beats,
            # A read returns after `stall_s`; one that takes twice as long does not respond.
            limit_s=2 * self._reconnect.stall_s,
            period_s=_CHECK_PERIOD_S if sign_of_life_s is None else min(_CHECK_PERIOD_S, sign_of_life_s / 3),
            now_ns=self._clock.now_ns,
            stalled=self._checked,
        )

    def _checked(self, stalled: list[str]) -> None:
        """The watchdog has checked the stages."""
        self._status.stalled(stalled)
        if self._heartbeat.stage in stalled:
            self._source.interrupt()
        if stalled:
            return
        if not self._ready:
            self._ready = any(consumer.offered for consumer in self._consumers)
            if self._ready:
                self._systemd.notify("READY=1")
        if self._ready:
            self._systemd.notify("WATCHDOG=1")

    def _branch_of(self, consumer: Consumer) -> Branch:
        for branch in self._branches:
            if consumer in branch.consumers:
                return branch
        raise PipelineError(f"consumer '{consumer.name}' belongs to another pipeline")

    def _free_name(self, name: str) -> str:
        taken = {consumer.name for consumer in self._consumers}
        return next(n for n in (name, *(f"{name} {i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _call_back(consumer: Consumer) -> None:
    """The thread of a consumer's callback."""
    try:
        consumer.call_back()
    finally:
        consumer.abort()
