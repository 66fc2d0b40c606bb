"""A camera that is turned or mirrored sees what the same camera upright sees: the same objects, at the same places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.unpack import unpack
from edge_isp.metering.meter import complete_frame
from edge_isp.models.card import find_model
from edge_isp.results import Detections
from edge_isp.tasks.detect import DetectTask
from tests.support.recordings import DEMO
from tests.support.turned import stored

CARD = find_model("raw-detector", None)


@pytest.fixture(scope="module")
def upright() -> RawFrame:
    with ReplayCamera(DEMO) as camera:
        frame = camera.read()
    assert frame is not None
    return complete_frame(frame)


@pytest.fixture(scope="module")
def engine() -> LiteRtEngine:
    return LiteRtEngine(CARD.path, threads=1)


def turned(frame: RawFrame, orientation: int) -> RawFrame:
    """The frame as a turned camera would give it: its mosaic and the order of its colours turned."""
    codes = np.ascontiguousarray(stored(unpack(frame.data, frame.format.layout), orientation))
    letters = np.array(list(frame.format.cfa)).reshape(2, 2)
    cfa = Cfa("".join(stored(letters, orientation).ravel()))
    height, width = codes.shape
    return replace(
        frame,
        data=codes.view(np.uint8),
        format=RawFormat(width, height, cfa, frame.format.bit_depth, Packing.U16),
        orientation=orientation,
    )


def detections(engine: LiteRtEngine, frame: RawFrame) -> Detections:
    task = DetectTask(CARD)
    tensor = np.empty(task.input_shape(frame.format), np.int8)
    task.encode(frame, tensor)
    return task.decode(engine.run([tensor]), frame, tensor)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera_detects_what_an_upright_one_does(
    engine: LiteRtEngine, upright: RawFrame, orientation: int
) -> None:
    expected, found = detections(engine, upright), detections(engine, turned(upright, orientation))
    assert len(expected) > 0
    # The two greens of a cell have levels of their own only where a sensor's differ; else the tensors are equal.
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    assert (found.names, found.size) == (expected.names, expected.size)
