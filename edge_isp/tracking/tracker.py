"""A small tracker of several objects: a Kalman filter per object, and detections assigned to objects in two stages.

The two stages are those of Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV
2022: confident detections are assigned first; uncertain ones then continue objects that would be lost otherwise, as
when one is half hidden, but never begin a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_isp.results import Detections
from edge_isp.tracking.assignment import assign, overlaps

# Least overlap (intersection over union) of a detection with where its object is expected.
_LEAST_OVERLAP, _LEAST_OVERLAP_UNCERTAIN = 0.2, 0.5

# Standard deviations in parts of a box's size (the root of its area): of a detection's centre and size; of what the
# model of constant velocity misses, in position and in velocity, per root of a second; and of the velocity of an object
# that was seen once, per second. They are ByteTrack's, which are stated per frame, at 30 frames per second.
_MEASURED, _POSITION, _VELOCITY, _FIRST_VELOCITY = 1 / 20, 0.27, 1.03, 1.9

# Confirmed objects are looked for as long as this after they were seen last.
_KEPT_S = 1.0
# Detections in successive frames after which an object is confirmed.
_CONFIRMED_AFTER = 2


@dataclass(slots=True)
class _Track:
    """One object. Each of centre x, centre y, width and height has a Kalman filter of position and velocity.

    The four filters share one covariance, since they share their noise: position, position with velocity, velocity.
    """

    number: int
    class_id: int
    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    covariance: tuple[float, float, float]
    seen_ns: int
    hits: int = 1

    @property
    def confirmed(self) -> bool:
        return self.number > 0

    @property
    def box(self) -> NDArray[np.float64]:
        centre, size = self.position[:2], np.maximum(self.position[2:], 1e-3)
        return np.concatenate([centre - size / 2, centre + size / 2])

    def predict(self, seconds: float) -> None:
        size = _size(self.position)
        pp, pv, vv = self.covariance
        self.position = self.position + seconds * self.velocity
        self.covariance = (
            pp + 2 * seconds * pv + seconds * seconds * vv + seconds * (_POSITION * size) ** 2,
            pv + seconds * vv,
            vv + seconds * (_VELOCITY * size) ** 2,
        )

    def correct(self, measured: NDArray[np.float64]) -> None:
        pp, pv, vv = self.covariance
        total = pp + (_MEASURED * _size(self.position)) ** 2
        difference = measured - self.position
        self.position = self.position + pp / total * difference
        self.velocity = self.velocity + pv / total * difference
        self.covariance = (pp - pp * pp / total, pv - pp * pv / total, vv - pv * pv / total)


class Tracker:
    """Numbers the objects of a detector, frame by frame.

    An object has a number as soon as it was detected in two successive frames, and keeps it through gaps of up to a
    second. Numbers begin at 1 and are never used again. Objects of different classes are never taken for each other.
    Times are those of the frames, so that lost frames do no damage.

    Args:
        confidence: detections from this on are delivered and may begin an object; less confident ones only continue
            an object, and are not delivered otherwise.
    """

    def __init__(self, *, confidence: float = 0.3) -> None:
        self._confidence = confidence
        self._tracks: list[_Track] = []
        self._last_number = 0
        self._time_ns: int | None = None

    def update(self, found: Detections) -> Detections:
        """Tracks the detections of the next frame.

        Args:
            found: of the next frame; also the uncertain ones, from a confidence of about 0.1 on.

        Returns:
            The detections to show, with `track_id`: all confident ones, and the uncertain ones of tracked objects.
        """
        self._predict(found.timestamp_ns)
        boxes = np.asarray(found.xyxy, np.float64)
        confident = found.confidence >= self._confidence
        track_of: dict[int, _Track] = {}
        self._match(found, boxes, np.flatnonzero(confident), self._tracks, _LEAST_OVERLAP, track_of)
        matched = {id(track) for track in track_of.values()}
        waiting = [track for track in self._tracks if track.confirmed and id(track) not in matched]
        self._match(found, boxes, np.flatnonzero(~confident), waiting, _LEAST_OVERLAP_UNCERTAIN, track_of)
        for index, track in track_of.items():
            self._continue(track, boxes[index], found.timestamp_ns)
        self._tracks = [track for track in self._tracks if self._lives(track, found.timestamp_ns)]
        for index in np.flatnonzero(confident).tolist():
            if index not in track_of:
                self._begin(boxes[index], int(found.class_id[index]), found.timestamp_ns)
        shown = [index for index in range(len(found)) if confident[index] or index in track_of]
        numbers = [track_of[index].number if index in track_of else -1 for index in shown]
        return replace(
            found,
            xyxy=found.xyxy[shown],
            confidence=found.confidence[shown],
            class_id=found.class_id[shown],
            track_id=np.array(numbers, np.int32),
        )

    def _predict(self, now_ns: int) -> None:
        """Moves every object to the time of a frame. Time that runs backwards is another stream's: all objects end."""
        passed_ns = 0 if self._time_ns is None else now_ns - self._time_ns
        if passed_ns < 0 or passed_ns > _KEPT_S * 1e9:
            self._tracks = []
        for track in self._tracks:
            track.predict(passed_ns / 1e9)
        self._time_ns = now_ns

    @staticmethod
    def _match(
        found: Detections,
        boxes: NDArray[np.float64],
        indices: NDArray[np.intp],
        tracks: list[_Track],
        least: float,
        track_of: dict[int, _Track],
    ) -> None:
        """Assigns some of the detections to some of the objects, by overlap; notes what was assigned in `track_of`."""
        if not tracks or not len(indices):
            return
        overlap = overlaps(np.array([track.box for track in tracks]), boxes[indices])
        same_class = np.array([track.class_id for track in tracks])[:, None] == found.class_id[indices]
        allowed = same_class & (overlap >= least)
        for row, column in assign(np.where(allowed, overlap, 0)):
            track_of[int(indices[column])] = tracks[row]

    def _continue(self, track: _Track, box: NDArray[np.float64], now_ns: int) -> None:
        track.correct(_state(box))
        track.seen_ns, track.hits = now_ns, track.hits + 1
        if not track.confirmed and track.hits >= _CONFIRMED_AFTER:
            self._last_number += 1
            track.number = self._last_number

    @staticmethod
    def _lives(track: _Track, now_ns: int) -> bool:
        return track.seen_ns == now_ns or (track.confirmed and now_ns - track.seen_ns <= _KEPT_S * 1e9)

    def _begin(self, box: NDArray[np.float64], class_id: int, now_ns: int) -> None:
        state = _state(box)
        size = _size(state)
        covariance = ((_MEASURED * size) ** 2, 0.0, (_FIRST_VELOCITY * size) ** 2)
        self._tracks.append(_Track(-1, class_id, state, np.zeros(4), covariance, now_ns))


def _state(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre x, centre y, width and height of a box."""
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])


def _size(state: NDArray[np.float64]) -> float:
    """The root of a box's area, at least a pixel."""
    return float(np.sqrt(max(state[2], 1.0) * max(state[3], 1.0)))
