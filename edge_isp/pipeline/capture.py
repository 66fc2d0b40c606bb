"""The camera's thread of a pipeline: reads frames, meters them, and offers them to the models."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from edge_isp.errors import CameraDisconnectedError, CameraError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.metering.meter import FrameMeter
from edge_isp.pipeline.branch import BranchRun
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.drops import DropReason, PipelineState, WallClockStepped
from edge_isp.pipeline.options import StreamOptions
from edge_isp.pipeline.source import Source
from edge_isp.pipeline.status import Status
from edge_isp.pipeline.work import DAMAGED, Lease
from edge_isp.wall_clock import WallClock


class Capture:
    """Reads a camera until its end. Metering is a part of it, so that a camera is used by one thread only.

    Args:
        source: the camera.
        branches: get each frame.
        options: the pipeline's.
        status: the pipeline's.
        clock: the pipeline's.
        wall_clock: whose steps are reported.
        stop: ends the reading.
    """

    def __init__(
        self,
        source: Source,
        branches: Sequence[BranchRun],
        options: StreamOptions,
        status: Status,
        clock: Clock,
        wall_clock: WallClock,
        stop: threading.Event,
    ) -> None:
        self._source, self._branches = source, branches
        self._auto_exposure, self._auto_brightness = options.auto_exposure, options.auto_brightness
        self._status, self._clock, self._stop = status, clock, stop
        self._wall_clock, self._stepped_ns = wall_clock, wall_clock.stepped_ns
        self._is_adjustable = False  # it was set at least once
        self._meter = FrameMeter()

    def run(self) -> None:
        """Reads frames and offers them, in the calling thread."""
        models = [run.branch.model for run in self._branches]
        self._meter = FrameMeter(
            next((model.profile for model in models if model.profile is not None), None),
            noise=any(model.card.input.layout.endswith("-noise") for model in models),
            auto_brightness=self._auto_brightness,
        )
        try:
            while not self._stop.is_set():
                begun = self._clock.now_ns()
                found = self._source.read()
                if found is None:
                    return
                frame, missing = found
                self._look_at_the_wall_clock()
                if not self._stop.is_set():
                    self._status.change(PipelineState.RUNNING, stream=self._stop)
                self._offer(frame, missing, {"read": self._clock.now_ns() - begun})
        except BaseException as error:
            self._status.fail(error, stream=self._stop)
            raise
        finally:
            if not self._stop.is_set():
                self._status.change(PipelineState.ENDED, stream=self._stop)
            for branch in self._branches:
                branch.end(self._status.error)

    def _look_at_the_wall_clock(self) -> None:
        self._wall_clock.offset_ns()
        stepped_ns = self._wall_clock.stepped_ns
        if stepped_ns != self._stepped_ns:
            step, self._stepped_ns = stepped_ns - self._stepped_ns, stepped_ns
            self._status.report(WallClockStepped(step, self._clock.now_ns()))

    def _offer(self, frame: RawFrame, missing: int, stages_ns: dict[str, int]) -> None:
        """Meters a frame and offers it to every branch, with the number of frames that are missing before it."""
        if missing:
            reason = DropReason.NOT_RENDERED if FrameStatus.SKIPPED in frame.status else DropReason.SENSOR_GAP
            for branch in self._branches:
                branch.miss(reason, frame.sequence - missing, missing)
        given_back_failed = partial(self._source.release_failed, self._source.camera)
        try:
            frame = self._metered(frame, stages_ns)
        except BaseException:
            lease = Lease(frame, len(self._branches), given_back_failed, self._source.releases)
            for branch in self._branches:
                branch.refuse(lease)
            raise
        lease = Lease(frame, len(self._branches), given_back_failed, self._source.releases)
        for branch in self._branches:
            branch.offer(lease, stages_ns)

    def _metered(self, frame: RawFrame, stages_ns: dict[str, int]) -> RawFrame:
        """The frame with white balance and noise, once for all branches; a damaged frame as it is."""
        if frame.status & DAMAGED:
            return frame
        begun, taken = self._clock.now_ns(), frame
        self._source.heartbeat.begin(begun)  # a camera may hang when it is set, too
        try:
            frame = self._meter.complete(self._adjusted_to(frame))
        finally:
            self._source.heartbeat.rest()
        if self._auto_exposure is not None or frame is not taken:
            stages_ns["meter"] = self._clock.now_ns() - begun
        return frame

    def _adjusted_to(self, frame: RawFrame) -> RawFrame:
        """Sets the camera's exposure by a frame, if asked for, and returns the frame with its white balance."""
        settings = self._source.settings()
        if self._auto_exposure is None or settings is None:
            return frame
        try:
            frame = self._auto_exposure.adjust(frame, settings)
            self._is_adjustable = True
        except CameraError as error:
            # The frame is good. A camera that was set before, or is gone, has failed; another one can never be set.
            has_failed = self._is_adjustable or isinstance(error, CameraDisconnectedError)
            if not has_failed or not self._source.failed(error):
                self._status.fail(error, stream=self._stop)
        return frame
