"""Cameras that are brought to expose together, while their frames are paired."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from edge_isp.cameras.phase_loop import PhaseLoop
from edge_isp.errors import CameraError, PipelineError
from edge_isp.frame import FrameStatus
from edge_isp.pipeline.pipeline import Pipeline

_log = logging.getLogger(__name__)


class Synchroniser:
    """Lets all cameras follow the first one, by a `PhaseLoop` each.

    A camera that a driver synchronises (an attribute `synchronised = True`) is left to it, and one whose frame rate
    cannot be set is left alone. `noted` is called for each camera in one thread.

    Args:
        sources: cameras or pipelines, in order.
        fps: nominal frame rate of all cameras.

    Raises:
        PipelineError: `fps` is not a positive number, or a source is neither a camera nor a pipeline.
    """

    def __init__(self, sources: Sequence[Any], fps: float) -> None:
        if not 0 < fps < math.inf:
            raise PipelineError(f"synchronise_fps must be a positive number of frames per second, found {fps}")
        for source in sources:
            if not isinstance(source, Pipeline) and not callable(getattr(source, "control", None)):
                raise PipelineError(
                    f"synchronise_fps needs cameras or pipelines, whose cameras can be set, found "
                    f"{type(source).__name__}"
                )
        self._sources, self._fps = sources, fps
        self._leader_ns: int | None = None
        # A pipeline opens a camera again that has failed: it gets a loop of its own.
        self._cameras: list[Any] = [None] * len(sources)
        self._loops: list[PhaseLoop | None] = [None] * len(sources)

    @property
    def errors_ns(self) -> tuple[float | None, ...]:
        """By how much the last exposure of each camera began after the first camera's; None where it is not driven."""
        return tuple(None if loop is None else loop.error_ns for loop in self._loops)

    def noted(self, place: int, item: Any) -> None:
        """A camera has delivered a frame; sets its frame rate, unless it is the first one.

        Args:
            place: of the camera among the sources.
            item: the frame or its result.
        """
        if FrameStatus.BAD_TIMESTAMP in item.status:
            return
        if place == 0:
            self._leader_ns = item.timestamp_ns
            return
        loop = self._loop(place)
        if loop is None or self._leader_ns is None:
            return
        loop.leader(self._leader_ns)
        try:
            loop.follower(item.timestamp_ns)
        except CameraError as error:
            _log.warning("a camera is not synchronised: %s", error)
            self._loops[place] = None

    def _loop(self, place: int) -> PhaseLoop | None:
        source = self._sources[place]
        camera = source.camera if isinstance(source, Pipeline) else source
        if camera is not None and camera is not self._cameras[place]:
            self._cameras[place] = camera
            by_driver = getattr(camera, "synchronised", False)
            self._loops[place] = None if by_driver else PhaseLoop(camera, self._fps)
        return self._loops[place]
