"""The tracker: assignment, numbers that stay, gaps, hiding, and its quality beside the package `trackers`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from edge_isp.results import Detections
from edge_isp.tracking import Tracker
from edge_isp.tracking.assignment import assign, overlaps
from tests.tracking.scenes import FPS, detections, scene
from tests.tracking.scores import Scores, score

SECOND_NS = 10**9
BOX = np.array([100.0, 100.0, 160.0, 220.0])
SEEDS = range(6)


def test_the_assignment_is_the_best_there_is() -> None:
    random = np.random.default_rng(0)
    for rows, columns in [(1, 1), (3, 3), (2, 7), (7, 2), (12, 12), (0, 4), (4, 0)] * 20:
        gain = random.uniform(0, 1, (rows, columns)) * (random.uniform(0, 1, (rows, columns)) < 0.6)
        pairs = assign(gain)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
        assert all(gain[pair] > 0 for pair in pairs)
        best = gain[linear_sum_assignment(gain, maximize=True)].sum()
        assert sum(gain[pair] for pair in pairs) == pytest.approx(best)


def test_overlap_of_boxes() -> None:
    empty = np.zeros((1, 4))
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], float)
    np.testing.assert_allclose(overlaps(boxes[:1], boxes), [[1, 1 / 3, 0]])
    np.testing.assert_array_equal(overlaps(empty, boxes), [[0, 0, 0]])
    np.testing.assert_array_equal(overlaps(empty, empty), [[0]])


def test_an_object_keeps_its_number_and_a_new_one_gets_the_next() -> None:
    tracker = Tracker()
    numbers = []
    for index in range(6):
        boxes = [BOX + 8 * index] if index < 2 else [BOX + 8 * index, BOX + np.array([600, 0, 600, 0])]
        numbers.append(track(tracker, index, *boxes).tracks)
    assert numbers == [[None], [1], [1, None], [1, 2], [1, 2], [1, 2]]


def test_a_lost_object_comes_back_under_its_number_where_it_was_heading() -> None:
    tracker = Tracker()
    for index in range(10):
        track(tracker, index, BOX + np.array([12 * index, 0, 12 * index, 0]))
    for index in range(10, 16):
        assert not len(track(tracker, index))
    # At 180 pixels a second it has passed more than its own width.
    assert track(tracker, 16, BOX + np.array([12 * 16, 0, 12 * 16, 0])).tracks == [1]


def test_lost_frames_do_no_damage() -> None:
    tracker = Tracker()
    for index in [*range(8), 14]:
        numbers = track(tracker, index, BOX + np.array([12 * index, 0, 12 * index, 0])).tracks
    assert numbers == [1]


def test_after_a_second_an_object_is_another_one() -> None:
    tracker = Tracker()
    for index in range(4):
        track(tracker, index, BOX)
    for index in range(4, 3 + FPS + 2):
        track(tracker, index)
    assert track(tracker, 3 + FPS + 2, BOX).tracks == [None]
    assert track(tracker, 3 + FPS + 3, BOX).tracks == [2]


def test_time_that_runs_backwards_begins_anew() -> None:
    """Another recording, or a camera whose clock began again."""
    tracker = Tracker()
    for index in range(100, 104):
        track(tracker, index, BOX)
    assert track(tracker, 0, BOX).tracks == [None]
    assert track(tracker, 1, BOX).tracks == [2]


def test_an_uncertain_detection_continues_an_object_and_begins_none() -> None:
    tracker = Tracker(confidence=0.5)
    for index in range(3):
        track(tracker, index, BOX, confidence=[0.8])
    found = track(tracker, 3, BOX + 4, BOX + np.array([700, 0, 700, 0]), confidence=[0.2, 0.3])
    assert found.tracks == [1]
    np.testing.assert_allclose(found.xyxy, [BOX + 4])
    for index in range(4, 8):
        assert len(track(tracker, index, BOX + np.array([700, 0, 700, 0]), confidence=[0.3])) == 0


def test_classes_are_never_mixed() -> None:
    tracker = Tracker()
    for index in range(3):
        track(tracker, index, BOX, classes=[0])
    assert track(tracker, 3, BOX, classes=[1]).tracks == [None]
    found = track(tracker, 4, BOX, BOX, classes=[0, 1])
    assert dict(zip(found.names, found.tracks, strict=True)) == {"person": 1, "car": 2}


def test_a_false_alarm_of_one_frame_uses_no_number() -> None:
    tracker = Tracker()
    assert track(tracker, 0, BOX).tracks == [None]
    track(tracker, 1)
    track(tracker, 2, BOX + 300)
    assert track(tracker, 3, BOX + 300).tracks == [1]


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [0, 0, 1e6, 1e6], [-50, -50, -10, -10], [3, 3, 3.0001, 700]])
def test_odd_boxes_stay_finite(box: list[float]) -> None:
    tracker = Tracker()
    with np.errstate(all="raise"):
        for index in range(30):
            assert np.isfinite(track(tracker, index, np.array(box), BOX).xyxy).all()


def test_quality_on_simulated_scenes() -> None:
    ours = [tracked_by_us(seed) for seed in SEEDS]
    assert np.mean([scores.idf1 for scores in ours]) > 0.8, ours
    assert min(scores.recall for scores in ours) > 0.75, ours


def test_quality_beside_bytetrack_of_trackers() -> None:
    trackers = pytest.importorskip("trackers", reason="needs the package 'trackers' (NumPy 2)")
    ours, theirs = [tracked_by_us(seed) for seed in SEEDS], [tracked_by_bytetrack(trackers, seed) for seed in SEEDS]
    for name, scores in (("ours", ours), ("ByteTrack of trackers", theirs)):
        mean = [float(np.mean([getattr(s, field) for s in scores])) for field in ("idf1", "switches", "recall")]
        print(f"{name}: IDF1 {mean[0]:.3f}, switches {mean[1]:.1f} a scene, recall {mean[2]:.3f}")
    assert np.mean([s.idf1 for s in ours]) >= np.mean([s.idf1 for s in theirs]) - 0.02, (ours, theirs)


def track(
    tracker: Tracker,
    index: int,
    *boxes: np.ndarray,
    confidence: list[float] | None = None,
    classes: list[int] | None = None,
) -> Detections:
    sure = np.array([0.9 - 0.1 * number for number in range(len(boxes))] if confidence is None else confidence)
    return tracker.update(detections(np.array(boxes), sure, (index + 1) * SECOND_NS // FPS, classes))


def tracked_by_us(seed: int) -> Scores:
    tracker, tracked = Tracker(confidence=0.5), []
    frames = scene(seed)
    for frame in frames:
        found = tracker.update(replace(frame.found))
        assert found.track_id is not None
        numbered = found.track_id > 0
        tracked.append((found.xyxy[numbered], found.track_id[numbered]))
    return score([frame.objects for frame in frames], tracked)


def tracked_by_bytetrack(trackers: object, seed: int) -> Scores:
    tracker = trackers.ByteTrackTracker(  # type: ignore[attr-defined]
        frame_rate=FPS, track_activation_threshold=0.5, high_conf_det_threshold=0.5, minimum_consecutive_frames=2
    )
    frames, tracked = scene(seed), []
    for frame in frames:
        found = tracker.update(frame.found.to_supervision())
        numbers = np.array([-1 if number is None else number for number in found.tracker_id], int)
        tracked.append((found.xyxy[numbers >= 0], numbers[numbers >= 0]))
    return score([frame.objects for frame in frames], tracked)
