"""One model of a pipeline, and its stages: encoding, inference and decoding, each in a thread of its own.

Frames arrive through a queue with the consumer's policy. If that is `LATEST`, an encoded frame that still waits for the
engine is replaced by a newer one too, so that the engine always gets the newest. Tensors are used again: at any time,
one is being encoded, one waits, one is the engine's input, and one is being decoded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import EngineError
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.consumer import Consumer
from edge_isp.pipeline.drops import DropReason
from edge_isp.pipeline.options import QueuePolicy
from edge_isp.pipeline.queue import Ended, FrameQueue
from edge_isp.pipeline.reconnect import ReconnectPolicy
from edge_isp.pipeline.runner import Model, Runner
from edge_isp.pipeline.subscription import Subscription
from edge_isp.pipeline.turns import Turns
from edge_isp.pipeline.watchdog import Heartbeat
from edge_isp.pipeline.work import DAMAGED, Lease, Work
from edge_isp.rate_limit import RateLimiter
from edge_isp.results import Detections, FrameResult
from edge_isp.tracking.following import ObjectFollower
from edge_isp.wall_clock import WallClock

_log = logging.getLogger(__name__)


class Branch:
    """One model of a pipeline, from the first stream to the last.

    Args:
        model: chooses card and task for a frame.
        runner: runs the model.
        every: takes the first frame and every Nth one after it.
        limiter: takes no more frames per second than it passes; None takes all.
        policy: of the queue of frames; None is the stream's.
        in_turn: held while the model runs; other models may share it, those of other pipelines too.
        follower: tracks the objects of a detector; None tracks nothing.

    Attributes:
        consumers: get the results.
    """

    def __init__(
        self,
        model: Model,
        runner: Runner,
        *,
        every: int,
        limiter: RateLimiter | None,
        policy: QueuePolicy | None,
        in_turn: Turns,
        follower: ObjectFollower | None = None,
    ) -> None:
        self.model, self.runner, self.every, self.policy, self.in_turn = model, runner, every, policy, in_turn
        self.limiter, self.follower = limiter, follower
        self.engine_in_use = threading.Lock()  # by a thread that runs it, or waits for its turn
        self.consumers: list[Consumer] = []
        self._lock = threading.Lock()  # of the two below
        self._run: BranchRun | None = None
        self._subscriptions: list[Subscription] = []  # that wait for a stream
        self._tensors: list[NDArray[Any]] = []  # free ones, all of one shape

    def tensor(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A free tensor, with any values.

        Args:
            shape: of the tensor.
            dtype: of the tensor.
        """
        while self._tensors:
            tensor = self._tensors.pop()
            if tensor.shape == shape and tensor.dtype == np.dtype(dtype):
                return tensor
        return np.zeros(shape, dtype)

    def give_back(self, tensor: NDArray[Any]) -> None:
        """Takes a tensor back that is not used any more.

        Args:
            tensor: of `tensor`.
        """
        self._tensors.append(tensor)

    def subscribe(self, subscription: Subscription) -> None:
        """Gives a subscription the results from now on, or those of the next stream where none runs.

        Args:
            subscription: leaves with `unsubscribe`, or when the stream ends.
        """
        with self._lock:
            if self._run is None:
                self._subscriptions.append(subscription)
            else:
                self._run.subscribe(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Gives a subscription no more results. Idempotent.

        Args:
            subscription: see `subscribe`.
        """
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
            if self._run is not None:
                self._run.unsubscribe(subscription)

    @property
    def subscriptions(self) -> list[Subscription]:
        """Those who get results, or wait for a stream."""
        with self._lock:
            return [*self._subscriptions, *(() if self._run is None else self._run.subscriptions)]

    def begin(self, run: BranchRun) -> None:
        """A stream begins.

        Args:
            run: its stages.
        """
        with self._lock:
            self._run, waiting, self._subscriptions = run, self._subscriptions, []
            for subscription in waiting:
                run.subscribe(subscription)

    def forget_run(self) -> None:
        """The stream has stopped: a subscription made now waits for the next one."""
        with self._lock:
            self._run = None

    def close(self) -> None:
        """Closes the engine; not one that a thread is in which was left behind, since that may crash the process."""
        if not self.engine_in_use.acquire(blocking=False):
            _log.error("%s: the engine has not returned from its last call and is left behind", self.model.name)
            return
        try:
            self.runner.close()
        finally:
            self.engine_in_use.release()
        self._tensors.clear()


class BranchRun:
    """The stages of a branch for one stream, from start to stop.

    A thread that was left behind keeps the queues of its own stream, so that it cannot end the next one.

    Args:
        branch: the model and its consumers.
        policy: for a branch without one of its own.
        live: whether frames come at the camera's own pace.
        reconnect: how long making a model ready may take, and how many frames the engine may fail on.
        clock: the pipeline's.
        wall_clock: for results' `timestamp_realtime_ns`.
        failed: called with the error that ends the stream.

    Attributes:
        branch: see above.
        heartbeats: of each stage.
        results: the queue of results of each consumer.
        subscriptions: those who get the results of this stream as well.
    """

    def __init__(
        self,
        branch: Branch,
        policy: QueuePolicy,
        *,
        live: bool,
        reconnect: ReconnectPolicy,
        clock: Clock,
        wall_clock: WallClock,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.branch = branch
        self._clock, self._wall_clock, self._failed = clock, wall_clock, failed
        self._prepare_s = reconnect.prepare_s
        self.heartbeats = {
            stage: Heartbeat(f"{branch.model.name}: {stage}", 2 * reconnect.stall_s)
            for stage in ("encode", "infer", "decode")
        }
        self._frames = 0
        self._failures = 0  # of the engine, in succession
        self._allowed = reconnect.engine_errors if live else 0
        frames = branch.policy or policy
        self._input: FrameQueue[Work] = FrameQueue(frames)
        self._encoded: FrameQueue[Work] = FrameQueue(frames if frames == QueuePolicy.LATEST else QueuePolicy.BLOCK)
        self._inferred: FrameQueue[Work] = FrameQueue(QueuePolicy.BLOCK)
        self.results = {consumer: consumer.open(frames, live=live) for consumer in branch.consumers}
        branch.runner.live = live
        self._frames_policy, self._live = frames, live
        self._lock = threading.Lock()  # of the two below
        self.subscriptions: dict[Subscription, FrameQueue[FrameResult]] = {}  # replaced, never changed
        self._ended: Ended | None = None
        if branch.limiter is not None:
            branch.limiter.restart()
        branch.begin(self)

    def stages(self) -> list[tuple[str, Callable[[], None]]]:
        """Names and bodies of the threads."""
        stages = [("encode", self._encode_all), ("infer", self._infer_all), ("decode", self._decode_all)]
        return [(f"{self.branch.model.name} {name}", body) for name, body in stages]

    def subscribe(self, subscription: Subscription) -> None:
        """Gives a subscription the results from now on.

        Args:
            subscription: see `Branch.subscribe`.
        """
        results = subscription.open(self._frames_policy, live=self._live)
        with self._lock:
            if self._ended is None:
                self.subscriptions = {**self.subscriptions, subscription: results}
                return
        subscription.end(self._ended.error)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Gives a subscription no more results.

        Args:
            subscription: which may have left before.
        """
        with self._lock:
            self.subscriptions = {s: queue for s, queue in self.subscriptions.items() if s is not subscription}

    def _takers(self) -> list[tuple[Consumer, FrameQueue[FrameResult]]]:
        return [*self.results.items(), *self.subscriptions.items()]

    def _end_subscriptions(self, error: BaseException | None) -> None:
        with self._lock:
            self._ended = self._ended or Ended(error)
            left = self.subscriptions
        for subscription in left:
            subscription.end(error)

    def miss(self, reason: DropReason, sequence: int, frames: int) -> None:
        """Frames never came from the camera.

        Args:
            reason: why not.
            sequence: number of the first of them.
            frames: how many there are.
        """
        for consumer in self.results:
            consumer.account.miss(reason, sequence, frames)

    def offer(self, lease: Lease, stages_ns: dict[str, int]) -> None:
        """Queues a frame, or accounts for it. Under the policy `BLOCK` it waits until there is capacity.

        Args:
            lease: the frame's; released once by this branch.
            stages_ns: see `FrameResult`; copied.
        """
        work = self._enter(lease, stages_ns)
        self._frames += 1
        # The limit is of the frames that `every` takes.
        nth, limiter = (self._frames - 1) % self.branch.every == 0, self.branch.limiter
        if not nth or not (limiter is None or limiter.passes(lease.frame.timestamp_ns)):
            self._let_go(work)
            for consumer in self.results:
                consumer.account.skip()
        elif lease.frame.status & DAMAGED:
            self._drop(work, DropReason.CORRUPTED)
        else:
            self._put(self._input, work)

    def refuse(self, lease: Lease) -> None:
        """Accounts for a frame with which the stream ends.

        Args:
            lease: the frame's; released once by this branch.
        """
        self._drop(self._enter(lease, {}), DropReason.STOPPED)

    def _enter(self, lease: Lease, stages_ns: dict[str, int]) -> Work:
        for consumer in (*self.results, *self.subscriptions):
            consumer.enter(lease.frame.timestamp_ns)
        return Work(lease, dict(stages_ns), self._clock.now_ns())

    def end(self, error: BaseException | None) -> None:
        """No more frames will come.

        Args:
            error: what the stream failed with, or None.
        """
        self._input.end(error)

    def abort(self) -> None:
        """Drops everything that waits, and everything that is offered from now on."""
        for queue in (self._input, self._encoded, self._inferred):
            for work in queue.abort():
                self._drop(work, DropReason.STOPPED)
        self._end_subscriptions(None)
        for consumer, results in self._takers():
            consumer.abort(results)

    def _encode_all(self) -> None:
        self._each("encode", self._input, self._encode, self._encoded, self._encoded.end)

    def _infer_all(self) -> None:
        self._each("infer", self._encoded, self._infer, self._inferred, self._inferred.end)

    def _decode_all(self) -> None:
        def end(error: BaseException | None) -> None:
            for results in self.results.values():
                results.end(error)
            self._end_subscriptions(error)

        self._each("decode", self._inferred, self._decode, None, end)

    def _each(
        self,
        stage: str,
        before: FrameQueue[Work],
        do: Callable[[Work], bool],
        after: FrameQueue[Work] | None,
        end: Callable[[BaseException | None], None],
    ) -> None:
        """One stage: works on each frame of a queue and puts it into the next one, until the end.

        An error ends the stream: the frames that this stage has finished still arrive, followed by the error.
        """
        heartbeat = self.heartbeats[stage]
        while True:
            try:
                work = before.take()
            except Ended as ended:
                end(ended.error)
                return
            now = self._clock.now_ns()
            work.queued_ns[stage] = now - work.since_ns
            heartbeat.begin(now)
            try:
                goes_on = do(work)
            except BaseException as error:  # noqa: BLE001 - the consumers get it
                self._failed(error)
                self._drop(work, DropReason.STOPPED)
                end(error)
                for left in before.abort():
                    self._drop(left, DropReason.STOPPED)
                return
            finally:
                heartbeat.rest()
            work.since_ns = self._clock.now_ns()
            if goes_on and after is not None:
                self._put(after, work)

    def _encode(self, work: Work) -> bool:
        if self._stale(work):
            return False
        heartbeat = self.heartbeats["encode"]
        heartbeat.begin(self._clock.now_ns(), self._prepare_s)
        work.card, work.task = self.branch.model.prepare(work.frame)
        heartbeat.begin(self._clock.now_ns())
        shape = work.task.input_shape(work.frame.format)
        work.tensor = self.branch.tensor(shape, work.card.input.dtype)
        begun = self._clock.now_ns()
        work.task.encode(work.frame, work.tensor)
        encoded = self._clock.now_ns()
        work.stages_ns["encode"] = encoded - begun
        if any(consumer.keep_raw for consumer in (*self.results, *self.subscriptions)):
            work.raw = work.frame.copy()
            work.stages_ns["keep"] = self._clock.now_ns() - encoded
        self._release(work)
        return True

    def _infer(self, work: Work) -> bool:
        if self._stale(work):
            return False
        assert work.card is not None
        assert work.task is not None
        assert work.tensor is not None
        waiting = self._clock.now_ns()
        heartbeat, runner = self.heartbeats["infer"], self.branch.runner
        heartbeat.begin(waiting, self._prepare_s)  # another model may be made ready before it is this one's turn
        with self.branch.engine_in_use, self.branch.in_turn:
            heartbeat.begin(self._clock.now_ns(), self._prepare_s)
            try:
                runner.prepare(work.card, work.task, work.tensor.shape)
                begun = self._clock.now_ns()
                heartbeat.begin(begun)
                work.queued_ns["infer"] += begun - waiting
                work.outputs = runner.run(work.tensor)
            except EngineError:
                self._failures += 1
                if self._allowed is not None and self._failures > self._allowed:
                    raise
                self._drop(work, DropReason.ENGINE_ERROR)
                return False
            work.stages_ns["infer"] = self._clock.now_ns() - begun
            work.delegate = runner.delegate
        self._failures = 0
        return True

    def _decode(self, work: Work) -> bool:
        assert work.card is not None
        assert work.task is not None
        assert work.tensor is not None
        begun = self._clock.now_ns()
        result = work.task.decode(work.outputs, work.frame, work.tensor)
        if self.branch.follower is not None and isinstance(result, Detections):
            result = self.branch.follower.update(result)
        now = self._clock.now_ns()
        work.stages_ns["decode"] = now - begun
        self._let_go(work)
        frame = work.frame
        done = FrameResult(
            result=result,
            source=frame.source,
            sequence=frame.sequence,
            timestamp_ns=frame.timestamp_ns,
            stages_ns=work.stages_ns,
            queued_ns=work.queued_ns,
            delivered_ns=now,
            status=frame.status,
            model=work.card.name,
            delegate=work.delegate,
            raw=work.raw,
            wall_clock_offset_ns=self._wall_clock.offset_ns(),
            now_ns=self._clock.now_ns,
        )
        for consumer, results in self._takers():
            consumer.offer(done, results)
        return True

    def _put(self, queue: FrameQueue[Work], work: Work) -> None:
        dropped = queue.put(work)
        if dropped is not None:
            self._drop(dropped, DropReason.STOPPED if dropped is work else DropReason.QUEUE_FULL)

    def _stale(self, work: Work) -> bool:
        """Drops a frame that is too old for every consumer."""
        frame = work.frame
        consumers = (*self.results, *self.subscriptions)
        stale = all(consumer.is_stale(frame.timestamp_ns, frame.status) for consumer in consumers)
        if stale:
            self._drop(work, DropReason.STALE)
            for consumer in consumers:
                consumer.missed()
        return stale

    def _drop(self, work: Work, cause: DropReason) -> None:
        self._let_go(work)
        for consumer in self.results:
            consumer.account.drop(cause, work.frame.sequence)

    def _let_go(self, work: Work) -> None:
        """Returns the frame's buffer and its tensor."""
        self._release(work)
        tensor, work.tensor = work.tensor, None
        if tensor is not None:
            self.branch.give_back(tensor)

    @staticmethod
    def _release(work: Work) -> None:
        if work.leased:
            work.leased = False
            work.lease.release()
