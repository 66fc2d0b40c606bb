"""One model's way through a pipeline: encode, infer and decode, each in a thread of its own.

Frames come through a hand-over with the consumer's policy. Where that is "latest", an encoded frame that still waits
for the engine loses its place to a newer one too, so that the engine always gets the newest. Tensors go round: one is
encoded, one waits, one is inferred, one is decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import EngineError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.models.card import ModelCard
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.consumer import Consumer, FrameResult
from edge_isp.pipeline.drops import DropReason
from edge_isp.pipeline.queue import Ended, FrameQueue, Policy
from edge_isp.pipeline.runner import Model, Runner
from edge_isp.pipeline.watchdog import Heartbeat
from edge_isp.tasks.protocol import Task

_DAMAGED = FrameStatus.CORRUPTED | FrameStatus.TRUNCATED


class Lease:
    """A frame that several branches read; its buffer goes back to the camera when the last one is done."""

    def __init__(self, frame: RawFrame, readers: int) -> None:
        self.frame = frame
        self._readers = readers
        self._lock = threading.Lock()

    def release(self) -> None:
        """One reader is done."""
        with self._lock:
            self._readers -= 1
            last = self._readers == 0
        if last:
            self.frame.release()


@dataclass(slots=True)
class Work:
    """A frame on its way through a branch.

    Attributes:
        since_ns: when it began to wait for the next stage.
    """

    lease: Lease
    stages_ns: dict[str, int]
    since_ns: int
    queued_ns: dict[str, int] = field(default_factory=dict)
    card: ModelCard | None = None
    task: Task | None = None
    tensor: NDArray[Any] | None = None
    outputs: list[NDArray[Any]] = field(default_factory=list)
    delegate: str = ""
    leased: bool = True

    @property
    def frame(self) -> RawFrame:
        """What is known of the frame; its data only as long as it is `leased`."""
        return self.lease.frame


class Branch:
    """The stages of one model.

    Args:
        every: takes every so many-th frame.
        policy: of the hand-over of frames; None for the pipeline's.
        in_turn: held while the model runs.
        engine_errors: see `ReconnectPolicy`.
        failed: called with the error that ends the stream.
    """

    def __init__(
        self,
        model: Model,
        runner: Runner,
        *,
        every: int,
        policy: str | None,
        in_turn: threading.Lock,
        engine_errors: int | None,
        clock: Clock,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.model, self.runner, self.in_turn = model, runner, in_turn
        self.consumers: list[Consumer] = []
        self.heartbeats = {stage: Heartbeat(f"{model.name}: {stage}") for stage in ("encode", "infer", "decode")}
        self._every, self._policy, self._engine_errors = every, policy, engine_errors
        self._clock, self._failed = clock, failed
        self._frames = 0
        self._failures = 0  # of the engine, in a row
        self._tensors: list[NDArray[Any]] = []  # free ones, all of one shape

    def open(self, policy: str, *, live: bool) -> None:
        """Makes ready for frames.

        Args:
            policy: where the branch has none of its own.
            live: whether frames come in their own time.
        """
        self._frames = self._failures = 0
        self._allowed = self._engine_errors if live else 0
        frames = Policy.parse(self._policy or policy)
        newest = frames == Policy.parse("latest")
        self._input: FrameQueue[Work] = FrameQueue(frames)
        self._encoded: FrameQueue[Work] = FrameQueue(Policy.parse("latest" if newest else "wait"))
        self._inferred: FrameQueue[Work] = FrameQueue(Policy.parse("wait"))
        for consumer in self.consumers:
            consumer.open(self._policy or policy)

    def stages(self) -> list[tuple[str, Callable[[], None]]]:
        """Names and bodies of the threads."""
        stages = [("encode", self._encode_all), ("infer", self._infer_all), ("decode", self._decode_all)]
        return [(f"{self.model.name} {name}", body) for name, body in stages]

    def miss(self, cause: DropReason, sequence: int, frames: int) -> None:
        """Frames never came from the camera."""
        for consumer in self.consumers:
            consumer.account.miss(cause, sequence, frames)

    def offer(self, lease: Lease, stages_ns: dict[str, int]) -> None:
        """Takes a frame, or accounts for it. Under the policy "wait" it waits for a place."""
        self._frames += 1
        for consumer in self.consumers:
            consumer.account.enter()
        work = Work(lease, dict(stages_ns), self._clock.now_ns())
        if (self._frames - 1) % self._every:
            self._let_go(work)
            for consumer in self.consumers:
                consumer.account.skip()
        elif lease.frame.status & _DAMAGED:
            self._drop(work, DropReason.CORRUPTED)
        else:
            self._put(self._input, work)

    def end(self, error: BaseException | None) -> None:
        """No more frames come."""
        self._input.end(error)

    def abort(self) -> None:
        """Drops everything that waits, and all that will be put."""
        for queue in (self._input, self._encoded, self._inferred):
            for work in queue.abort():
                self._drop(work, DropReason.STOPPED)
        for consumer in self.consumers:
            consumer.abort()

    def close(self) -> None:
        """Closes the engine."""
        self.runner.close()
        self._tensors.clear()

    def _encode_all(self) -> None:
        self._each("encode", self._input, self._encode, self._encoded, self._encoded.end)

    def _infer_all(self) -> None:
        self._each("infer", self._encoded, self._infer, self._inferred, self._inferred.end)

    def _decode_all(self) -> None:
        def end(error: BaseException | None) -> None:
            for consumer in self.consumers:
                consumer.end(error)

        self._each("decode", self._inferred, self._decode, None, end)

    def _each(
        self,
        stage: str,
        before: FrameQueue[Work],
        do: Callable[[Work], bool],
        after: FrameQueue[Work] | None,
        end: Callable[[BaseException | None], None],
    ) -> None:
        """A stage: does its part for all that comes, and hands it on, until the end.

        An error ends the stream: what this stage had done before it still arrives, then the error.
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
        work.card, work.task = self.model.prepare(work.frame)
        shape = work.task.input_shape(work.frame.format)
        work.tensor = self._tensor(shape, work.card.input.dtype)
        begun = self._clock.now_ns()
        work.task.encode(work.frame, work.tensor)
        work.stages_ns["encode"] = self._clock.now_ns() - begun
        self._release(work)
        return True

    def _infer(self, work: Work) -> bool:
        if self._stale(work):
            return False
        assert work.card is not None
        assert work.task is not None
        assert work.tensor is not None
        waiting = self._clock.now_ns()
        heartbeat = self.heartbeats["infer"]
        heartbeat.rest()  # to wait one's turn and to load a model may take long
        with self.in_turn:
            self.runner.prepare(work.card, work.task, work.tensor.shape)
            begun = self._clock.now_ns()
            heartbeat.begin(begun)
            work.queued_ns["infer"] += begun - waiting
            try:
                work.outputs = self.runner.run(work.tensor)
            except EngineError:
                self._failures += 1
                if self._allowed is not None and self._failures > self._allowed:
                    raise
                self._drop(work, DropReason.ENGINE_ERROR)
                return False
            work.stages_ns["infer"] = self._clock.now_ns() - begun
            work.delegate = self.runner.delegate
        self._failures = 0
        return True

    def _decode(self, work: Work) -> bool:
        assert work.card is not None
        assert work.task is not None
        assert work.tensor is not None
        begun = self._clock.now_ns()
        result = work.task.decode(work.outputs, work.frame, work.tensor)
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
        )
        for consumer in self.consumers:
            consumer.offer(done)
        return True

    def _put(self, queue: FrameQueue[Work], work: Work) -> None:
        lost = queue.put(work)
        if lost is not None:
            self._drop(lost, DropReason.STOPPED if lost is work else DropReason.QUEUE_FULL)

    def _stale(self, work: Work) -> bool:
        """Drops a frame that is too old for every consumer."""
        frame = work.frame
        stale = all(consumer.is_stale(frame.timestamp_ns, frame.status) for consumer in self.consumers)
        if stale:
            self._drop(work, DropReason.STALE)
        return stale

    def _drop(self, work: Work, cause: DropReason) -> None:
        self._let_go(work)
        for consumer in self.consumers:
            consumer.account.drop(cause, work.frame.sequence)

    def _let_go(self, work: Work) -> None:
        """Gives back what the frame holds."""
        self._release(work)
        tensor, work.tensor = work.tensor, None
        if tensor is not None:
            self._tensors.append(tensor)

    @staticmethod
    def _release(work: Work) -> None:
        if work.leased:
            work.leased = False
            work.lease.release()

    def _tensor(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        while self._tensors:
            tensor = self._tensors.pop()
            if tensor.shape == shape and tensor.dtype == np.dtype(dtype):
                return tensor
        return np.zeros(shape, dtype)
