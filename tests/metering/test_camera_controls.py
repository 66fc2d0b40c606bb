"""What the synthetic camera makes of exposure and gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.errors import CameraError
from edge_isp.frame import RawFrame
from edge_isp.kernels.unpack import unpack


@pytest.fixture
def camera(tmp_path: Path) -> SyntheticCamera:
    """Of a uniform grey."""
    path = tmp_path / "grey.png"
    Image.new("RGB", (64, 48), (90, 90, 90)).save(path)
    return SyntheticCamera(path, width=64, height=48, fps=None)


def read(camera: SyntheticCamera) -> tuple[RawFrame, float]:
    """A frame, and its mean light."""
    frame = camera.read()
    assert frame is not None
    codes = unpack(frame.data, frame.format.layout)
    return frame, float((codes.mean() - frame.black_level[0]) / (frame.white_level - frame.black_level[0]))


def test_exposure_shows_two_frames_later_and_gain_one(camera: SyntheticCamera) -> None:
    _, before = read(camera)
    camera.control(exposure_ns=20_000_000, analogue_gain=2.0)
    seen = [read(camera) for _ in range(3)]
    assert [(f.exposure_ns, f.analogue_gain) for f, _ in seen] == [
        (10_000_000, 2.0),
        (20_000_000, 2.0),
        (20_000_000, 2.0),
    ]
    np.testing.assert_allclose([light / before for _, light in seen], [2, 4, 4], rtol=0.01)


def test_light_changes_with_the_next_frame(camera: SyntheticCamera) -> None:
    _, before = read(camera)
    camera.illuminate(light=0.5)
    frame, after = read(camera)
    assert frame.exposure_ns == 10_000_000
    assert after / before == pytest.approx(0.5, rel=0.02)
    camera.illuminate(colour_temperature_k=3000.0)
    frame, _ = read(camera)
    assert frame.colour_temperature_k == 3000.0


def test_what_a_synthetic_camera_cannot_do(camera: SyntheticCamera) -> None:
    with pytest.raises(CameraError, match="only exposure_ns and analogue_gain can be set"):
        camera.control(fps=10.0)
    with pytest.raises(CameraError, match="only exposure_ns and analogue_gain can be set"):
        camera.control(auto_exposure=False)
    with pytest.raises(CameraError, match="exposure_ns must be from 20000 to 33333333 at this frame rate, found 1"):
        camera.control(exposure_ns=1)
    with pytest.raises(CameraError, match=r"analogue_gain must be from 1.0 to 16.0 .* found 32.0"):
        camera.control(exposure_ns=20_000_000, analogue_gain=32.0)
    assert read(camera)[0].exposure_ns == 10_000_000
    assert read(camera)[0].exposure_ns == 10_000_000
    assert read(camera)[0].exposure_ns == 10_000_000
