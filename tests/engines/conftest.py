"""The tests' NPU, built with gcc, and the other runtime of TensorFlow Lite in a virtual environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.engines import delegates
from edge_isp.engines.delegates import DelegateSpec
from edge_isp.models.card import read_card, shipped_models

HERE = Path(__file__).parent
# Made once, since it takes a while; `.venv*` is not tracked.
TFLITE_RUNTIME = HERE.parents[1] / ".venv-tflite-runtime"

SMALL = read_card(shipped_models()["rfdcsanet-s-generic"])  # 14 convolutions, 2 concatenations
MIXED = read_card(shipped_models()["rfdcsanet-published-imx219"])  # seven operators


@dataclass(frozen=True)
class Runtime:
    """One of the two runtimes of TensorFlow Lite."""

    engine: str
    python: str | None


@pytest.fixture(scope="session")
def npu(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the tests' NPU; its options are in npu.c."""
    gcc = shutil.which("gcc")
    if not gcc:
        pytest.skip("the tests' NPU is built with gcc, which is not installed")
    library = tmp_path_factory.mktemp("npu") / "libnpu.so"
    command = [gcc, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", HERE / "npu.c", "-lm", "-o", library]
    subprocess.run(command, check=True)
    return str(library)


@pytest.fixture(scope="session")
def tflite_runtime() -> Runtime:
    """tflite-runtime 2.14, which needs Python 3.11 and NumPy 1."""
    python = TFLITE_RUNTIME / "bin/python"
    if not (TFLITE_RUNTIME / "ready").exists():
        if sys.version_info[:2] > (3, 11):
            pytest.skip(f"tflite-runtime 2.14 is for Python up to 3.11, this is {sys.version_info[0]}.{sys.version_info[1]}")
        shutil.rmtree(TFLITE_RUNTIME, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", TFLITE_RUNTIME], check=True)
        install = [python, "-m", "pip", "install", "-q", "tflite-runtime==2.14.0", "numpy<2"]
        installed = subprocess.run(install, capture_output=True, text=True, check=False)
        if installed.returncode:
            pytest.skip(f"tflite-runtime 2.14 cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
        (TFLITE_RUNTIME / "ready").touch()
    return Runtime("tflite-runtime", str(python))


@pytest.fixture(params=["litert", "tflite-runtime"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Both runtimes, one after the other."""
    if request.param == "litert":
        return Runtime("litert", None)
    other: Runtime = request.getfixturevalue("tflite_runtime")
    return other


@pytest.fixture
def known_npu(npu: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the tests' NPU known as a delegate of another package, named "npu", with the options given."""

    def make_known(models: dict[str, str] | None = None, **options: str) -> None:
        spec = DelegateSpec(
            "npu", "the tests' NPU", "litert", models or {"*": "tflite"}, libraries=(npu,), options=options
        )
        monkeypatch.setattr(sys.modules[__name__], "SPEC", spec, raising=False)
        entry = EntryPoint("npu", f"{__name__}:SPEC", "edge_isp.delegates")
        monkeypatch.setattr(delegates, "entry_points", lambda group: [entry])

    return make_known


def codes(height: int = 12, width: int = 16, channels: int = 8, seed: int = 0) -> NDArray[np.int8]:
    """A smooth input with some noise, as a network would see it."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    noise = np.random.default_rng(seed).normal(0, 3, (height, width, channels))
    values = 90 * np.sin(x / 5 + c) * np.cos(y / 7) + noise
    return np.clip(np.rint(values), -128, 127).astype(np.int8)[None]
