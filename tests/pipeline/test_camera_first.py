"""What is wrong with a camera is said before kernels are compiled, which takes a minute on a small board."""

from __future__ import annotations

import pytest

from edge_isp.cameras.base import Camera
from edge_isp.errors import CameraError
from edge_isp.pipeline import Pipeline, pipeline


def test_a_camera_that_cannot_be_opened_is_said_before_kernels_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def compile_kernels(task: str) -> None:
        done.append("kernels")

    def no_camera() -> Camera:
        done.append("camera")
        raise CameraError("there is no such device")

    monkeypatch.setattr(pipeline, "compile_pipeline_kernels", compile_kernels)
    with Pipeline(no_camera, "rfdcsanet-s") as stream, pytest.raises(CameraError, match="no such device"):
        stream.start()
    assert done == ["camera"]
