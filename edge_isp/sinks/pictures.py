"""The picture of a result, for sinks that write pictures."""

from __future__ import annotations

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import SinkError
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.annotate import picture_of
from edge_isp.tasks.classical import ClassicalIsp


class Pictures:
    """Makes pictures of results: a model's own, or for a detector one of the RAW frame.

    Args:
        profile: of the sensor, for pictures of RAW frames; None is the shipped profile of the frame's sensor.
        overlay: whether detections are drawn.
    """

    def __init__(self, profile: SensorProfile | None = None, *, overlay: bool) -> None:
        self._developer, self._overlay = ClassicalIsp(profile), overlay

    def of(self, result: FrameResult) -> Picture:
        """The picture of a result.

        Args:
            result: of a model that makes pictures, or with `raw`.

        Raises:
            SinkError: the result of a detector has no RAW frame.
        """
        if isinstance(result.result, Picture) or self._overlay:
            return picture_of(result, self._developer)
        if result.raw is None:
            raise SinkError(
                f"{result.source}: frame {result.sequence} of a detector has no picture without its RAW frame: give "
                "the consumer keep_raw=True (a sink: needs_raw = True)"
            )
        return self._developer.develop(result.raw)
