"""The package picamera2, or what stands between this Python and it, with the command that mends it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_isp.errors import CameraError

# Where Raspberry Pi OS keeps the Python packages that apt installs.
_SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")

_INSTALL = "sudo apt install -y python3-picamera2"
_NEW_ENVIRONMENT = "python3 -m venv --system-site-packages .venv"


def import_picamera2() -> Any:
    """The module picamera2.

    Raises:
        CameraError: it cannot be imported; the message says which of the known causes it is.
    """
    try:
        return import_module("picamera2")
    except Exception as error:
        raise CameraError(f"camera 'picamera2': {_diagnosis(error)}") from error


def _diagnosis(error: Exception) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing == "picamera2" and not _hidden("picamera2"):
        return f"the package picamera2 is not installed; install it with: {_INSTALL}"
    if missing in ("picamera2", "libcamera"):
        if _hidden(missing):
            return (
                f"this virtual environment does not see the system's {missing}; "
                f"make one that does, and install edge-isp there: {_NEW_ENVIRONMENT}"
            )
        return (
            f"the module libcamera is not there; it comes with the system, not from PyPI: {_INSTALL}; "
            f"then, where edge-isp is in a virtual environment: {_NEW_ENVIRONMENT}"
        )
    if missing is not None and missing.startswith("libcamera."):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return (
            f"the system's libcamera is built for another Python than this one ({version}); "
            f"use the system's: /usr/bin/{_NEW_ENVIRONMENT}"
        )
    if missing in ("kms", "pykms"):
        return "the module pykms, which picamera2 needs even without a display, is not there: " + (
            f"sudo apt install -y python3-kms++; then, where edge-isp is in a virtual environment: {_NEW_ENVIRONMENT}"
        )
    if "numpy.dtype size changed" in str(error):
        return (
            "the system's simplejpeg is built for another NumPy than the one in this environment "
            f"({error}); install one that fits: pip install --upgrade --force-reinstall simplejpeg"
        )
    return (
        f"importing picamera2 failed: {type(error).__name__}: {error}; reinstall it with: "
        "sudo apt install -y --reinstall python3-picamera2 python3-libcamera"
    )


def _hidden(package: str) -> bool:
    """Whether the system has a package that this virtual environment does not show."""
    in_environment = sys.prefix != sys.base_prefix
    return in_environment and (_SYSTEM_PACKAGES / package).is_dir() and str(_SYSTEM_PACKAGES) not in sys.path
