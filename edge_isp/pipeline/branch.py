"""One model of a pipeline: encoding, inference and decoding, each in a thread of its own.

Frames arrive through a queue with the consumer's policy. If that is `LATEST`, an encoded frame that still waits for the
engine is replaced by a newer one too, so that the engine always gets the newest. Tensors are used again: at any time,
one is being encoded, one waits, one is the engine's input, and one is being decoded.
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
from edge_isp.pipeline.consumer import Consumer
from edge_isp.pipeline.drops import DropReason
from edge_isp.pipeline.options import QueuePolicy
from edge_isp.pipeline.queue import Ended, FrameQueue
from edge_isp.pipeline.runner import Model, Runner
from edge_isp.pipeline.watchdog import Heartbeat
from edge_isp.results import FrameResult
from edge_isp.tasks.protocol import Task

# Of frames that no model gets to see.
DAMAGED = FrameStatus.CORRUPTED | FrameStatus.TRUNCATED


class Lease:
    """A frame that several branches read; its buffer is returned to the camera when the last one is done.

    Args:
        frame: the camera's.
        readers: number of branches.
    """

    def __init__(self, frame: RawFrame, readers: int) -> None:
        self.frame = frame
        self._readers = readers
        self._lock = threading.Lock()

    def release(self) -> None:
        """Called once by each reader, when it is done."""
        with self._lock:
            self._readers -= 1
            last = self._readers == 0
        if last:
            self.frame.release()


@dataclass(slots=True)
class Work:
    """A frame in a branch.

    Attributes:
        lease: the frame's.
        stages_ns: see `FrameResult`.
        since_ns: when it began to wait for the next stage.
        queued_ns: see `FrameResult`.
        card: the model's for the frame's sensor, from the encoder on.
        task: the card's, from the encoder on.
        tensor: the encoded frame, from the encoder on.
        raw: a copy of the frame, from the encoder on, if a consumer keeps it.
        outputs: of the engine, from the engine on.
        delegate: what ran the model.
        leased: whether the branch still holds the lease.
    """

    lease: Lease
    stages_ns: dict[str, int]
    since_ns: int
    queued_ns: dict[str, int] = field(default_factory=dict)
    card: ModelCard | None = None
    task: Task | None = None
    tensor: NDArray[Any] | None = None
    raw: RawFrame | None = None
    outputs: list[NDArray[Any]] = field(default_factory=list)
    delegate: str = ""
    leased: bool = True

    @property
    def frame(self) -> RawFrame:
        """The frame; its data may be read only while it is `leased`."""
        return self.lease.frame


class Branch:
    """The stages of one model.

    Args:
        model: chooses card and task for a frame.
        runner: runs the model.
        every: takes the first frame and every Nth one after it.
        policy: of the queue of frames; None is the stream's.
        in_turn: held while the model runs.
        engine_errors: see `ReconnectPolicy`.
        clock: the pipeline's.
        failed: called with the error that ends the stream.

    Attributes:
        consumers: get the results.
        heartbeats: of each stage.
    """

    def __init__(
        self,
        model: Model,
        runner: Runner,
        *,
        every: int,
        policy: QueuePolicy | None,
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
        self._failures = 0  # of the engine, in succession
        self._tensors: list[NDArray[Any]] = []  # free ones, all of one shape

    def open(self, policy: QueuePolicy, *, live: bool) -> None:
        """Prepares for frames.

        Args:
            policy: for a branch without one of its own.
            live: whether frames come at the camera's own pace.
        """
        self._frames = self._failures = 0
        self._allowed = self._engine_errors if live else 0
        frames = self._policy or policy
        self._input: FrameQueue[Work] = FrameQueue(frames)
        self._encoded: FrameQueue[Work] = FrameQueue(frames if frames == QueuePolicy.LATEST else QueuePolicy.BLOCK)
        self._inferred: FrameQueue[Work] = FrameQueue(QueuePolicy.BLOCK)
        for consumer in self.consumers:
            consumer.open(frames, live=live)

    def stages(self) -> list[tuple[str, Callable[[], None]]]:
        """Names and bodies of the threads."""
        stages = [("encode", self._encode_all), ("infer", self._infer_all), ("decode", self._decode_all)]
        return [(f"{self.model.name} {name}", body) for name, body in stages]

    def miss(self, reason: DropReason, sequence: int, frames: int) -> None:
        """Frames never came from the camera.

        Args:
            reason: why not.
            sequence: number of the first of them.
            frames: how many there are.
        """
        for consumer in self.consumers:
            consumer.account.miss(reason, sequence, frames)

    def offer(self, lease: Lease, stages_ns: dict[str, int]) -> None:
        """Queues a frame, or accounts for it. Under the policy `BLOCK` it waits until there is capacity.

        Args:
            lease: the frame's; released once by this branch.
            stages_ns: see `FrameResult`; copied.
        """
        work = self._enter(lease, stages_ns)
        self._frames += 1
        if (self._frames - 1) % self._every:
            self._let_go(work)
            for consumer in self.consumers:
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
        for consumer in self.consumers:
            consumer.account.enter()
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
        work.card, work.task = self.model.prepare(work.frame)
        shape = work.task.input_shape(work.frame.format)
        work.tensor = self._tensor(shape, work.card.input.dtype)
        begun = self._clock.now_ns()
        work.task.encode(work.frame, work.tensor)
        encoded = self._clock.now_ns()
        work.stages_ns["encode"] = encoded - begun
        if any(consumer.keep_raw for consumer in self.consumers):
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
        heartbeat = self.heartbeats["infer"]
        heartbeat.rest()  # waiting for the turn and loading a model may take long
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
            raw=work.raw,
        )
        for consumer in self.consumers:
            consumer.offer(done)
        return True

    def _put(self, queue: FrameQueue[Work], work: Work) -> None:
        dropped = queue.put(work)
        if dropped is not None:
            self._drop(dropped, DropReason.STOPPED if dropped is work else DropReason.QUEUE_FULL)

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
        """Returns the frame's buffer and its tensor."""
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
