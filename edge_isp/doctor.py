"""What this machine is and what it can run: all that a maintainer asks for in a bug report.

Everything is read, nothing is changed. A delegate that is found is loaded in a process of its own, and runs one small
frame there: whether a library is on the disk says little.
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

from edge_isp.engines.base import EngineReport
from edge_isp.engines.delegates import DelegateSpec, access_denied, board_compatible, delegates, probe
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.errors import CameraError, EdgeIspError
from edge_isp.models.card import find_model

_RUNTIMES = ("ai-edge-litert", "tflite-runtime", "onnxruntime", "onnxruntime-qnn", "rknn-toolkit-lite2", "hailort")
_PACKAGES = ("numpy", "numba", "llvmlite", "pillow", "opencv-python", "opencv-python-headless", "simplejpeg")

# Bits of the Raspberry Pi firmware's word; 16 higher: it has happened since the start.
_THROTTLED = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_SINCE_START = 16

_TRIAL_LIMIT_S = 60.0
_TRIAL_CELLS = 32


def examine(root: Path = Path("/"), *, try_delegates: bool = True) -> dict[str, Any]:
    """Looks at everything; plain values, as JSON has them.

    Args:
        root: of the file system that is looked at.
        try_delegates: False only looks for delegates and loads none.
    """
    return {
        "edge_isp": _version("edge-isp"),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "system": _system(root),
        "board": _board(root),
        "processor": _processor(root),
        "temperatures_c": _temperatures_c(root),
        "throttled": _throttled(root),
        "cameras": list(_cameras(root)),
        "picamera2": _picamera2(),
        "runtimes": {name: _version(name) for name in _RUNTIMES},
        "delegates": [_delegate(spec, root, try_it=try_delegates) for spec in delegates()],
        "permissions": _permissions(root),
        "packages": {name: _version(name) for name in _PACKAGES},
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("EDGE_ISP_", "NUMBA_", "OMP_", "LIBCAMERA_", "TEFLON_", "LD_LIBRARY_PATH"))
        },
    }


def _system(root: Path) -> dict[str, str | None]:
    names = dict(
        line.split("=", 1) for line in (_text(root / "etc/os-release") or "").splitlines() if line.count("=") == 1
    )
    return {
        "name": names.get("PRETTY_NAME", "").strip('"') or None,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
    }


def _board(root: Path) -> dict[str, Any]:
    compatible = board_compatible(root)
    model = _text(root / "proc/device-tree/model") or " ".join(
        filter(None, (_text(root / f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")))
    )
    memory = next(
        (line.split()[1] for line in (_text(root / "proc/meminfo") or "").splitlines() if line.startswith("MemTotal")),
        None,
    )
    return {
        "name": model or None,
        "soc": compatible[-1] if compatible else None,
        "compatible": list(compatible),
        "memory_mib": int(memory) // 1024 if memory else None,
    }


def _processor(root: Path) -> dict[str, Any]:
    policies = sorted(glob.glob(str(root / "sys/devices/system/cpu/cpufreq/policy*")))
    return {
        "cores": os.cpu_count(),
        "policies": [
            {
                "name": Path(policy).name,
                "governor": _text(Path(policy) / "scaling_governor"),
                "frequency_khz": _number(Path(policy) / "scaling_cur_freq"),
                "maximum_khz": _number(Path(policy) / "cpuinfo_max_freq"),
            }
            for policy in policies
        ],
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _temperatures_c(root: Path) -> dict[str, float]:
    found = {}
    for zone in sorted(glob.glob(str(root / "sys/class/thermal/thermal_zone*"))):
        value = _number(Path(zone) / "temp")
        if value is not None:
            found[f"{_text(Path(zone) / 'type') or ''} ({Path(zone).name})"] = value / 1000
    return found


def _throttled(root: Path) -> dict[str, list[str]] | None:
    """Of a Raspberry Pi; None on other boards."""
    text = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if text is None:
        return None
    word = int(text, 16)
    return {
        "now": [name for bit, name in _THROTTLED.items() if word >> bit & 1],
        "since_start": [name for bit, name in _THROTTLED.items() if word >> (bit + _SINCE_START) & 1],
    }


def _cameras(root: Path) -> Iterator[dict[str, str]]:
    """Video devices and sensors, as the kernel names them."""
    for entry in sorted(glob.glob(str(root / "sys/class/video4linux/*")), key=_natural):
        device = root / "dev" / Path(entry).name
        wrong = access_denied(device) if device.exists() else f"there is no {device}"
        yield {"device": str(device), "name": _text(Path(entry) / "name") or "", "problem": wrong}


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
    """What a delegate makes of the smallest model that ships; raises where it does not work."""
    card = find_model("rfdcsanet-s", None)
    delegation = Delegation(spec.name, time_limit_s=_TRIAL_LIMIT_S)
    with FallbackEngine(card.path, delegation=delegation, tolerance_lsb=card.tolerance_lsb) as engine:
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


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().strip("\0")
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.lstrip("-").isdigit() else None


def _natural(path: str) -> tuple[str, int]:
    name = Path(path).name
    digits = name[len(name.rstrip("0123456789")) :]
    return name.removesuffix(digits), int(digits or 0)
