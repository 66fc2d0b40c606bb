"""Scripted faults of the synthetic camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_isp.cameras.base import Controls
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.errors import CameraDisconnectedError, CameraError, CameraTimeoutError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.testing import (
    Corrupt,
    Disconnect,
    Drop,
    ExposureChange,
    FaultScript,
    Late,
    TimestampJump,
    Truncate,
)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:60, 0:80]
    Image.fromarray(np.stack([x, y + 60, 200 - x], 2).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def camera_of(photo: Path, *faults: Any, script: FaultScript | None = None, **settings: Any) -> SyntheticCamera:
    given = {"width": 64, "height": 48, "fps": None, **settings}
    return SyntheticCamera(photo, faults=script or FaultScript(faults), **given)


def frames_of(camera: SyntheticCamera, count: int) -> list[RawFrame]:
    frames = [camera.read(timeout_s=10) for _ in range(count)]
    return [frame for frame in frames if frame is not None]


def test_no_script_and_an_empty_one_are_the_same(photo: Path) -> None:
    with SyntheticCamera(photo, width=64, height=48, fps=None) as without, camera_of(photo) as empty:
        for a, b in zip(frames_of(without, 3), frames_of(empty, 3), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
            assert a.status is b.status is FrameStatus.OK


def test_dropped_frames(photo: Path) -> None:
    with camera_of(photo, Drop(0), Drop(3, count=2), Drop(4)) as camera, camera_of(photo) as whole:
        frames, all_frames = frames_of(camera, 5), frames_of(whole, 8)
    assert [frame.sequence for frame in frames] == [1, 2, 5, 6, 7]
    assert [frame.status for frame in frames] == [
        FrameStatus.GAP,
        FrameStatus.OK,
        FrameStatus.GAP,
        FrameStatus.OK,
        FrameStatus.OK,
    ]
    for frame in frames:  # the others are what they are without faults
        np.testing.assert_array_equal(frame.data, all_frames[frame.sequence].data)


def test_truncated_and_corrupted_frames(photo: Path) -> None:
    size = 1000
    with camera_of(photo, Truncate(0, size), Truncate(2, size), Corrupt(3)) as camera, camera_of(photo) as whole:
        frames, good = frames_of(camera, 5), frames_of(whole, 5)
    flat = [frame.data.reshape(-1) for frame in frames]
    truth = [frame.data.reshape(-1) for frame in good]
    np.testing.assert_array_equal(flat[0], [*truth[0][:size], *np.zeros(len(truth[0]) - size)])
    np.testing.assert_array_equal(flat[2], [*truth[2][:size], *truth[1][size:]])  # the rest is the frame before
    rows = slice(16, 32)
    assert (frames[3].data[rows] != good[3].data[rows]).mean() > 0.9
    np.testing.assert_array_equal(frames[3].data[:16], good[3].data[:16])
    np.testing.assert_array_equal(flat[4], truth[4])
    ok, truncated = FrameStatus.OK, FrameStatus.TRUNCATED
    assert [frame.status for frame in frames] == [truncated, ok, truncated, FrameStatus.CORRUPTED, ok]


def test_late_frames(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock_ns = [0]
    monkeypatch.setattr("edge_isp.cameras.synthetic.time.monotonic_ns", lambda: clock_ns[0])
    with camera_of(photo, Late(2, 250_000_000), fps=10.0) as camera:

        def wait(seconds: float) -> bool:
            clock_ns[0] += round(seconds * 1e9)
            return False

        monkeypatch.setattr(camera.closed, "wait", wait)
        seen = []
        for _ in range(4):
            frame = camera.read()
            assert frame
            seen.append((frame.sequence, frame.timestamp_ns, clock_ns[0], frame.status))
        ok, gap = FrameStatus.OK, FrameStatus.GAP
        assert seen == [
            (0, 0, 0, ok),
            (1, 100_000_000, 100_000_000, ok),
            (2, 200_000_000, 450_000_000, ok),
            (4, 400_000_000, 450_000_000, gap),
        ]
    with camera_of(photo, Late(0, 250_000_000), fps=10.0) as camera, pytest.raises(CameraTimeoutError):
        camera.read(timeout_s=0.0)


def test_timestamps_that_jump(photo: Path) -> None:
    with camera_of(photo, TimestampJump(1, 10**12), TimestampJump(3, -(10**12))) as camera:
        frames = frames_of(camera, 5)
    stamps = [frame.timestamp_ns for frame in frames]
    assert stamps[1] - stamps[0] > 10**12
    assert stamps[3] < stamps[2]
    ok = FrameStatus.OK
    assert [frame.status for frame in frames] == [ok, ok, ok, FrameStatus.BAD_TIMESTAMP, ok]


def test_an_exposure_that_changes_by_itself(photo: Path) -> None:
    change = ExposureChange(2, exposure_ns=5_000_000, analogue_gain=2.0)
    with camera_of(photo, change, ExposureChange(3, analogue_gain=8.0)) as camera:
        frames = frames_of(camera, 4)
    assert [(frame.exposure_ns, frame.analogue_gain) for frame in frames] == [
        (10_000_000, 1.0),
        (10_000_000, 1.0),
        (5_000_000, 2.0),
        (5_000_000, 8.0),
    ]
    means = [float(frame.data[:, :16].mean()) for frame in frames]
    assert means[3] > 1.5 * means[2]  # four times the gain


def test_a_camera_that_goes_and_comes_back(photo: Path) -> None:
    script = FaultScript([Drop(1), Disconnect(3, failed_openings=2), Disconnect(5)])
    camera = camera_of(photo, script=script)
    assert [frame.sequence for frame in frames_of(camera, 2)] == [0, 2]
    acts: tuple[Callable[[], object], ...] = (
        camera.read,
        lambda: camera.read(timeout_s=1),
        lambda: camera.control(Controls(exposure_ns=10_000_000)),
    )
    for act in acts:
        with pytest.raises(CameraDisconnectedError, match="it is gone, as its script says; close it"):
            act()
    camera.close()
    assert camera.read() is None
    for _ in range(2):
        with pytest.raises(CameraDisconnectedError, match="it is away"):
            camera_of(photo, script=script)
    with camera_of(photo, script=script) as camera:
        assert [(frame.sequence, frame.status) for frame in frames_of(camera, 2)] == [
            (3, FrameStatus.OK),
            (4, FrameStatus.OK),
        ]
        with pytest.raises(CameraDisconnectedError):
            camera.read()
    with camera_of(photo, script=script) as camera:
        assert [frame.sequence for frame in frames_of(camera, 3)] == [5, 6, 7]


def test_a_fault_with_a_value_out_of_range() -> None:
    for name, wrong in (
        ("frame", lambda: Drop(-1)),
        ("count", lambda: Drop(0, count=-1)),
        ("frame", lambda: Late(-1, 1)),
        ("delay_ns", lambda: Late(0, -1)),
        ("size_bytes", lambda: Truncate(0, -1)),
        ("frame", lambda: Corrupt(-1)),
        ("failed_openings", lambda: Disconnect(0, -1)),
        ("frame", lambda: TimestampJump(-1, 5)),
        ("frame", lambda: ExposureChange(-1)),
    ):
        with pytest.raises(CameraError, match=f"{name} must not be negative, found"):
            wrong()
    for setting in ({"exposure_ns": 0}, {"analogue_gain": -1.0}):
        with pytest.raises(CameraError, match="must be positive, found ExposureChange"):
            ExposureChange(0, **setting)
