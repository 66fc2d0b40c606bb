"""NumPy 1.24 of the system stays as it is, because of what the system has built on it.

On Raspberry Pi OS Bookworm that is picamera2 (through simplejpeg) and OpenCV; here the witness is OpenCV of Debian 12.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SYSTEM = Path("/usr/bin/python3")
ROOT = Path(__file__).parents[2]
EXTRAS = ("", "onnx", "bench", "supervision", "calibration", "picamera2", "dng", "tflite-runtime")
WITNESS = "import cv2, numpy, edge_isp.kernels.encode; cv2.blur(numpy.ones((4, 4)), (2, 2)); print(numpy.__version__)"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def python(*arguments: object, executable: Path = SYSTEM) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [executable, *map(str, arguments)], capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd="/"
    )


def target(clone: Path, extra: str) -> str:
    return f"{clone}[{extra}]" if extra else str(clone)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The Python of an environment that sees the system's packages."""
    found = python("-c", "import cv2, numpy; print(numpy.__version__)") if SYSTEM.exists() else None
    if found is None or not found.stdout.startswith("1.24."):
        pytest.skip(f"{SYSTEM} has no python3-opencv on NumPy 1.24, as Debian 12 has")
    made = python("-m", "venv", "--system-site-packages", tmp_path / "venv")
    if made.returncode:
        pytest.skip(f"{SYSTEM} makes no environment: {made.stdout}{made.stderr}")
    return tmp_path / "venv" / "bin" / "python"


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_alone_asks_for_no_other_numpy(environment: Path, clone: Path, tmp_path: Path, extra: str) -> None:
    report = tmp_path / "report.json"
    wanted = ("-m", "pip", "install", "-q", "--dry-run", "--report", report, target(clone, extra))
    done = python(*wanted, executable=environment)
    assert done.returncode == 0, done.stderr
    metadata = [package["metadata"] for package in json.loads(report.read_text())["install"]]
    assert "edge-isp" in {package["name"] for package in metadata}
    assert [package["version"] for package in metadata if package["name"] == "numpy"] == []


def test_installed_one_after_the_other_they_leave_the_witness_working(environment: Path, clone: Path) -> None:
    for extra in EXTRAS:
        if extra == "picamera2":
            continue  # it compiles python-prctl, which needs libcap's headers
        done = python("-m", "pip", "install", "-q", target(clone, extra), executable=environment)
        assert done.returncode == 0, done.stderr
        seen = python("-c", WITNESS, executable=environment)
        assert seen.stdout.startswith("1.24."), f"[{extra}] {seen.stdout}{seen.stderr}"
    demo = python("-m", "edge_isp", "run", executable=environment)
    assert demo.returncode == 0, demo.stderr
