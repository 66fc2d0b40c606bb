"""`edge-isp devices`."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_isp.cameras.base import CameraDevice, CameraMode
from edge_isp.cameras.v4l2.camera import V4l2Camera
from edge_isp.cli.main import app

FOUND = [
    CameraDevice("v4l2:/dev/video0", "sensor", (CameraMode("RG10", "640x480", (30.0, 7.5)),)),
    CameraDevice("v4l2:/dev/video1", "webcam", (), "no Bayer format: it delivers YUYV"),
]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One camera that can be used, one that cannot, no picamera2 and no ONNX Runtime."""
    monkeypatch.setattr(V4l2Camera, "devices", staticmethod(lambda: FOUND))
    for name in ("picamera2", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "edge_isp.engines.onnxruntime", raising=False)


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["devices", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_what_there_is_and_what_is_missing() -> None:
    shown = run()
    assert all(text in shown for text in ("v4l2:/dev/video0", "RG10", "640x480", "30, 7.5"))
    assert "v4l2:/dev/video1 (webcam): no Bayer format: it delivers YUYV" in shown
    assert "picamera2: camera 'picamera2': " in shown
    assert "replay:PATH" in shown
    assert "litert" in shown
    assert "pip install 'edge-isp[onnx]'" in shown


def test_as_json() -> None:
    content = json.loads(run("--json"))
    cameras = {part["name"]: part for part in content["cameras"]}
    assert cameras["v4l2"]["devices"][0]["modes"] == [{"format": "RG10", "size": "640x480", "fps": [30.0, 7.5]}]
    assert cameras["replay"] == {"name": "replay", "usage": "replay:PATH", "devices": None, "problem": None}
    assert cameras["picamera2"]["problem"]
    engines = {part["name"]: part["problem"] for part in content["engines"]}
    assert engines["litert"] is None
    assert "onnxruntime" in engines["onnxruntime"]


def test_no_device_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(V4l2Camera, "devices", staticmethod(list))
    assert "v4l2: no device found" in run()
