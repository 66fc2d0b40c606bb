"""One stream of a pipeline, from start to stop: its threads, and how they end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from edge_isp.pipeline.branch import Branch, BranchRun
from edge_isp.pipeline.capture import Capture
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.options import QueuePolicy, StreamOptions
from edge_isp.pipeline.reconnect import ReconnectPolicy
from edge_isp.pipeline.source import Source
from edge_isp.pipeline.stage_thread import StageThread
from edge_isp.pipeline.status import Status
from edge_isp.pipeline.watchdog import Heartbeat, Watchdog
from edge_isp.wall_clock import WallClock

_log = logging.getLogger(__name__)

# When a stream stops, a camera that is being read may deliver for this long; then it is closed under the reader.
LAST_FRAME_S = 1.0
# Threads that have not returned this long after that are left behind: they hang in native code.
LEFT_BEHIND_S = 10.0


class Stream:
    """The threads of one stream. What it needs of the pipeline outlives it; all that can hang is its own.

    Args:
        source: the camera.
        branches: the models.
        options: the pipeline's.
        reconnect: the limits of the heartbeats.
        status: the pipeline's.
        clock: the pipeline's.
        wall_clock: the pipeline's.
        stop: ends the stream.
        watchdog_s: the longest time between two checks of the watchdog; None is its own.
        checked: called after every check of the watchdog with the stages that do not respond.
        prepare: called once the camera is open, before the stages run: what takes long at the first start.
        owner: the pipeline, see `StageThread`.

    Attributes:
        source: see above.
        finished: set when every thread has come to its end.
        watchdog: checks the stages.
    """

    def __init__(
        self,
        source: Source,
        branches: Sequence[Branch],
        *,
        options: StreamOptions,
        reconnect: ReconnectPolicy,
        status: Status,
        clock: Clock,
        wall_clock: WallClock,
        stop: threading.Event,
        watchdog_s: float | None,
        checked: Callable[[list[str]], None],
        prepare: Callable[[], None],
        owner: object,
    ) -> None:
        self.source, self.finished = source, threading.Event()
        self._branches, self._options = branches, options
        self._reconnect, self._status, self._clock, self._owner = reconnect, status, clock, owner
        self._wall_clock, self._stop, self._prepare = wall_clock, stop, prepare
        self._runs: list[BranchRun] = []
        self._threads: list[StageThread] = []
        self._heartbeats: list[Heartbeat] = []
        self._lock = threading.Lock()  # of _running
        self._running = 0
        self.watchdog = Watchdog(
            lambda: [*source.heartbeats(), *self._heartbeats, *status.heartbeats()],
            period_s=watchdog_s,
            now_ns=clock.now_ns,
            checked=checked,
            owner=owner,
        )

    def start(self) -> None:
        """Opens the camera and starts the threads. Where that fails, nothing of it is left.

        Raises:
            CameraError: the camera cannot be opened.
            PipelineError: what was opened is no camera, or a thread cannot be started.
        """
        try:
            self.watchdog.start()  # the camera may hang while it is opened
            self.source.start()
            self._prepare()
            self._status.starting(self._stop)
            self._start_stages()
        except BaseException:
            self.halt()
            raise

    def _start_stages(self) -> None:
        live = self.source.live
        policy = self._options.policy or (QueuePolicy.LATEST if live else QueuePolicy.BLOCK)
        fail = partial(self._status.fail, stream=self._stop)
        self._runs = [
            BranchRun(
                branch,
                policy,
                live=live,
                reconnect=self._reconnect,
                clock=self._clock,
                wall_clock=self._wall_clock,
                failed=fail,
            )
            for branch in self._branches
        ]
        capture = Capture(
            self.source, self._runs, self._options, self._status, self._clock, self._wall_clock, self._stop
        )
        stages = [("capture", capture.run)]
        heartbeats: list[Heartbeat] = []
        for run in self._runs:
            stages += run.stages()
            heartbeats += run.heartbeats.values()
            for consumer, results in run.results.items():
                if consumer.callback is not None:
                    heartbeat = Heartbeat(f"{consumer.name}: callback", 2 * self._reconnect.stall_s)
                    heartbeats.append(heartbeat)
                    stages.append((f"{consumer.name} callback", partial(consumer.call_back, results, heartbeat)))
        self._heartbeats = heartbeats
        self._running = len(stages)
        for name, body in stages:
            thread = StageThread(name, partial(self._run_stage, body), self._owner)
            thread.start()
            self._threads.append(thread)

    def request_stop(self) -> None:
        """Lets the stages come to their end, and returns at once."""
        self._stop.set()

    def abort(self) -> None:
        """Drops what is in flight: no consumer gets another result."""
        for run in self._runs:
            run.abort()

    def halt(self) -> None:
        """Stops the stream, drops what is in flight, waits for the threads, and closes a camera that was opened here.

        Raises:
            Exception: a camera of the caller's had to be closed, since it did not return a frame, and failed in that;
                everything else has ended nevertheless.
        """
        self._stop.set()
        self.abort()
        try:
            if self._threads and not self._threads[0].join(LAST_FRAME_S):
                self.source.close()
        finally:
            self._join(LEFT_BEHIND_S)
            if not self.watchdog.stop(LEFT_BEHIND_S):
                _log.error("the watchdog does not return from closing the camera, and is left behind")
            self.finished.set()
            self.source.stop()

    def _join(self, timeout_s: float) -> None:
        """Waits for all threads together."""
        deadline_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        for thread in self._threads:
            if not thread.join(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)):
                _log.error("%s does not return and is left behind", thread.name)

    def _run_stage(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - the consumers get it
            self._status.fail(error, stream=self._stop)
        finally:
            with self._lock:
                self._running -= 1
                last = self._running == 0
            if last:
                self.finished.set()
