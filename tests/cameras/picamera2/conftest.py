"""The real picamera2 over a stand-in for libcamera; see `stand_in/libcamera`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

STAND_IN = Path(__file__).parent / "stand_in"


class _MemoryHeap:
    """Anonymous files in place of the kernel's DMA heap."""

    def alloc(self, name: str, size: int) -> SimpleNamespace:
        descriptor = os.memfd_create(name)
        os.ftruncate(descriptor, size)
        return SimpleNamespace(get=lambda: descriptor, isValid=lambda: True)

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def picamera2() -> Any:
    """The real package, over the stand-in."""
    try:
        metadata.version("picamera2")
    except metadata.PackageNotFoundError:
        pytest.skip("picamera2 is not installed (pip install picamera2; it needs libcap-dev and gcc)")
    sys.path.insert(0, str(STAND_IN))
    package = import_module("picamera2")
    allocator: Any = import_module("picamera2.allocators.dmaallocator")
    allocator.DmaHeap = _MemoryHeap
    allocator.fcntl = SimpleNamespace(ioctl=lambda *_: 0)  # the cache synchronisation of a DMA buffer
    return package


@pytest.fixture
def plug(picamera2: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Connects a camera to a board of the stand-in: `plug(board="vc4", model="imx219", cfa="RGGB", lens=True)`."""
    libcamera = import_module("libcamera")
    manager = libcamera.CameraManager.singleton()

    def connect(
        board: str = "vc4",
        *,
        model: str = "imx219",
        cfa: str = "RGGB",
        mono: bool = False,
        lens: bool = False,
        af_modes: tuple[int, ...] = (0, 1, 2),
    ) -> Any:
        platform = picamera2.Platform.PISP if board == "pisp" else picamera2.Platform.VC4
        monkeypatch.setattr(picamera2.Picamera2, "platform", platform)
        full, mode = (0, 0, 3280, 2464), libcamera.Mode
        modes = (
            mode(1640, 60, 10, 41.85, full),  # of the IMX219's widths, but few rows
            mode(640, 48, 10, 103.33, (1000, 752, 1280, 960)),
            mode(640, 48, 8, 206.65, (1000, 752, 1280, 960)),
            mode(3280, 80, 10, 21.19, full),
            mode(1332, 50, 12, 120.0, (0, 0, 1332, 990)),
        )
        return manager.plug(libcamera.Sensor(model, cfa, modes, mono, lens, af_modes, model != "imx462"), board)

    yield connect
    manager.unplug_all()
