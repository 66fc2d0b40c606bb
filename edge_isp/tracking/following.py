"""Tracking and counting as one step of a stream."""

from __future__ import annotations

from edge_isp.errors import ZoneError, did_you_mean
from edge_isp.results import Detections
from edge_isp.tracking.regions import RegionCounter, Regions
from edge_isp.tracking.tracker import Tracker

# Confidence from which on a detector's boxes may continue a tracked object.
UNCERTAIN = 0.1


class ObjectFollower:
    """Gives detections the numbers of their objects, and counts these in zones and at lines.

    Args:
        confidence: minimum confidence of a detection that is delivered, see `Tracker`.
        regions: zones and lines; None counts nothing.
        class_names: of the detector.

    Raises:
        ZoneError: a zone or a line names a class that the detector does not know.
    """

    def __init__(self, *, confidence: float, regions: Regions | None, class_names: tuple[str, ...]) -> None:
        for name in regions.classes if regions else ():
            if name not in class_names:
                raise ZoneError(f"the detector knows no class '{name}'{did_you_mean(name, class_names)}")
        self._tracker = Tracker(confidence=confidence)
        self._counter = RegionCounter(regions) if regions else None

    def update(self, found: Detections) -> Detections:
        """Tracks and counts the detections of the next frame.

        Args:
            found: see `Tracker.update`.
        """
        tracked = self._tracker.update(found)
        return self._counter.update(tracked) if self._counter else tracked
