"""Frames from a camera, through models, to those who use the results."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

from edge_isp.cameras.base import Camera
from edge_isp.engines.base import EngineEvent, EngineReport
from edge_isp.errors import PipelineError
from edge_isp.frame import RawFrame
from edge_isp.kernels.warmup import compile_pipeline_kernels
from edge_isp.pipeline.branch import Branch
from edge_isp.pipeline.clock import SystemClock
from edge_isp.pipeline.consumer import Consumer
from edge_isp.pipeline.deadline import Deadline
from edge_isp.pipeline.drops import Account, DelegateChange, Event, FrameCounts, PipelineState, event_message
from edge_isp.pipeline.options import ModelOptions, QueuePolicy, StreamOptions, check_policy
from edge_isp.pipeline.reconnect import ReconnectPolicy
from edge_isp.pipeline.runner import Model, Runner
from edge_isp.pipeline.sink_writer import SinkWriter
from edge_isp.pipeline.source import Source, camera_or_opener
from edge_isp.pipeline.stage_thread import StageThread
from edge_isp.pipeline.status import Status
from edge_isp.pipeline.stream import Stream
from edge_isp.pipeline.subscription import Subscription
from edge_isp.pipeline.transitions import Transitions
from edge_isp.pipeline.turns import Turns
from edge_isp.pipeline.watchdog import Systemd
from edge_isp.rate_limit import RateLimiter
from edge_isp.results import FrameResult
from edge_isp.sinks.base import Sink
from edge_isp.wall_clock import WallClock

_log = logging.getLogger(__name__)

# Between two looks at the deadlines of consumers.
_SHORTEST_CHECK_S = 0.02


class Pipeline:
    """Frames of a camera through models, each stage in a thread of its own; a context manager.

    Iterating over it, `read`, `async for` and a callback give the results of `model`; `add_consumer` adds other models
    and other users of the results, and `add_sink` adds files, videos and whatever else results are written to. The
    stream starts when the first result is asked for, or with `start`. Then the camera is opened first, since what is
    wrong with it is known at once; the kernels are compiled, or loaded from their cache, after that; a model is loaded
    when its first frame arrives.

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
        self._wall_clock = options.wall_clock or WallClock()
        self._systemd = Systemd() if options.notify_systemd else Systemd({})
        self._status = Status(self._on_event, self._systemd, self._clock, 2 * self._reconnect.stall_s)
        self._camera, self._opener = camera_or_opener(camera)
        self._transitions = Transitions(self, self._failed_unheard)
        self._lock = threading.RLock()  # of everything below; held for moments only
        self._ready = self._closed = self._everything_closed = False
        self._subscribed = 0  # how many subscriptions there have been
        self._restarts = 0  # of the streams before the present one
        self._stream: Stream | None = None
        self._branches: list[Branch] = []
        self._consumers: list[Consumer] = []
        self._sinks: dict[Consumer, SinkWriter] = {}
        self._taps: list[Callable[[RawFrame], object]] = []  # of sinks, see `Sink`
        self._listeners: list[Callable[[dict[str, Any]], object]] = []
        self.add_consumer(
            model,
            policy=options.policy,
            max_age_s=options.max_age_s,
            max_fps=options.max_fps,
            callback=options.callback,
            keep_raw=options.keep_raw,
            in_turn_with=options.in_turn_with,
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
        max_fps: float | None = None,
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
            max_age_s: frames and results that are older than this are dropped, and `DeadlineMissed` is reported when
                there is none that is young enough; None is unlimited.
            max_fps: most frames (or results, with `of`) per second, by the time of the sensor; None is
                unlimited.
            callback: called with each result, in a thread of the pipeline; its exception ends the stream.
            keep_raw: whether results carry a copy of their RAW frame, see `FrameResult.raw`.
            in_turn_with: never runs its model at the same time as this consumer's model: for two models on one NPU. The
                consumer may be of another pipeline.

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
            if self._stream is not None:
                raise PipelineError("consumers are added before the stream starts, or after `stop`")
            if of is not None:
                branch = self._branch_of(of)
            else:
                assert model is not None
                turns = in_turn_with.turns if in_turn_with else Turns()
                limiter = None if max_fps is None else RateLimiter(max_fps)
                branch = self._new_branch(
                    ModelOptions.of(model), every=every, limiter=limiter, policy=policy, in_turn=turns
                )
            consumer = self._new_consumer(
                branch,
                name or self._free_name(branch.model.name),
                shares_model=of is not None,
                every=every,
                policy=policy,
                max_age_s=max_age_s,
                max_fps=max_fps,
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
            policy: of the queue of results; None is the sink's own (`Sink`), else the stream's, but `LATEST` where that
                would wait for the sink while a camera runs.

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
        needs_raw = getattr(sink, "needs_raw", False)
        if needs_raw not in (True, False, "detections"):
            raise PipelineError(
                f"{type(sink).__name__}: needs_raw must be True, False or 'detections', found {needs_raw!r}"
            )
        own = getattr(sink, "policy", None)
        if policy is None and own is not None:
            policy = QueuePolicy.parse(own)
        with self._lock:
            if self._stream is not None:
                raise PipelineError("sinks are added before the stream starts, or after `stop`")
            writer, branch = SinkWriter(sink), self._branch_of(of or self._consumers[0])
            consumer = self._new_consumer(
                branch,
                name or self._free_name(type(sink).__name__),
                shares_model=True,
                policy=policy,
                callback=writer.write,
                keep_raw=branch.model.card.task == "detector" if needs_raw == "detections" else bool(needs_raw),
                never_blocks=True,
            )
            self._sinks[consumer] = writer
            if callable(tap := getattr(sink, "frame_arrived", None)):
                self._taps.append(tap)
            if callable(listener := getattr(sink, "event", None)):
                self._listeners.append(listener)
        return consumer

    def subscribe(
        self,
        *,
        of: Consumer | None = None,
        name: str | None = None,
        every: int = 1,
        policy: QueuePolicy | None = None,
        max_age_s: float | None = None,
        max_fps: float | None = None,
        keep_raw: bool = False,
    ) -> Subscription:
        """The results of a model from now on, also while the stream runs, for one who comes and goes: a client of a
        server, for example.

        Args:
            of: the results of this consumer's model; None is the pipeline's first consumer. Its own results are skipped
                until they are asked for.
            name: in events; None is made from the model's name.
            every: takes the first result and every Nth one after it.
            policy: of the queue of results; None is the stream's, but `LATEST` where that would wait while a camera
                runs.
            max_age_s: see `add_consumer`.
            max_fps: see `add_consumer`.
            keep_raw: see `add_consumer`.

        Returns:
            A subscription, to be closed when it is not needed any more.

        Raises:
            PipelineError: the pipeline is closed, or an argument is out of range.
        """
        if every < 1:
            raise PipelineError(f"every must be at least 1, found {every}")
        check_policy(policy)
        with self._lock:
            if self._closed:
                raise PipelineError("the pipeline is closed")
            branch = self._branch_of(of or self._consumers[0])
            self._subscribed += 1
            name = name or f"{branch.model.name} subscription {self._subscribed}"
            subscription = Subscription(
                name,
                leave=branch.unsubscribe,
                **self._consumer_options(
                    branch,
                    name,
                    shares_model=True,
                    every=every,
                    policy=policy,
                    max_age_s=max_age_s,
                    max_fps=max_fps,
                    callback=None,
                    keep_raw=keep_raw,
                    never_blocks=True,
                ),
            )
            branch.subscribe(subscription)
            self._skip_unasked(branch)
        return subscription

    @property
    def camera(self) -> Camera | None:
        """The camera that is open."""
        stream = self._stream
        return self._camera if stream is None else stream.source.camera

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
        with self._lock:
            return self._restarts + (0 if self._stream is None else self._stream.source.restarts)

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """All consumers; the first is that of the pipeline's own model."""
        return tuple(self._consumers)

    @property
    def counts(self) -> FrameCounts:
        """What became of the frames for the first consumer."""
        return self._consumers[0].counts

    def set_tone(self, tone: str) -> None:
        """Changes the tone curve of the pictures that are decoded from now on; the stream may be running.

        Args:
            tone: "camera" or "srgb", see `ModelOptions`.

        Raises:
            PipelineError: a model has a task of its own, `ModelOptions.make_task`.
            ProfileError: there is no such tone.
        """
        for branch in self._branches:
            branch.model.set_tone(tone)

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

    def newest(self, consumer: Consumer | None = None) -> FrameResult | None:
        """The newest result that was not delivered yet, or None; see `Consumer.newest`. It never waits.

        Args:
            consumer: whose result; None is the first one.

        Raises:
            PipelineError: the consumer belongs to another pipeline, or the pipeline is closed.
            Exception: the error that the stream failed with.
        """
        if consumer is None:
            consumer = self._consumers[0]
        elif not isinstance(consumer, Subscription):
            self._branch_of(consumer)
        return consumer.newest()

    def __iter__(self) -> Iterator[FrameResult]:
        return iter(self._consumers[0])

    def __aiter__(self) -> AsyncIterator[FrameResult]:
        return aiter(self._consumers[0])

    def start(self) -> None:
        """Starts the stream; does nothing before `stop` if it has started. After `stop` it starts anew, with the next
        frames, also if it had ended or failed.

        Like `stop` and `close`, it may be called in any thread. In a thread of the pipeline (in a callback, a sink or
        `on_event`) it returns at once, and the stream starts after that; an error then makes the state `FAILED`.

        Raises:
            CameraError: the camera cannot be opened.
            PipelineError: the pipeline is closed, what was opened is no camera, or a thread cannot be started.
        """
        if self._closed and not StageThread.runs_in(self):
            raise PipelineError("the pipeline is closed")
        self._transitions.run("start", self._start_now)

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
            if self._stream is None:
                self._skip_unread()
        self.start()
        stream = self._stream
        if stream is not None:
            stream.finished.wait()
        self._transitions.settle()  # a callback may have stopped it
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Stops the stream, and drops what is in flight. Models stay loaded and sinks open; a camera that the pipeline
        has opened is closed, another one stays open.

        In a thread of the pipeline it returns at once, and the stream stops after that.
        """
        self._request_stop()
        self._transitions.run("stop", self._stop_now)

    def close(self) -> None:
        """Stops the stream, and closes the sinks, the engines and the camera. Idempotent.

        In a thread of the pipeline it returns at once, and the pipeline is closed after that.

        Raises:
            SinkError: a sink cannot be completed; everything else is closed nevertheless.
            Exception: of the camera's `close`, if the pipeline has not opened it itself.
        """
        with self._lock:
            self._closed = True
        self._request_stop()
        self._transitions.run("close", self._close_now, final=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def _new_branch(
        self,
        options: ModelOptions,
        *,
        every: int,
        limiter: RateLimiter | None,
        policy: QueuePolicy | None,
        in_turn: Turns,
    ) -> Branch:
        model = Model(options)
        return Branch(
            model,
            Runner(model, options, partial(self._on_engine_event, model.name)),
            every=every,
            limiter=limiter,
            policy=policy,
            in_turn=in_turn,
            follower=options.follower(model.card),
        )

    def _new_consumer(self, branch: Branch, name: str, **options: Any) -> Consumer:
        if any(consumer.name == name for consumer in self._consumers):
            raise PipelineError(f"there is a consumer named '{name}' already")
        consumer = Consumer(name, **self._consumer_options(branch, name, **options))
        branch.consumers.append(consumer)
        self._consumers.append(consumer)
        return consumer

    def _consumer_options(
        self,
        branch: Branch,
        name: str,
        *,
        shares_model: bool,
        policy: QueuePolicy | None,
        callback: Callable[[FrameResult], object] | None,
        keep_raw: bool,
        every: int = 1,
        max_age_s: float | None = None,
        max_fps: float | None = None,
        never_blocks: bool = False,
    ) -> dict[str, Any]:
        """The arguments of `Consumer`. Where it shares the model of others, results are left out; where the model is
        its own, the branch has left out the frames."""
        limiter = None if max_fps is None else RateLimiter(max_fps)
        deadline = None
        if max_age_s is not None:
            limits = (limiter, branch.limiter)
            deadline = Deadline(
                name,
                max_age_s,
                every=every * (branch.every if shares_model else 1),
                period_ns=max((limit.period_ns for limit in limits if limit is not None), default=0.0),
                report=self._status.report,
                now_ns=self._clock.now_ns,
            )
        return {
            "every": every if shares_model else 1,
            "limiter": limiter if shares_model else None,
            "deadline": deadline,
            "policy": policy,
            "callback": callback,
            "keep_raw": keep_raw,
            "never_blocks": never_blocks,
            "account": Account(name, self._status.report, self._clock.now_ns),
            "clock": self._clock,
            "start": self._start_first,
            "start_soon": self._start_soon,
            "runner": branch.runner,
            "turns": branch.in_turn,
        }

    def _on_event(self, event: Event) -> None:
        """Passes an event to the user and to the sinks that want it."""
        for listener in self._listeners:
            listener(event_message(event))
        if self._options.on_event is not None:
            self._options.on_event(event)

    def _on_engine_event(self, model: str, event: EngineEvent) -> None:
        """Reports what happened to an NPU as an event of the stream."""
        self._status.report(DelegateChange(model, event.kind, event.delegate, event.reason, self._clock.now_ns()))

    def _start_first(self) -> None:
        """Starts the stream when the first result is asked for; not after `stop`, which may have come between two
        requests."""
        if self._closed:
            raise PipelineError("the pipeline is closed")
        if self._status.state is PipelineState.IDLE:
            self.start()

    def _start_soon(self) -> None:
        """Like `_start_first`, but does not wait; raises the error of a start that has failed."""
        if self._closed:
            raise PipelineError("the pipeline is closed")
        state = self._status.state
        if state is PipelineState.IDLE and not self._transitions.is_busy:
            self._transitions.run("start", self._start_now, wait=False)
        elif state is PipelineState.FAILED and self._stream is None and self.error is not None:
            raise self.error

    def _skip_unasked(self, branch: Branch) -> None:
        """Skips the results of those who have never asked, since others subscribe."""
        if branch.subscriptions:
            for consumer in branch.consumers:
                consumer.idle = consumer.idle or (consumer.callback is None and not consumer.asked)

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

    def _start_now(self) -> None:
        """Starts the stream; one of the `Transitions`."""
        with self._lock:
            if self._closed or self._stream is not None:
                return
            stream = self._stream = self._new_stream()
            for branch in self._branches:
                self._skip_unasked(branch)
        try:
            stream.start()
        except BaseException as error:
            with self._lock:
                self._forget_stream(stream)
            self._status.not_started(str(error))
            raise

    def _stop_now(self) -> None:
        """Stops the stream; one of the `Transitions`."""
        stream = self._stream
        if stream is None:
            return
        try:
            stream.halt()
        finally:
            with self._lock:
                self._forget_stream(stream)
                for branch in self._branches:
                    branch.forget_run()
                for consumer in self._consumers:
                    consumer.idle = False
            self._status.halted()

    def _close_now(self) -> None:
        """Stops the stream and closes everything; one of the `Transitions`."""
        with self._lock:
            was_closed, self._everything_closed = self._everything_closed, True
        if was_closed:
            return
        self._systemd.notify("STOPPING=1")
        with ExitStack() as stack:
            if self._camera is not None:
                stack.callback(self._camera.close)
            for branch in self._branches:
                stack.callback(branch.close)
            for writer in self._sinks.values():
                stack.callback(writer.close)
            self._stop_now()

    def _request_stop(self) -> None:
        """Lets a stream come to its end that is about to be stopped, also while it starts."""
        stream = self._stream
        if stream is None:
            return
        stream.request_stop()
        if StageThread.runs_in(self):
            stream.abort()  # in other threads, Ctrl-C might interrupt it

    def _forget_stream(self, stream: Stream) -> None:
        self._restarts += stream.source.restarts
        self._stream = None

    def _failed_unheard(self, error: BaseException) -> None:
        """A start, stop or close has failed that a thread of the pipeline asked for."""
        _log.error("%s: %s", type(error).__name__, error)
        self._status.fail(error)

    def _new_stream(self) -> Stream:
        options, stop = self._options, threading.Event()
        source = Source(
            self._camera,
            self._opener,
            reconnect=self._reconnect,
            clock=self._clock,
            report=partial(self._status.change, stream=stop),
            report_event=self._status.report,
            failed=partial(self._status.fail, stream=stop),
            stop=stop,
            taps=self._taps,
        )
        # Deadlines are noticed while nothing moves by the watchdog alone.
        ages_s = [c.deadline.max_age_ns / 1e9 for c in self._everybody() if c.deadline is not None]
        periods_s = [max(_SHORTEST_CHECK_S, age_s / 4) for age_s in ages_s]
        if self._systemd.watchdog_s is not None:
            periods_s.append(self._systemd.watchdog_s / 3)
        return Stream(
            source,
            self._branches,
            options=options,
            reconnect=self._reconnect,
            status=self._status,
            clock=self._clock,
            wall_clock=self._wall_clock,
            stop=stop,
            watchdog_s=min(periods_s, default=None),
            checked=self._checked,
            prepare=self._compile_kernels,
            owner=self,
        )

    def _compile_kernels(self) -> None:
        for task in sorted({branch.model.card.task for branch in self._branches}):
            compile_pipeline_kernels(task)

    def _checked(self, stalled: list[str]) -> None:
        """The watchdog has checked the stages."""
        self._status.stalled(stalled)
        if self.state in (PipelineState.RUNNING, PipelineState.STALLED, PipelineState.RECOVERING):
            for consumer in self._everybody():
                if consumer.deadline is not None and not consumer.idle:
                    consumer.deadline.check()
        stream = self._stream
        if stream is not None and stream.source.heartbeat.stage in stalled:
            stream.source.interrupt()
        if stalled:
            return
        if not self._ready:
            self._ready = any(consumer.offered for consumer in self._consumers)
            if self._ready:
                self._systemd.notify("READY=1")
        if self._ready:
            self._systemd.notify("WATCHDOG=1")

    def _everybody(self) -> list[Consumer]:
        """All consumers, those who subscribed included."""
        return [consumer for branch in self._branches for consumer in (*branch.consumers, *branch.subscriptions)]

    def _branch_of(self, consumer: Consumer) -> Branch:
        for branch in self._branches:
            if consumer in branch.consumers:
                return branch
        raise PipelineError(f"consumer '{consumer.name}' belongs to another pipeline")

    def _free_name(self, name: str) -> str:
        taken = {consumer.name for consumer in self._consumers}
        return next(n for n in (name, *(f"{name} {i}" for i in range(2, len(taken) + 3))) if n not in taken)
