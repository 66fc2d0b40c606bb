"""Boxes of a turned frame are those of the frame as it lies, turned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.frame import RawFrame
from edge_isp.models.card import find_model
from edge_isp.orientation import upright_boxes
from edge_isp.results import Detections
from edge_isp.tasks.registry import task_for
from tests.support.recordings import DEMO


def detections(frame: RawFrame) -> Detections:
    """Detections of made-up outputs: what is said of their boxes does not depend on the network."""
    card = find_model("raw-detector", None)
    task = task_for(card)
    rng = np.random.default_rng(1)
    outputs = [rng.integers(-128, 128, card.shape).astype(np.int8) for card in card.outputs]
    found = task.decode(outputs, frame, np.zeros(card.input.shape, np.int8))
    assert isinstance(found, Detections)
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_turned_upright(orientation: int) -> None:
    with ReplayCamera(DEMO) as camera:
        frame = camera.read()
    assert frame is not None
    lying, upright = detections(frame), detections(replace(frame, orientation=orientation))
    assert len(lying) > 0
    size = (frame.format.width, frame.format.height)
    np.testing.assert_array_equal(upright.xyxy, upright_boxes(lying.xyxy, *size, orientation))
    np.testing.assert_array_equal(upright.confidence, lying.confidence)
    turned = size[::-1] if orientation > 4 else size
    assert upright.xyxy.min() >= 0
    assert (upright.xyxy[:, 2:].max(axis=0) <= turned).all()
