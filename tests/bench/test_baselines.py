"""The ways of others make pictures of the same scene, and the account of a way is of its own process."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from edge_isp.bench.baselines import BASELINES, DETECTOR_BASELINES, _medians, _run, numpy_float32, opencv, rawpy_half
from edge_isp.bench.figures import distribution
from edge_isp.bench.picture_baselines import light_table, objects_in_pictures, software_isp, take_planes
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.spec import demo_recording, demo_scene, open_camera
from edge_isp.errors import BenchError
from edge_isp.models.card import find_model
from edge_isp.pipeline import ModelOptions, Pipeline
from edge_isp.tasks.detect import DetectTask
from edge_isp.verbs import detect


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_the_way_of_today_runs_the_same_network() -> None:
    """In float, and on another demosaicing, so that it is close and not equal."""
    with Pipeline(ReplayCamera(demo_recording()), ModelOptions(tone="srgb")) as pipeline:
        ours = next(iter(pipeline)).picture.rgb
    frame = ReplayCamera(demo_recording()).read()
    assert frame is not None
    theirs = numpy_float32("rfdcsanet-s", frame)(frame)
    assert theirs.shape == ours.shape
    assert theirs.dtype == np.uint8
    assert psnr(theirs, ours) > 40
    # The residual is what makes it: without it, it is further off.
    assert psnr(opencv("rfdcsanet-s", frame)(frame), ours) < psnr(theirs, ours)


def test_models_that_the_same_network_in_float_is_not_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = ReplayCamera(demo_recording()).read()
    assert frame is not None
    card = find_model("rfdcsanet-m", None)
    in_two = replace(card, name="in-two", outputs=(replace(card.outputs[0], layout="residual24"),))
    monkeypatch.setattr("edge_isp.models.card.find_model", lambda model, sensor: in_two)
    with pytest.raises(BenchError, match="one output plane for each colour of a pixel, and in-two is not one"):
        numpy_float32("in-two", frame)


def test_rawpy_makes_the_same_scene_of_half_size() -> None:
    frame = ReplayCamera(demo_recording()).read()
    assert frame is not None
    half = rawpy_half("rfdcsanet-s", frame)(frame)
    assert half.shape == (frame.format.height // 2, frame.format.width // 2, 3)
    whole = opencv("rfdcsanet-s", frame)(frame)[::2, ::2]
    assert np.corrcoef(half.mean(2).ravel(), whole.mean(2).ravel())[0, 1] > 0.95


def test_every_way_measures_itself() -> None:
    for name in ("edge_isp", "opencv"):
        job = {"task": "isp", "baseline": name, "model": "rfdcsanet-s", "width": 64, "height": 48, "seconds": 0.01}
        found = _run(job)
        assert found["fps"] > 0
        assert found["cpu_s_per_frame"] > 0
        assert found["rss_peak_bytes"] > found["rss_above_imports_bytes"]


def test_what_is_missing_is_said_and_medians_are_of_the_rounds() -> None:
    skipped = _medians("rawpy", "a picture", [], "the package rawpy is not installed")
    assert (skipped.fps, skipped.rounds, skipped.skipped) == (None, 0, "the package rawpy is not installed")
    names = ("fps", "latency_p50_ns", "latency_p95_ns", "cpu_s_per_frame", "rss_above_imports_bytes", "rss_peak_bytes")
    peer = _medians("opencv", "a picture", [dict.fromkeys(names, value) for value in (1, 5, 2)], None)
    assert (peer.fps, peer.rss_peak_bytes, peer.rounds) == (2, 2, 3)
    assert distribution("x", [1]).n == 1
    assert list(BASELINES) == ["edge_isp", "numpy_float32", "opencv", "software_isp", "rawpy"]


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    makes, _, stream = BASELINES["opencv"]
    monkeypatch.setitem(BASELINES, "opencv", (makes, ("edge_isp_imaginary",), stream))
    skipped = {"skipped": "the package edge_isp_imaginary is not installed"}
    assert _run({"task": "isp", "baseline": "opencv"}) == skipped


def test_the_software_isp_makes_the_same_scene() -> None:
    frame = ReplayCamera(demo_recording()).read()
    assert frame is not None
    theirs, other = software_isp("", frame)(frame), opencv("", frame)(frame)
    assert theirs.shape == other.shape
    for colour in range(3):
        assert np.corrcoef(theirs[..., colour].ravel(), other[..., colour].ravel())[0, 1] > 0.95


def test_a_detector_finds_in_the_picture_what_it_finds_in_the_mosaic() -> None:
    """The planes, their curve and their places are right, so that the peers do the work that they are timed for."""
    with open_camera(f"synthetic:{demo_scene()},width=832,height=624") as camera:
        frame = camera.read()
    assert frame is not None
    mosaic = detect(frame)
    found = objects_in_pictures("raw-detector", frame)(software_isp("", frame)(frame))
    assert len(mosaic.xyxy)
    best, other = int(np.argmax(mosaic.confidence)), int(np.argmax(found.confidence))
    assert mosaic.class_id[best] == found.class_id[other]
    assert overlap(mosaic.xyxy[best], found.xyxy[other]) > 0.7


def test_the_planes_of_a_picture_are_those_of_the_mosaic() -> None:
    """Another demosaicing and another gamma, so that they are close and not equal."""
    with open_camera(f"synthetic:{demo_scene()},width=832,height=624") as camera:
        frame = camera.read()
    assert frame is not None
    card = find_model("raw-detector", None)
    expected = np.zeros(DetectTask(card).input_shape(frame.format), np.int8)
    DetectTask(card).encode(frame, expected)
    small = cv2.resize(software_isp("", frame)(frame), (416, 312), interpolation=cv2.INTER_AREA)
    planes = np.zeros((156, 208, 4), np.int8)
    take_planes(small, light_table(card.input), planes)
    difference = planes.astype(int) - expected[0, 26:182]
    assert np.abs(difference).mean(axis=(0, 1)).max() < 5  # of 255


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(float(width), 0) * max(float(height), 0)
    areas = [float(np.prod(box[2:] - box[:2])) for box in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("name", ["edge_isp", "through_picture", "software_isp", "isp_path"])
def test_every_peer_of_a_detector_measures_itself(name: str) -> None:
    job = {"task": "detector", "baseline": name, "model": "raw-detector", "width": 640, "height": 480, "seconds": 0.01}
    assert _run(job)["fps"] > 0


class FakePicamera2:
    """A camera of picamera2 whose ISP makes grey pictures."""

    cameras: ClassVar[list[object]] = []

    @staticmethod
    def global_camera_info() -> list[object]:
        return FakePicamera2.cameras

    def create_video_configuration(self, main: dict[str, Any], buffer_count: int) -> dict[str, Any]:
        return main

    def configure(self, main: dict[str, Any]) -> None:
        assert main["format"] == "BGR888"
        self.size = main["size"]

    def start(self) -> None:
        pass

    def capture_array(self, name: str) -> np.ndarray:
        assert name == "main"
        return np.full((self.size[1], self.size[0], 3), 128, np.uint8)


def test_the_peer_with_a_camera_is_skipped_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("picamera2")
    module.Picamera2 = FakePicamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    job = {"task": "detector", "baseline": "picamera2", "model": "raw-detector", "width": 640, "height": 480}
    assert _run({**job, "seconds": 0.01}) == {"skipped": "there is no camera"}
    monkeypatch.setattr(FakePicamera2, "cameras", [{}])
    assert _run({**job, "seconds": 0.01})["fps"] > 0
    assert list(DETECTOR_BASELINES) == ["edge_isp", "through_picture", "software_isp", "isp_path", "picamera2"]
