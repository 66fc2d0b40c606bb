"""Results for those who come and go while the stream runs."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from edge_isp.pipeline.consumer import Consumer
from edge_isp.pipeline.options import QueuePolicy
from edge_isp.pipeline.queue import FrameQueue
from edge_isp.results import FrameResult


class Subscription(Consumer):
    """Gets the results of one model from now on, until it is closed or the stream ends; a context manager.

    Made by `Pipeline.subscribe`. It is a consumer that may be added while the stream runs: its `counts` begin with the
    first result that is made after it was, and its frames are results.

    Args:
        name: see `Consumer`.
        leave: called when it is closed.
        **options: see `Consumer`.
    """

    def __init__(self, name: str, *, leave: Callable[[Subscription], None], **options: Any) -> None:
        super().__init__(name, **options)
        self._leave = leave

    def open(self, policy: QueuePolicy, *, live: bool) -> FrameQueue[FrameResult]:
        """See `Consumer.open`. The queue stays the same, since somebody may wait for its first result already.

        Args:
            policy: see `Consumer.open`.
            live: see `Consumer.open`.
        """
        self.live = live
        self._results.follow(self._policy_for(policy, live=live))
        return self._results

    def enter(self, timestamp_ns: int) -> None:
        """A frame is in flight: the next result is due by it, but it is not counted.

        Args:
            timestamp_ns: see `Consumer.enter`.
        """
        if self.deadline is not None:
            self.deadline.frame(timestamp_ns)

    def offer(self, done: FrameResult, results: FrameQueue[FrameResult]) -> None:
        """See `Consumer.offer`.

        Args:
            done: see `Consumer.offer`.
            results: see `Consumer.offer`.
        """
        self.account.enter()
        if self.keep_raw and done.raw is None:
            self.account.skip()  # it was encoded before anybody wanted its RAW frame
        else:
            super().offer(done, results)

    def end(self, error: BaseException | None) -> None:
        """No more results will come; for the pipeline.

        Args:
            error: what the stream failed with, or None.
        """
        self._results.end(error)

    def close(self) -> None:
        """Ends the subscription: iteration comes to its end, and results not taken yet are dropped. Idempotent."""
        self._leave(self)
        self.abort(self._results)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
