"""A picamera2 that is missing or broken: which of the known causes, and the command that mends it."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edge_isp.cameras.picamera2 import import_check as picamera2_import
from edge_isp.cameras.picamera2.camera import Picamera2Camera
from edge_isp.errors import CameraError


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(picamera2_import, "import_module", fail)


def missing(name: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named '{name}'", name=name)


ABI = "numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject"


@pytest.mark.parametrize(
    ("error", "cause", "command"),
    [
        (missing("picamera2"), "picamera2 is not installed", "sudo apt install -y python3-picamera2"),
        (missing("libcamera"), "comes with the system, not from PyPI", "--system-site-packages .venv"),
        (missing("libcamera._libcamera"), "built for another Python than this one", "/usr/bin/python3 -m venv"),
        (missing("pykms"), "the module pykms", "sudo apt install -y python3-kms++"),
        (
            ValueError(ABI),
            "simplejpeg is built for another NumPy",
            "pip install --upgrade --force-reinstall simplejpeg",
        ),
        (ImportError("libboost.so.1: cannot open"), "ImportError: libboost.so.1: cannot open", "--reinstall"),
    ],
)
def test_each_known_cause(monkeypatch: pytest.MonkeyPatch, error: Exception, cause: str, command: str) -> None:
    failing(monkeypatch, error)
    with pytest.raises(CameraError) as raised:
        Picamera2Camera(0)
    message = str(raised.value)
    assert message.startswith("camera 'picamera2': ")
    assert cause in message
    assert command in message
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("package", ["picamera2", "libcamera"])
def test_a_virtual_environment_that_hides_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str
) -> None:
    (tmp_path / package).mkdir()
    monkeypatch.setattr(picamera2_import, "_SYSTEM_PACKAGES", tmp_path)
    monkeypatch.setattr(sys, "prefix", "/somewhere/.venv")
    failing(monkeypatch, missing(package))
    with pytest.raises(CameraError, match=f"does not see the system's {package}; .* --system-site-packages .venv"):
        Picamera2Camera(0)


def test_the_real_package_without_libcamera_and_without_pykms(tmp_path: Path) -> None:
    """What the packages from PyPI really raise, in a Python of its own."""
    try:
        metadata.version("picamera2")
    except metadata.PackageNotFoundError:
        pytest.skip("picamera2 is not installed")
    stand_in = Path(__file__).parent / "stand_in"
    (tmp_path / "libcamera").symlink_to(stand_in / "libcamera")
    program = (
        "from edge_isp.cameras.picamera2.import_check import import_picamera2 as f\n"
        "try:\n    f()\nexcept Exception as e:\n    print(type(e).__name__, e)"
    )
    for path, module in ((tmp_path / "nothing", "libcamera"), (tmp_path, "pykms")):
        program_ = f"import sys\nsys.path.insert(0, {str(path)!r})\n{program}"
        output = subprocess.run([sys.executable, "-c", program_], capture_output=True, text=True, check=True).stdout
        assert output.startswith(f"CameraError camera 'picamera2': the module {module}"), output
