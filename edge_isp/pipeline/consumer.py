"""What a pipeline hands over, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from edge_isp.engines.base import EngineReport
from edge_isp.frame import FrameStatus
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.drops import Account, DropReason, FrameCounts
from edge_isp.pipeline.queue import Ended, FrameQueue, Policy
from edge_isp.pipeline.runner import Runner
from edge_isp.pipeline.watchdog import Heartbeat
from edge_isp.results import Detections, Picture


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What became of one frame.

    Attributes:
        result: a picture, or what a detector found.
        source, sequence, timestamp_ns: of the frame, see `RawFrame`.
        stages_ns: nanoseconds spent in "read" (waiting for the camera included), "meter" (with auto-exposure only),
            "encode", "infer" and "decode", in this order.
        queued_ns: nanoseconds that it waited for "encode", "infer", "decode" and "deliver", in this order. Loading and
            warming up the model falls into the first frame's wait for "infer".
        delivered_ns: when it was handed over, CLOCK_MONOTONIC.
        status: of the frame, see `FrameStatus`.
        model: name of the model that made it.
        delegate: what ran it, see `EngineReport.delegate`.
    """

    result: Picture | Detections
    source: str
    sequence: int
    timestamp_ns: int
    stages_ns: dict[str, int]
    queued_ns: dict[str, int]
    delivered_ns: int
    status: FrameStatus
    model: str
    delegate: str = ""

    @property
    def picture(self) -> Picture:
        """The result of a model that makes pictures.

        Raises:
            TypeError: it is a detector.
        """
        if not isinstance(self.result, Picture):
            raise TypeError(f"{self.model} makes no pictures, it detects: see `detections`")
        return self.result

    @property
    def detections(self) -> Detections:
        """The result of a detector.

        Raises:
            TypeError: it is a model that makes pictures.
        """
        if not isinstance(self.result, Detections):
            raise TypeError(f"{self.model} detects nothing, it makes pictures: see `picture`")
        return self.result

    @property
    def age_ns(self) -> int:
        """From the start of exposure to the hand-over."""
        return self.delivered_ns - self.timestamp_ns


class Consumer:
    """Gets the results of one model for one camera's frames: by iteration, `async for`, `read` or a callback.

    Made by `Pipeline` and by `Pipeline.add_consumer`. `for` and `async for` end with the stream; where it failed they
    raise the error, after the results that came before it.

    Attributes:
        name: in events and statistics.
        offered: how many results there were.
    """

    def __init__(
        self,
        name: str,
        *,
        every: int,
        policy: str | None,
        max_age_s: float | None,
        callback: Callable[[FrameResult], object] | None,
        account: Account,
        clock: Clock,
        start: Callable[[], None],
        runner: Runner,
    ) -> None:
        self.name = name
        self.every = every
        self.policy, self.max_age_ns = policy, None if max_age_s is None else round(max_age_s * 1e9)
        self.callback = callback
        self.account = account
        self._clock, self._start, self.runner = clock, start, runner
        self.heartbeat = Heartbeat(f"{name}: callback")
        self.offered = 0
        self._results: FrameQueue[FrameResult] = FrameQueue(Policy.parse("latest"))

    @property
    def report(self) -> EngineReport | None:
        """What runs the model; None before the first frame."""
        return self.runner.report

    @property
    def counts(self) -> FrameCounts:
        """What became of the frames."""
        return self.account.counts()

    def read(self, timeout_s: float | None = None) -> FrameResult | None:
        """The next result; None after the last.

        Args:
            timeout_s: seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: there was none in time.
        """
        self._start()
        return self._take(timeout_s)

    def __iter__(self) -> Iterator[FrameResult]:
        self._start()
        while (done := self._take(None)) is not None:
            yield done

    async def __aiter__(self) -> AsyncIterator[FrameResult]:
        self._start()
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        results = self._results

        def tell() -> None:
            with suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(news.set)

        results.listen(tell)
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
            results.ignore(tell)

    def open(self, policy: str) -> None:
        """Makes ready for results; for the pipeline.

        Args:
            policy: where the consumer has none of its own.
        """
        self._results = FrameQueue(Policy.parse(self.policy or policy))

    def offer(self, done: FrameResult) -> None:
        """Hands a result over, or accounts for it; for the pipeline."""
        self.offered += 1
        if (self.offered - 1) % self.every:
            self.account.skip()
            return
        lost = self._results.put(done)
        if lost is not None:
            self.account.drop(DropReason.STOPPED if lost is done else DropReason.SINK_SLOW, lost.sequence)

    def end(self, error: BaseException | None) -> None:
        """No more results come; for the pipeline."""
        self._results.end(error)

    def abort(self) -> None:
        """Results that were not taken are lost; for the pipeline."""
        for lost in self._results.abort():
            self.account.drop(DropReason.STOPPED, lost.sequence)

    def call_back(self) -> None:
        """Hands every result to the callback, until the end; for the pipeline, in a thread of its own."""
        assert self.callback is not None
        while True:
            try:
                done = self._next(None)
            except Ended:
                return
            self.heartbeat.begin(self._clock.now_ns())
            try:
                self.callback(done)
            finally:
                self.heartbeat.rest()

    def _take(self, timeout_s: float | None) -> FrameResult | None:
        """The next result, or None after the last; raises what the stream failed with."""
        try:
            return self._next(timeout_s)
        except Ended as ended:
            if ended.error is not None:
                raise ended.error from None
            return None

    def _next(self, timeout_s: float | None) -> FrameResult:
        while True:
            fresh = False

            def taken(done: FrameResult) -> None:
                nonlocal fresh
                fresh = not self.is_stale(done.timestamp_ns, done.status)
                if fresh:
                    self.account.deliver()

            done = self._results.take(timeout_s, taken=taken)
            if fresh:
                now = self._clock.now_ns()
                queued_ns = {**done.queued_ns, "deliver": now - done.delivered_ns}
                return replace(done, delivered_ns=now, queued_ns=queued_ns)
            self.account.drop(DropReason.STALE, done.sequence)

    def is_stale(self, timestamp_ns: int, status: FrameStatus) -> bool:
        """Whether a frame is too old for this consumer; of one with a bad time stamp nobody knows."""
        if self.max_age_ns is None or FrameStatus.BAD_TIMESTAMP in status:
            return False
        return self._clock.now_ns() - timestamp_ns > self.max_age_ns
