"""Detections drawn on a picture."""

from __future__ import annotations

import colorsys
import importlib.util
from dataclasses import replace

import numpy as np
import pytest

import edge_isp
from edge_isp.errors import MissingDependencyError
from edge_isp.results import Detections, LineCount, Picture, ZoneCount

PICTURE = Picture(np.full((240, 320, 3), 90, np.uint8), "scene.raw", 7, 1)
FOUND = Detections(
    np.array([[40, 60, 140, 200], [180, 100, 300, 220]], np.float32),
    np.array([0.9, 0.6], np.float32),
    np.array([1, 0], np.int32),
    ("cat", "dog"),
    "scene.raw",
    7,
    1,
    size=(320, 240),
)


def hue(pixel: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*(pixel / 255))[0]


def edge(picture: Picture, box: int) -> np.ndarray:
    """A pixel in the middle of a box's left edge."""
    x0, y0, _, y1 = FOUND.xyxy[box].astype(int)
    pixel: np.ndarray = picture.rgb[(y0 + y1) // 2, x0]
    return pixel


def test_boxes_have_the_colour_of_their_class_and_nothing_else_changes() -> None:
    drawn = edge_isp.annotate(PICTURE, FOUND, with_supervision=False)
    assert (drawn.source, drawn.sequence, drawn.timestamp_ns) == ("scene.raw", 7, 1)
    assert (PICTURE.rgb == 90).all()
    for box, class_id in enumerate((1, 0)):
        assert hue(edge(drawn, box)) == pytest.approx(class_id * 0.618034 % 1, abs=0.02)
    changed = (drawn.rgb != 90).any(2)
    assert not changed[90:190, 60:120].any()  # inside a box
    assert not changed[:30].any()
    assert changed[100:102, 180:300].all()  # the upper edge


def test_tracked_objects_have_the_colour_of_their_number() -> None:
    tracked = replace(FOUND, track_id=np.array([5, -1], np.int32))
    drawn = edge_isp.annotate(PICTURE, tracked, with_supervision=False)
    assert hue(edge(drawn, 0)) == pytest.approx(5 * 0.618034 % 1, abs=0.02)
    assert hue(edge(drawn, 1)) == pytest.approx(0, abs=0.02)
    plain = edge_isp.annotate(PICTURE, FOUND, with_supervision=False)
    assert (drawn.rgb != plain.rgb).any(2)[40:60, 40:140].any()  # "#5" stands in the label


def test_age_rate_and_counts_stand_in_the_corner() -> None:
    corner = (slice(0, 60), slice(0, 160))
    nothing = replace(FOUND, xyxy=FOUND.xyxy[:0], confidence=FOUND.confidence[:0], class_id=FOUND.class_id[:0])
    counted = replace(nothing, zones=(ZoneCount("door", 2, 5),), lines=(LineCount("gate", 1, 3),))
    pictures = [
        edge_isp.annotate(PICTURE),
        edge_isp.annotate(PICTURE, fps=12.5),
        edge_isp.annotate(PICTURE, age_ns=45_000_000),
        edge_isp.annotate(PICTURE, counted, fps=12.5, age_ns=45_000_000),
    ]
    parts = [picture.rgb[corner].tobytes() for picture in pictures]
    assert len(set(parts)) == 4
    assert (pictures[0].rgb == PICTURE.rgb).all()
    assert pictures[0].rgb is not PICTURE.rgb
    assert all((picture.rgb[100:] == 90).all() for picture in pictures)


@pytest.mark.parametrize("box", [[-20, -20, 10, 10], [310, 230, 400, 300], [50, 50, 50, 50], [0, 0, 320, 240]])
def test_odd_boxes_are_drawn(box: list[float]) -> None:
    found = replace(FOUND, xyxy=np.array([box, box], np.float32))
    assert edge_isp.annotate(PICTURE, found, with_supervision=False).rgb.shape == PICTURE.rgb.shape


def test_supervision_draws_where_it_is_installed() -> None:
    if importlib.util.find_spec("supervision") is None:
        with pytest.raises(MissingDependencyError, match=r"edge-isp\[supervision\]"):
            edge_isp.annotate(PICTURE, FOUND, with_supervision=True)
        pytest.skip("needs the extra [supervision]")
    drawn = edge_isp.annotate(PICTURE, replace(FOUND, track_id=np.array([5, -1], np.int32)))
    assert (PICTURE.rgb == 90).all()
    assert hue(edge(drawn, 0)) == pytest.approx(5 * 0.618034 % 1, abs=0.02)
    assert (drawn.rgb == 90).all(2)[100:180, 60:120].all()
