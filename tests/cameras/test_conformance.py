"""The conformance suite: every camera of ours passes it, and it finds what it is there to find."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_isp import plugins
from edge_isp.cameras.base import Camera, ControlLimits, Controls
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.errors import CameraError, CameraTimeoutError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.testing import Corrupt, Drop, FaultScript, TimestampJump, Truncate, check_camera


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (80, 60), (90, 120, 60)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_replay(recording: Callable[..., Path]) -> None:
    path = recording(frames=3)
    check_camera(lambda: ReplayCamera(path))
    recording("other", frames=1)
    check_camera(lambda: ReplayCamera(path.parent))


@pytest.mark.parametrize("settings", [{"fps": None}, {"fps": 200.0}, {"fps": None, "frames": 3}])
def test_synthetic(photo: Path, settings: dict[str, Any]) -> None:
    check_camera(lambda: SyntheticCamera(photo, width=64, height=48, **settings))


def test_synthetic_with_faults(photo: Path) -> None:
    def faulty() -> SyntheticCamera:
        script = FaultScript([Drop(1), Truncate(2, 100), Corrupt(3), TimestampJump(5, -(10**10)), Drop(6, 2)])
        return SyntheticCamera(photo, width=64, height=48, fps=None, faults=script)

    check_camera(faulty)


class BufferCamera:
    """A third party's camera: it lends two buffers, and has one setting."""

    layout = RawFormat(64, 48, Cfa.RGGB, 10, Packing.U16)

    def __init__(self) -> None:
        self.free = [np.zeros((48, 128), np.uint8) for _ in range(2)]
        self.sequence = 0
        self.closed = threading.Event()

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        if self.closed.is_set():
            return None
        if not self.free:
            raise CameraError("two frames are held; release one")
        return self.frame(self.free.pop())

    def frame(self, data: np.ndarray) -> RawFrame:
        self.sequence += 1
        data[:] = self.sequence % 256
        settings = {
            "data": data,
            "format": self.layout,
            "source": "theirs",
            "sequence": self.sequence,
            "timestamp_ns": 1000 * self.sequence,
            "black_level": (64.0,) * 4,
            "white_level": 1023.0,
            "on_release": lambda: self.free.append(data),
        }
        return RawFrame(**{**settings, **self.wrong()})

    def wrong(self) -> dict[str, Any]:
        return {}

    @property
    def limits(self) -> ControlLimits:
        return ControlLimits((20_000, 30_000_000), (1.0, 8.0))

    def control(self, controls: Controls) -> None:
        self.limits.check(controls)

    def close(self) -> None:
        self.closed.set()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_a_plug_in_from_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "their_package", sys.modules[__name__])
    entry = EntryPoint("theirs", "their_package:BufferCamera", "edge_isp.cameras")
    monkeypatch.setattr(
        plugins,
        "entry_points",
        lambda group, name=None: [entry] if group == "edge_isp.cameras" and name in (None, "theirs") else [],
    )
    check_camera(lambda: plugins.load("cameras", "theirs")())


def broken(**methods: Any) -> Camera:
    camera: Camera = type("Broken", (BufferCamera,), methods)()
    return camera


def _overwrites(self: Any, timeout_s: float | None = None) -> Any:
    self.only = getattr(self, "only", None) if hasattr(self, "only") else self.free[0]
    return None if self.closed.is_set() else self.frame(self.only)


def _waits_for_ever(self: Any, timeout_s: float | None = None) -> Any:
    if timeout_s is None:
        threading.Event().wait(5)  # not woken by `close`
        return None
    return BufferCamera.read(self, timeout_s)


def _plain_error(self: Any, timeout_s: float | None = None) -> Any:
    if timeout_s == 0:
        raise CameraError("not in time")
    return BufferCamera.read(self, timeout_s)


def _times_out(self: Any, timeout_s: float | None = None) -> Any:
    if not self.free:
        raise CameraTimeoutError("no buffer, no frame")
    return BufferCamera.read(self, timeout_s)


def _leaks(self: Any, timeout_s: float | None = None) -> Any:
    leaked.append(Path(__file__).open())  # noqa: SIM115
    return BufferCamera.read(self, timeout_s)


leaked: list[Any] = []


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"wrong": lambda self: {"data": np.zeros((48, 64), np.uint16)}}, "RawFrame.data: must be uint8"),
        ({"wrong": lambda self: {"data": np.zeros((48, 130), np.uint8)}}, r"must be uint8 \(48, 128\)"),
        ({"wrong": lambda self: {"source": ""}}, "RawFrame.source"),
        ({"wrong": lambda self: {"black_level": (1023.0,) * 4}}, "RawFrame.black_level"),
        ({"wrong": lambda self: {"white_level": 1024.0}}, "RawFrame.white_level: must be a code of 10 bits"),
        ({"wrong": lambda self: {"timestamp_ns": 10**19}}, "RawFrame.timestamp_ns: the start of exposure is past"),
        ({"wrong": lambda self: {"timestamp_ns": 5}}, "RawFrame.timestamp_ns: must increase"),
        ({"wrong": lambda self: {"sequence": 5}}, "RawFrame.sequence: must increase"),
        ({"wrong": lambda self: {"sequence": 2 * self.sequence}}, "must have GAP just where numbers are missing"),
        ({"wrong": lambda self: {"status": FrameStatus.GAP}}, "must have GAP just where numbers are missing"),
        ({"wrong": lambda self: {"status": FrameStatus.SKIPPED}}, "SKIPPED says that frames before it are missing"),
        ({"wrong": lambda self: {"exposure_ns": 0}}, "RawFrame.exposure_ns: must be positive or None"),
        ({"wrong": lambda self: {"colour_gains": (1.0, 0.0)}}, "RawFrame.colour_gains"),
        ({"wrong": lambda self: {"on_release": None}}, "release one"),
        ({"read": _overwrites}, "frame 1 changed while it was held"),
        ({"read": _times_out}, "with 2 frames held it must deliver, or say so"),
        ({"read": _plain_error}, "a time-out must be a CameraTimeoutError"),
        ({"read": _waits_for_ever}, "a thread in `read` still waits"),
        ({"read": _leaks}, "file descriptors and threads were"),
        ({"read": lambda self, timeout_s=None: None}, "the end .None. came after 0 frames"),
        ({"limits": ControlLimits((0, 10), (1.0, 8.0))}, "limits.exposure_ns: must be positive and in order"),
        ({"control": lambda self, controls: None}, "is not within limits and must be a CameraError"),
        ({"close": lambda self: None}, "read: must return None once the camera is closed"),
        ({"__enter__": lambda self: None}, "NoneType"),
    ],
)
def test_what_is_wrong_is_found(methods: dict[str, Any], message: str) -> None:
    try:
        with pytest.raises((AssertionError, AttributeError, CameraError), match=message):
            check_camera(lambda: broken(**methods), timeout_s=0.2)
    finally:
        while leaked:
            leaked.pop().close()
