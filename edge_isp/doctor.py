"""What this machine is and what it can run: all that a maintainer asks for in a bug report.

Everything is read, nothing is changed. Cameras are opened for a moment, to say why one cannot be. A delegate that is
found is loaded in a process of its own and runs one small frame there, since a library on the disk proves little.
"""

from __future__ import annotations

import glob
import grp
import os
import platform
import pwd
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edge_isp.board import Board, read_text
from edge_isp.cameras.base import CameraDevice
from edge_isp.engines.base import EngineReport
from edge_isp.engines.delegates import DelegateSpec, access_denied, delegates, probe
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.engines.parity import ParityLimits
from edge_isp.errors import CameraError, EdgeIspError
from edge_isp.models.card import find_model, read_card, shipped_models
from edge_isp.models.memory import default_tile, stream_bytes
from edge_isp.plugins import load
from edge_isp.spec import without_secrets

_RUNTIMES = ("ai-edge-litert", "tflite-runtime", "onnxruntime", "onnxruntime-qnn", "rknn-toolkit-lite2", "hailort")
_PACKAGES = ("numpy", "numba", "llvmlite", "pillow", "opencv-python", "opencv-python-headless", "simplejpeg")

# Frames whose peak of memory is shown: 720p, 1080p, a camera's whole 12 and 64 megapixels.
_FRAME_SIZES = ((1280, 720), (1920, 1080), (4056, 3040), (9248, 6944))

_TRIAL_LIMIT_S = 60.0
_TRIAL_CELLS = 32


def examine(root: Path = Path("/"), *, try_delegates: bool = True, open_cameras: bool = True) -> dict[str, Any]:
    """Examines the machine, its cameras, runtimes and delegates.

    Args:
        root: the root of the file system that is examined.
        try_delegates: False only looks for delegates and loads none.
        open_cameras: False opens no camera, for example because another part of the program is about to.

    Returns:
        Plain values that can be written as JSON.
    """
    board, picamera2 = Board(root), _picamera2()
    return {
        "edge_isp": _version("edge-isp"),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "system": _system(board),
        "board": _board(board),
        "processor": _processor(board),
        "memory": _memory(board),
        "temperatures_c": board.temperatures_c(),
        "throttled": _throttled(board),
        "cameras": list(_cameras(root)),
        "picamera2": picamera2,
        # Devices belong to this machine, whatever folder is examined.
        "opened_cameras": list(_opened_cameras(picamera2)) if open_cameras and root == Path("/") else [],
        "runtimes": {name: _version(name) for name in _RUNTIMES},
        "delegates": [_delegate(spec, root, try_it=try_delegates) for spec in delegates()],
        "permissions": _permissions(root),
        "packages": {name: _version(name) for name in _PACKAGES},
        "environment": {
            name: without_secrets(value)
            for name, value in sorted(os.environ.items())
            if name.startswith(("EDGE_ISP_", "NUMBA_", "OMP_", "LIBCAMERA_", "TEFLON_", "LD_LIBRARY_PATH"))
        },
    }


def _memory(board: Board) -> dict[str, Any]:
    """What is available, and the estimated peak of each model in a stream of frames, whole and in tiles."""
    available = board.available_memory_bytes()
    return {
        "available_mb": None if available is None else available // 10**6,
        "peaks": [
            _peak(name, path, width, height)
            for name, path in shipped_models().items()
            for width, height in _FRAME_SIZES
        ],
    }


def _peak(name: str, card_path: Path, width: int, height: int) -> dict[str, Any]:
    card = read_card(card_path)
    size = card.input_size(width, height)
    tile = default_tile(card, *size)
    return {
        "model": name,
        "width": width,
        "height": height,
        "whole_mb": stream_bytes(card, *size) // 10**6,
        "tiles_mb": None if tile is None else stream_bytes(card, *size, tile) // 10**6,
    }


def _system(board: Board) -> dict[str, str | None]:
    return {
        "name": board.system(),
        "kernel": board.kernel(),
        "machine": board.architecture(),
        "libc": " ".join(platform.libc_ver()),
    }


def _board(board: Board) -> dict[str, Any]:
    memory_bytes = board.memory_bytes()
    return {
        "name": board.model(),
        "soc": board.soc(),
        "compatible": list(board.compatible()),
        "memory_mib": None if memory_bytes is None else memory_bytes // 2**20,
    }


