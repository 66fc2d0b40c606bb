"""Who gets the results of a pipeline, and how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from edge_isp.engines.base import EngineReport
from edge_isp.frame import FrameStatus
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.deadline import Deadline
from edge_isp.pipeline.drops import Account, DropReason, FrameCounts
from edge_isp.pipeline.options import QueuePolicy
from edge_isp.pipeline.queue import Ended, FrameQueue
from edge_isp.pipeline.runner import Runner
from edge_isp.pipeline.turns import Turns
from edge_isp.pipeline.watchdog import Heartbeat
from edge_isp.rate_limit import RateLimiter
from edge_isp.results import FrameResult


class Consumer:
    """Gets the results of one model for one camera's frames: by iteration, `async for`, `read`, a callback or a sink.

    Made by `Pipeline`, `Pipeline.add_consumer` and `Pipeline.add_sink`. `for` and `async for` end with the stream; if
    the stream failed, they raise its error after the results that came before it.

    Args:
        name: in events and statistics.
        every: takes the first result and every Nth one after it.
        policy: of the queue of results; None is the stream's.
        limiter: takes no more results per second than it passes; None takes all.
        deadline: results older than it allows are dropped; None is unlimited.
        callback: called with each result in a thread of the pipeline; None for results that are asked for.
        keep_raw: whether results carry their RAW frame.
        never_blocks: whether a policy that waits, if it is not the consumer's own, is replaced by `LATEST` for a
            camera: for sinks, which must not stall it.
        account: counts the frames.
        clock: the pipeline's.
        start: starts the stream when the first result is asked for.
        start_soon: starts it without waiting until it has started.
        runner: runs the model.
        turns: in which the model runs, see `Pipeline.add_consumer`.

    Attributes:
        name: in events and statistics.
        offered: how many results there were.
        idle: whether results are skipped, because nobody asks for them.
        asked: whether a result was ever asked for.
        deadline: see above.
        turns: see above.
        live: whether the frames of the stream come at the camera's own pace.
    """

    def __init__(
        self,
        name: str,
        *,
        every: int,
        policy: QueuePolicy | None,
        limiter: RateLimiter | None,
        deadline: Deadline | None,
        callback: Callable[[FrameResult], object] | None,
        keep_raw: bool,
        never_blocks: bool,
        account: Account,
        clock: Clock,
        start: Callable[[], None],
        start_soon: Callable[[], None],
        runner: Runner,
        turns: Turns,
    ) -> None:
        self.name, self.every, self.policy = name, every, policy
        self.callback, self.keep_raw, self.account = callback, keep_raw, account
        self.offered, self.idle, self.asked = 0, False, False
        self.deadline, self.live, self._limiter = deadline, True, limiter
        self._never_blocks = never_blocks
        self._clock, self._runner, self.turns = clock, runner, turns
        self._start, self._start_soon = start, start_soon
        self._results: FrameQueue[FrameResult] = FrameQueue(QueuePolicy.LATEST)

    @property
    def runner(self) -> Runner:
        """What runs the model, for benchmarks: its `card`, input `shape`, and single inferences while the stream is
        stopped."""
        return self._runner

    @property
    def report(self) -> EngineReport | None:
        """What runs the model; None before the first frame."""
        return self._runner.report

    @property
    def counts(self) -> FrameCounts:
        """What became of the frames."""
        return self.account.counts()

    def read(self, timeout_s: float | None = None) -> FrameResult | None:
        """The next result; None after the last.

        Args:
            timeout_s: seconds to wait at most; None is unlimited.

        Raises:
            TimeoutError: there was none in time.
            Exception: the error that the stream failed with.
        """
        self._ask()
        self._start()
        return self._take(timeout_s)

    def newest(self) -> FrameResult | None:
        """The newest result, if there is one that was not delivered yet, else None; it never waits, and delivers no
        result twice. Older results that wait are dropped, as `SINK_SLOW`.

        The first call starts the stream, and does not wait until it has started. After the last result it is always
        None: `Pipeline.state` says whether more can come.

        Raises:
            Exception: the error that the stream failed with.
        """
        self._ask()
        self._start_soon()
        for passed in self._results.pass_over():
            self.account.drop(DropReason.SINK_SLOW, passed.sequence)
        try:
            return self._take(0)
        except TimeoutError:
            return None

    def __iter__(self) -> Iterator[FrameResult]:
        self._ask()
        self._start()
        while (done := self._take(None)) is not None:
            yield done

    async def __aiter__(self) -> AsyncIterator[FrameResult]:
        self._ask()
        await asyncio.to_thread(self._start)  # to open a camera takes time
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        results = self._results

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(news.set)

        results.listen(wake)
        try:
            while True:
                news.clear()
                try:
                    done = self._take(0)
                except TimeoutError:
                    await news.wait()
                    continue
                if done is None:
                    return
                yield done
        finally:
            results.ignore(wake)

    def open(self, policy: QueuePolicy, *, live: bool) -> FrameQueue[FrameResult]:
        """Prepares for the results of a stream; for the pipeline.

        Args:
            policy: for a consumer without one of its own.
            live: whether frames come at the camera's own pace.

        Returns:
            The queue that the stream's results go through.
        """
        self.live = live
        for paced in (self.deadline, self._limiter):
            if paced is not None:
                paced.restart()
        self._results = FrameQueue(self._policy_for(policy, live=live))
        return self._results

    def enter(self, timestamp_ns: int) -> None:
        """A frame is in flight; for the pipeline.

        Args:
            timestamp_ns: start of its exposure.
        """
        self.account.enter()
        if self.deadline is not None:
            self.deadline.frame(timestamp_ns)

    def offer(self, done: FrameResult, results: FrameQueue[FrameResult]) -> None:
        """Queues a result, or accounts for it; for the pipeline.

        Args:
            done: the result, with its RAW frame if any consumer of the model keeps it.
            results: the queue of the stream that it is of, see `open`.
        """
        self.offered += 1
        nth, limiter = (self.offered - 1) % self.every == 0, self._limiter
        if self.idle or not nth or not (limiter is None or limiter.passes(done.timestamp_ns)):
            self.account.skip()
            return
        if done.raw is not None and not self.keep_raw:
            done = replace(done, raw=None)
        lost = results.put(done)
        if lost is not None:
            self.account.drop(DropReason.STOPPED if lost is done else DropReason.SINK_SLOW, lost.sequence)

    def abort(self, results: FrameQueue[FrameResult]) -> None:
        """Drops the results that were not taken; for the pipeline.

        Args:
            results: the queue of a stream, see `open`.
        """
        for lost in results.abort():
            self.account.drop(DropReason.STOPPED, lost.sequence)

    def call_back(self, results: FrameQueue[FrameResult], heartbeat: Heartbeat) -> None:
        """Calls the callback with each result, until the end; for the pipeline, in a thread of its own.

        Args:
            results: the queue of a stream, see `open`.
            heartbeat: shows since when the callback has been running.
        """
        assert self.callback is not None
        try:
            while True:
                try:
                    done = self._next(results, None)
                except Ended:
                    return
                heartbeat.begin(self._clock.now_ns())
                try:
                    self.callback(done)
                finally:
                    heartbeat.rest()
        finally:
            self.abort(results)

    def _ask(self) -> None:
        self.asked, self.idle = True, False

    def _policy_for(self, policy: QueuePolicy, *, live: bool) -> QueuePolicy:
        if self._never_blocks and live and policy.waits:
            policy = QueuePolicy.LATEST
        return self.policy or policy

    def _take(self, timeout_s: float | None) -> FrameResult | None:
        """The next result, or None after the last; raises the error that the stream failed with."""
        try:
            return self._next(self._results, timeout_s)
        except Ended as ended:
            if ended.error is not None:
                raise ended.error from ended.error.__cause__
            return None

    def _next(self, results: FrameQueue[FrameResult], timeout_s: float | None) -> FrameResult:
        while True:
            fresh = False

            def taken(done: FrameResult) -> None:
                nonlocal fresh
                fresh = not self.is_stale(done.timestamp_ns, done.status)
                if fresh:
                    self.account.deliver()

            done = results.take(timeout_s, taken=taken)
            if fresh:
                if self.deadline is not None:
                    self.deadline.met(done.timestamp_ns)
                now = self._clock.now_ns()
                queued_ns = {**done.queued_ns, "deliver": now - done.delivered_ns}
                return replace(done, delivered_ns=now, queued_ns=queued_ns)
            self.account.drop(DropReason.STALE, done.sequence)
            self.missed()

    def is_stale(self, timestamp_ns: int, status: FrameStatus) -> bool:
        """Whether a frame is too old for this consumer; never for a frame with a bad time stamp.

        Args:
            timestamp_ns: start of its exposure.
            status: the frame's.
        """
        if self.deadline is None or FrameStatus.BAD_TIMESTAMP in status:
            return False
        return self._clock.now_ns() - timestamp_ns > self.deadline.max_age_ns

    def missed(self) -> None:
        """A frame or result was dropped because of its age; for the pipeline."""
        if self.deadline is not None:
            self.deadline.check(stale=True)
