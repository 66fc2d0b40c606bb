"""Which classes a detector sees: changes, in place of one message for every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_isp.errors import SinkError
from edge_isp.results import Detections


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A class has appeared, or is gone.

    Attributes:
        class_id: of the class.
        class_name: of the class.
        present: whether it has appeared.
        confidence: of the most confident detection, 0 to 1; of the last one where the class is gone.
        sequence: number of the frame in which it was noticed.
        timestamp_ns: start of that frame's exposure, CLOCK_MONOTONIC.
    """

    class_id: int
    class_name: str
    present: bool
    confidence: float
    sequence: int
    timestamp_ns: int


class ClassPresence:
    """Follows which classes are present. A class appears with its first detection, and is gone when it was not detected
    for a while, so that a detector that misses single frames causes no changes.

    Args:
        absent_s: seconds without a detection, by the sensor's time, after which a class is gone.

    Raises:
        SinkError: `absent_s` is not a number of seconds.
    """

    def __init__(self, absent_s: float) -> None:
        if not 0 <= absent_s < math.inf:
            raise SinkError(f"absent_s must be a number of seconds, at least 0, found {absent_s}")
        self._absent_ns = round(absent_s * 1e9)
        self._seen: dict[int, tuple[int, float]] = {}  # time stamp and confidence of the last detection

    def update(self, found: Detections) -> list[ClassChange]:
        """The changes that a frame brings.

        Args:
            found: in the next frame.
        """
        now, changes = found.timestamp_ns, []
        best: dict[int, float] = {}
        for class_id, confidence in zip(found.class_id.tolist(), found.confidence.tolist(), strict=True):
            best[class_id] = max(confidence, best.get(class_id, 0.0))
        for class_id, confidence in best.items():
            if class_id not in self._seen:
                changes.append(self._change(found, class_id, present=True, confidence=confidence))
            self._seen[class_id] = now, confidence
        for class_id, (seen_ns, confidence) in list(self._seen.items()):
            # A time stamp from before the last one is of another stream, whose clock began anew.
            if class_id not in best and (now - seen_ns >= self._absent_ns or now < seen_ns):
                del self._seen[class_id]
                changes.append(self._change(found, class_id, present=False, confidence=confidence))
        return changes

    @staticmethod
    def _change(found: Detections, class_id: int, *, present: bool, confidence: float) -> ClassChange:
        name = found.class_names[class_id]
        return ClassChange(class_id, name, present, confidence, found.sequence, found.timestamp_ns)
