"""The ways of others make pictures of the same scene, and the account of a way is of its own process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_isp.bench.baselines import BASELINES, _medians, _run, numpy_float32, opencv, rawpy_half
from edge_isp.bench.figures import distribution
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.spec import demo_recording
from edge_isp.errors import BenchError
from edge_isp.models.card import find_model
from edge_isp.pipeline import ModelOptions, Pipeline


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
        found = _run({"baseline": name, "model": "rfdcsanet-s", "width": 64, "height": 48, "seconds": 0.01})
        assert found["fps"] > 0
        assert found["cpu_s_per_frame"] > 0
        assert found["rss_peak_bytes"] > found["rss_above_imports_bytes"]


def test_what_is_missing_is_said_and_medians_are_of_the_rounds() -> None:
    skipped = _medians("rawpy", 3, [], "the package rawpy is not installed")
    assert (skipped.fps, skipped.rounds, skipped.skipped) == (None, 0, "the package rawpy is not installed")
    names = ("fps", "latency_p50_ns", "latency_p95_ns", "cpu_s_per_frame", "rss_above_imports_bytes", "rss_peak_bytes")
    peer = _medians("opencv", 3, [dict.fromkeys(names, value) for value in (1, 5, 2)], None)
    assert (peer.fps, peer.rss_peak_bytes, peer.rounds) == (2, 2, 3)
    assert distribution("x", [1]).n == 1
    assert list(BASELINES) == ["edge_isp", "numpy_float32", "opencv", "rawpy"]


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    makes, _, prepare = BASELINES["opencv"]
    monkeypatch.setitem(BASELINES, "opencv", (makes, ("edge_isp_imaginary",), prepare))
    assert _run({"baseline": "opencv"}) == {"missing": "edge_isp_imaginary"}
