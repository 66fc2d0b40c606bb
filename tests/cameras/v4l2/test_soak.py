"""Ten minutes of frames: file descriptors, threads and memory are where they were; `soak.py` runs the whole day."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.testing import Drop, FaultScript, Truncate
from tests.cameras.v4l2.fake_kernel import FakeKernel
from tests.cameras.v4l2.soak import MINUTE, PipelineState, read_frames, soak_v4l2


@pytest.fixture
def traced() -> object:
    """FrameCounts every byte that Python allocates: the process's own memory is too coarse for a short run."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_v4l2(kernel: FakeKernel) -> None:
    before, after = soak_v4l2(kernel, 5 * MINUTE)
    assert (after.descriptors, after.threads) == (before.descriptors, before.threads)
    # 14 400 frames more: a single reference kept of each would be more than 100 kB.
    assert after.python_bytes - before.python_bytes < 50_000


@pytest.mark.usefixtures("traced")
def test_synthetic(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (90, 120, 60)).save(tmp_path / "photo.png")
    script = FaultScript([*(Drop(number) for number in range(0, 1000, 10)), Truncate(105, 20)])
    with SyntheticCamera(tmp_path / "photo.png", width=16, height=8, fps=None, faults=script) as camera:
        read_frames(camera, 150)
        before = PipelineState.now()
        read_frames(camera, 600)
        after = PipelineState.now()
    assert (after.descriptors, after.threads) == (before.descriptors, before.threads)
    assert after.python_bytes - before.python_bytes < 20_000