def _processor(board: Board) -> dict[str, Any]:
    return {
        "cores": board.cpu_count(),
        "policies": [
            {
                "name": policy.name,
                "governor": policy.governor,
                "frequency_khz": policy.frequency_khz,
                "maximum_khz": policy.maximum_khz,
            }
            for policy in board.clock_policies()
        ],
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _throttled(board: Board) -> dict[str, list[str]] | None:
    throttling = board.throttling()
    if throttling is None:
        return None
    return {"now": list(throttling.now), "since_start": list(throttling.since_start)}


def _cameras(root: Path) -> Iterator[dict[str, str]]:
    """The video devices, with the kernel's names for them."""
    for entry in sorted(glob.glob(str(root / "sys/class/video4linux/*")), key=_natural):
        device = root / "dev" / Path(entry).name
        wrong = access_denied(device) if device.exists() else f"there is no {device}"
        yield {"device": str(device), "name": read_text(Path(entry) / "name") or "", "problem": wrong}


def _opened_cameras(picamera2: str) -> Iterator[dict[str, Any]]:
    """The cameras that can be opened, each for a moment, and why the others cannot."""
    for name in ("picamera2", "v4l2"):
        try:
            found: list[CameraDevice] = load("cameras", name).devices()
        except EdgeIspError as error:
            if str(error) != picamera2:  # which has a line of its own
                yield {"spec": name, "name": "", "modes": 0, "problem": str(error)}
            continue
        for device in found:
            yield {
                "spec": device.spec,
                "name": device.name,
                "modes": len(device.modes),
                "problem": device.problem,
            }


def _picamera2() -> str:
    from edge_isp.cameras.picamera2.import_check import import_picamera2

    try:
        module = import_picamera2()
    except CameraError as error:
        return str(error)
    return f"{_version('picamera2') or 'installed'} ({Path(str(module.__file__)).parent})"


def _delegate(spec: DelegateSpec, root: Path, *, try_it: bool) -> dict[str, Any]:
    found = probe(spec, root)
    described: dict[str, Any] = {
        "name": spec.name,
        "title": spec.title,
        "found": not found.missing,
        "works": None,
        "why": found.missing,
        "library": found.library,
        "limits": spec.limits,
        "report": None,
    }
    if found.missing or not try_it:
        return described
    wanted = spec.models[found.board]
    if wanted != "tflite":
        described["why"] = f"not tried: it runs only models that were compiled for it (variant '{wanted}')"
        return described
    try:
        described["report"] = asdict(_try(spec))
    except EdgeIspError as error:
        described["works"], described["why"] = False, str(error)
    else:
        described["works"] = True
    return described


def _try(spec: DelegateSpec) -> EngineReport:
    """Runs the smallest shipped model on a delegate; raises an EdgeIspError where it does not work."""
    card = find_model("rfdcsanet-s", None)
    delegation = Delegation(spec.name, time_limit_s=_TRIAL_LIMIT_S)
    allowed = ParityLimits(card.agreement.rms_lsb, card.agreement.mean_lsb)
    with FallbackEngine(card.path, delegation=delegation, limits=allowed) as engine:
        engine.resize((1, _TRIAL_CELLS, _TRIAL_CELLS, card.input.shape[3]))
        slope = np.linspace(-128, 127, _TRIAL_CELLS)
        frame = np.add.outer(slope, slope)[None, :, :, None] / 2 + np.arange(card.input.shape[3])
        engine.run([np.clip(np.rint(frame), -128, 127).astype(np.int8)])
        return engine.report


def _permissions(root: Path) -> dict[str, Any]:
    patterns = ["/dev/video*", "/dev/media*", "/dev/v4l-subdev*", "/dev/dma_heap/*", "/dev/vcio"]
    patterns += [pattern for spec in delegates() for pattern in spec.devices]
    devices = sorted({path for pattern in patterns for path in glob.glob(str(root / pattern.lstrip("/")))})
    return {
        "user": _name_of_user(os.getuid()),
        "groups": sorted(_name_of_group(group) for group in os.getgroups()),
        "denied": [wrong for device in devices if (wrong := access_denied(Path(device)))],
    }


def _name_of_user(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _name_of_group(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _natural(path: str) -> tuple[str, int]:
    name = Path(path).name
    digits = name[len(name.rstrip("0123456789")) :]
    return name.removesuffix(digits), int(digits or 0)
