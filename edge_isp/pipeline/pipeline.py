"""The loop: frames from a camera, through models, to whoever wants the results."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self

from edge_isp.calibration.profile import SensorProfile
from edge_isp.cameras.base import Camera
from edge_isp.engines.base import EngineReport
from edge_isp.engines.fallback import Delegation
from edge_isp.errors import CameraError, PipelineError
from edge_isp.frame import RawFrame
from edge_isp.kernels.warmup import compile_pipeline_kernels
from edge_isp.metering.exposure import AutoExposure
from edge_isp.models.card import ModelCard
from edge_isp.pipeline.branch import Branch, Lease
from edge_isp.pipeline.clock import Clock, SystemClock
from edge_isp.pipeline.consumer import Consumer, FrameResult
from edge_isp.pipeline.drops import Account, Event, FrameCounts, PipelineState, StateChange
from edge_isp.pipeline.queue import Policy
from edge_isp.pipeline.runner import Model, Runner
from edge_isp.pipeline.source import ReconnectPolicy, Source
from edge_isp.pipeline.watchdog import Heartbeat, Systemd, Watchdog
from edge_isp.tasks.protocol import Task, task_for

_log = logging.getLogger(__name__)

# When a pipeline stops, a camera that is being read may deliver for so long; then it is closed under the reader.
_LAST_FRAME_S = 1.0
# A thread that has not come back so long after that is left behind: it hangs in somebody's native code.
_LEFT_BEHIND_S = 10.0
# Between two looks of the watchdog.
_LOOK_PERIOD_S = 1.0


class Pipeline:
    """Frames of a camera through models, each stage in a thread of its own; a context manager.

    Iterating over it, `read`, `async for` and `callback` are ways to the results of `model`; `add_consumer` adds
    others. The stream starts with the first of these, or with `start`. The kernels are compiled, or loaded from their
    cache, when the pipeline is made; a model is loaded when its first frame arrives.

    Policies say what happens where a stage, or whoever takes the results, is slower than the camera. "latest": a newer
    frame takes the place of the one that waits, so that results are as young as they can be. "wait": the stage before
    waits, so that nothing is lost but what the camera loses. "queue(N)": up to N wait, in order; then the oldest is
    lost. Each loss is counted by its cause, see `Consumer.counts`, and told to `on_event`.

    Args:
        camera: closed together with the pipeline. A function that opens one instead lets the pipeline open it again
            when it fails; it is called when the stream starts.
        model: see `find_model`.
        engine: name of the engine on the CPU; by default the one for the model's file (LiteRT for `.tflite`, ONNX
            Runtime for `.onnx`).
        delegation: which NPU may run the model, and what becomes of one that fails; by default the first that works.
        threads: of the engine; by default one a core.
        profile: of the sensor; by default the shipped one of the frames' sensor.
        correct_shading: undo the lens shading that the profile knows; frames must show the whole sensor.
        make_task: makes the task for a model's card, such as `lambda card: DetectTask(card, input_size=320)`; by
            default the card's own, with profile and lens shading as given here (see `tasks.base.task_for`). A task is
            asked to encode in one thread and to decode in another, when the frame's data is the camera's again.
        auto_exposure: sets the camera's exposure and gain, and the white balance of frames that have none.
        policy: "latest", "wait" or "queue(N)"; by default "latest" for what comes in its own time, and "wait" for
            recordings.
        max_age_s: frames and results that are older are dropped.
        callback: called with every result, in a thread of the pipeline; its exception ends the stream.
        recovery: what the stream survives.
        on_event: called with every `FramesDropped` and `StateChange`, in threads of the pipeline; it must be quick, and its
            exception ends the stream.
        notify_systemd: tell the service manager when the first result is there (READY), that all stages come back
            (WATCHDOG), and the state.
        clock: for simulations.

    Raises:
        ModelError: there is no such model, or it is not what its card says.
        PipelineError: there is no such policy.
        PluginError: there is no such engine.
    """

    def __init__(
        self,
        camera: Camera | Callable[[], Camera],
        *,
        model: str = "rfdcsanet-s",
        engine: str | None = None,
        delegation: Delegation | None = None,
        threads: int | None = None,
        profile: SensorProfile | None = None,
        correct_shading: bool = False,
        make_task: Callable[[ModelCard], Task] | None = None,
        auto_exposure: AutoExposure | None = None,
        policy: str | None = None,
        max_age_s: float | None = None,
        callback: Callable[[FrameResult], object] | None = None,
        recovery: ReconnectPolicy | None = None,
        on_event: Callable[[Event], object] | None = None,
        notify_systemd: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._recovery, self._clock = recovery or ReconnectPolicy(), clock or SystemClock()
        self._auto_exposure, self._metered = auto_exposure, False
        self._on_event, self._default_policy = on_event, policy
        self._systemd = Systemd() if notify_systemd else Systemd({})
        self._stop, self._finished = threading.Event(), threading.Event()
        self._finished.set()
        self._lock = threading.RLock()  # of everything below
        self._state, self._stalled = PipelineState.IDLE, ""
        self._error: BaseException | None = None
        self._ready = False
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._alive = 0
        self._watchdog: Watchdog | None = None
        self._branches: list[Branch] = []
        self._heartbeat = Heartbeat("camera")
        self._source = Source(camera, self._recovery, self._clock, self._heartbeat, self._set_state, self._stop)
        self._consumers: list[Consumer] = []
        self.add_consumer(
            model=model,
            engine=engine,
            delegation=delegation,
            threads=threads,
            profile=profile,
            correct_shading=correct_shading,
            make_task=make_task,
            policy=policy,
            max_age_s=max_age_s,
            callback=callback,
        )

    def add_consumer(
        self,
        *,
        model: str | None = None,
        of: Consumer | None = None,
        name: str | None = None,
        engine: str | None = None,
        delegation: Delegation | None = None,
        threads: int | None = None,
        profile: SensorProfile | None = None,
        correct_shading: bool = False,
        make_task: Callable[[ModelCard], Task] | None = None,
        every: int = 1,
        policy: str | None = None,
        max_age_s: float | None = None,
        callback: Callable[[FrameResult], object] | None = None,
        in_turn_with: Consumer | None = None,
    ) -> Consumer:
        """Another one who gets results of the same camera; before the stream starts.

        Args:
            model: gets frames through this model, on an engine of its own; or
            of: gets the results that another consumer's model makes, without another inference.
            name: in events and statistics; by default the model's, with a number where it is taken.
            every: takes every so many-th frame (or result, with `of`), from the first one on.
            policy: by default the pipeline's.
            in_turn_with: never runs its model at the same time as this one's: two models on one NPU.
            engine, delegation, threads, profile, correct_shading, make_task, max_age_s, callback: see `Pipeline`.

        Raises:
            ModelError, PluginError: see `Pipeline`.
            PipelineError: the stream runs, the name is taken, or the arguments contradict each other.
        """
        if (model is None) == (of is None):
            raise PipelineError("a consumer needs either a model, or another consumer to get the results of")
        if every < 1:
            raise PipelineError(f"every must be at least 1, found {every}")
        if policy is not None:
            Policy.parse(policy)
        with self._lock:
            if self._threads:
                raise PipelineError("consumers are added before the stream starts, or after `stop`")
            if of is not None:
                branch = self._branch_of(of)
            else:
                assert model is not None
                chosen = Model(model, make_task or partial(task_for, profile=profile, correct_shading=correct_shading))
                compile_pipeline_kernels(chosen.card.task)
                branch = Branch(
                    chosen,
                    Runner(chosen, engine=engine, delegation=delegation, threads=threads),
                    every=every,
                    policy=policy,
                    in_turn=self._branch_of(in_turn_with).in_turn if in_turn_with else threading.Lock(),
                    engine_errors=self._recovery.engine_errors,
                    clock=self._clock,
                    failed=self._fail,
                )
            name = name or self._free_name(branch.model.name)
            if any(consumer.name == name for consumer in self._consumers):
                raise PipelineError(f"there is a consumer named '{name}' already")
            consumer = Consumer(
                name,
                every=every if of is not None else 1,
                policy=policy,
                max_age_s=max_age_s,
                callback=callback,
                account=Account(name, self._tell, self._clock.now_ns),
                clock=self._clock,
                start=self._start_first,
                runner=branch.runner,
            )
            branch.consumers.append(consumer)
            self._consumers.append(consumer)
            if of is None:
                self._branches.append(branch)
        return consumer

    @property
    def camera(self) -> Camera | None:
        """The camera that is open."""
        return self._source.camera

    @property
    def state(self) -> PipelineState:
        """What the pipeline does."""
        with self._lock:
            return PipelineState.STALLED if self._stalled else self._state

    @property
    def error(self) -> BaseException | None:
        """What the stream failed with."""
        return self._error

    @property
    def restarts(self) -> int:
        """How many times the camera was opened again after it had failed."""
        return self._source.restarts

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """All of them; the first is that of the pipeline's own model."""
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
        """The first consumer's next result; see `Consumer.read`."""
        return self._consumers[0].read(timeout_s)

    def __iter__(self) -> Iterator[FrameResult]:
        return iter(self._consumers[0])

    def __aiter__(self) -> AsyncIterator[FrameResult]:
        return aiter(self._consumers[0])

    def start(self) -> None:
        """Starts the stream; where it has started, does nothing. After `stop` it starts anew, with the next frames; so
        does one that has ended or failed.

        Raises:
            CameraError: the camera cannot be opened.
            PipelineError: the pipeline is closed.
        """
        with self._lock:
            if self._closed:
                raise PipelineError("the pipeline is closed")
            if self._threads:
                return
            self._source.start()
            self._stop.clear()
            self._finished.clear()
            self._error, self._metered = None, False
            live = self._source.live
            policy = self._default_policy or ("latest" if live else "wait")
            stages = [("capture", self._capture)]
            for branch in self._branches:
                branch.open(policy, live=live)
                stages += branch.stages()
            for consumer in self._consumers:
                if consumer.callback is not None:
                    stages.append((f"{consumer.name} callback", partial(self._call_back, consumer)))
            self._set_state(PipelineState.STARTING, "")
            self._alive = len(stages)
            self._threads = [
                threading.Thread(target=self._run_stage, args=(body,), name=f"edge_isp {name}", daemon=True)
                for name, body in stages
            ]
            self._watchdog = self._new_watchdog()
            for thread in self._threads:
                thread.start()
            self._watchdog.start()

    def _start_first(self) -> None:
        """Starts the stream for whoever asks for results first; not after `stop`, which may have come between two of
        their questions."""
        with self._lock:
            if self._closed:
                raise PipelineError("the pipeline is closed")
            if self._state is PipelineState.IDLE:
                self.start()

    def run(self) -> None:
        """Starts the stream and waits for its end, for pipelines that live by callbacks.

        Raises:
            PipelineError: a consumer has no callback, and nobody has begun to take its results.
            What the stream fails with: CameraError, ModelError, EngineError, an exception of a callback, and so on.
        """
        if not self._threads and (idle := [c.name for c in self._consumers if c.callback is None]):
            raise PipelineError(f"nobody takes the results of {', '.join(idle)}: give a callback, or iterate instead")
        self.start()
        self._finished.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stops the stream, and drops what is on its way. Models stay loaded; a camera that was opened by the pipeline
        is closed, another one stays open."""
        self._halt(close_camera=False)

    def close(self) -> None:
        """Stops the stream, and closes the engines and the camera. Doing so twice does no harm."""
        with self._lock:
            self._closed = True
        self._systemd.notify("STOPPING=1")
        try:
            self._halt(close_camera=True)
        finally:
            for branch in self._branches:
                branch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _capture(self) -> None:
        """The camera's thread. Metering is a part of it: cameras need not be asked from two threads at once."""
        try:
            while not self._stop.is_set():
                begun = self._clock.now_ns()
                found = self._source.read()
                if found is None:
                    return
                frame, missing = found
                self._set_state(PipelineState.RUNNING, "")
                stages_ns = {"read": self._clock.now_ns() - begun}
                frame = self._meter(frame, stages_ns)
                lease = Lease(frame, len(self._branches))
                for branch in self._branches:
                    if missing:
                        branch.miss(frame.sequence - missing, missing)
                    branch.offer(lease, stages_ns)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            if not self._stop.is_set():
                self._set_state(PipelineState.ENDED, "")
            for branch in self._branches:
                branch.end(self._error)

    def _meter(self, frame: RawFrame, stages_ns: dict[str, int]) -> RawFrame:
        """The frame with its white balance. Where the camera fails meanwhile, the frame as it is: it is a good one."""
        camera = self._source.camera
        if self._auto_exposure is None or camera is None:
            return frame
        begun = self._clock.now_ns()
        try:
            frame = self._auto_exposure.adjust(frame, camera)
            self._metered = True
        except CameraError as error:
            # A camera that could be set before has failed; another one never can.
            if not self._metered or not self._source.failed(error):
                self._fail(error)
        stages_ns["meter"] = self._clock.now_ns() - begun
        return frame

    def _call_back(self, consumer: Consumer) -> None:
        """The thread of a consumer's callback."""
        try:
            consumer.call_back()
        finally:
            consumer.abort()

    def _run_stage(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - the consumers get it
            self._fail(error)
        finally:
            with self._lock:
                self._alive -= 1
                last = self._alive == 0
            if last:
                self._finished.set()

    def _fail(self, error: BaseException) -> None:
        """Ends the stream with an error; the first one counts."""
        with self._lock:
            if self._error is None:
                self._error = error
        self._stop.set()
        self._set_state(PipelineState.FAILED, str(self._error))

    def _halt(self, *, close_camera: bool) -> None:
        with self._lock:
            threads, watchdog = self._threads, self._watchdog
        if threads:
            self._stop.set()
            for branch in self._branches:
                branch.abort()
            _join(threads[0], _LAST_FRAME_S)
            if threads[0].is_alive() and threads[0] is not threading.current_thread():
                self._source.close()
            for thread in threads:
                _join(thread, _LEFT_BEHIND_S)
                if thread.is_alive() and thread is not threading.current_thread():
                    _log.error("%s does not come back and is left behind", thread.name)
            if watchdog is not None:
                watchdog.stop()
            with self._lock:
                self._threads, self._watchdog = [], None
            if self._state is not PipelineState.ENDED:
                self._set_state(PipelineState.STOPPED, "")
        if close_camera:
            self._source.close()
        else:
            self._source.stop()

    def _new_watchdog(self) -> Watchdog:
        beats = [self._heartbeat]
        beats += [beat for branch in self._branches for beat in branch.heartbeats.values()]
        beats += [consumer.heartbeat for consumer in self._consumers]
        sign_of_life_s = self._systemd.watchdog_s
        return Watchdog(
            beats,
            # A read comes back after `stall_s`; what takes twice as long does not.
            limit_s=2 * self._recovery.stall_s,
            period_s=_LOOK_PERIOD_S if sign_of_life_s is None else min(_LOOK_PERIOD_S, sign_of_life_s / 3),
            now_ns=self._clock.now_ns,
            stalled=self._looked,
        )

    def _looked(self, stalled: list[str]) -> None:
        """What the watchdog saw."""
        reason = f"does not come back: {', '.join(stalled)}" if stalled else ""
        with self._lock:
            changed, self._stalled = reason != self._stalled, reason
            state = PipelineState.STALLED if stalled else self._state
        if changed:
            self._tell_state(state, reason)
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

    def _set_state(self, state: PipelineState, reason: str) -> None:
        with self._lock:
            failed = self._state is PipelineState.FAILED and state is not PipelineState.STARTING
            if failed or state is self._state:
                return
            self._state, self._stalled = state, ""
        self._tell_state(state, reason)

    def _tell_state(self, state: PipelineState, reason: str) -> None:
        self._systemd.notify(f"STATUS={state}{': ' if reason else ''}{reason}")
        self._tell(StateChange(state, reason, self._clock.now_ns()))

    def _tell(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except BaseException as error:  # noqa: BLE001 - the consumers get it
            self._fail(error)

    def _branch_of(self, consumer: Consumer) -> Branch:
        for branch in self._branches:
            if consumer in branch.consumers:
                return branch
        raise PipelineError(f"consumer '{consumer.name}' belongs to another pipeline")

    def _free_name(self, model: str) -> str:
        taken = {consumer.name for consumer in self._consumers}
        return next(n for n in (model, *(f"{model} {i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _join(thread: threading.Thread, timeout_s: float) -> None:
    if thread is not threading.current_thread():
        thread.join(timeout_s)
