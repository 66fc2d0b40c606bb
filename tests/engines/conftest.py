"""The tests' NPU, built with gcc, and the other runtime of TensorFlow Lite in a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edge_isp.engines import delegates
from edge_isp.engines.delegates import DelegateSpec
from tests.engines import npu_tools
from tests.engines.npu_tools import Runtime

HERE = Path(__file__).parent
# Made once, since it takes a while; `.venv*` is not tracked.
TFLITE_RUNTIME = HERE.parents[1] / ".venv-tflite-runtime"


@pytest.fixture(scope="session")
def npu(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the tests' NPU; its options are in npu.c."""
    gcc = shutil.which("gcc")
    if not gcc:
        pytest.skip("the tests' NPU is built with gcc, which is not installed")
    library = tmp_path_factory.mktemp("npu") / "libnpu.so"
    command: list[str | Path] = [
        gcc,
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        HERE / "npu.c",
        "-lm",
        "-o",
        library,
    ]
    subprocess.run(command, check=True)
    return str(library)


@pytest.fixture(scope="session")
def tflite_runtime() -> Runtime:
    """tflite-runtime 2.14, which needs Python 3.11 and NumPy 1."""
    python = TFLITE_RUNTIME / "bin/python"
    if not (TFLITE_RUNTIME / "ready").exists():
        if sys.version_info[:2] > (3, 11):
            pytest.skip(
                f"tflite-runtime 2.14 is for Python up to 3.11, this is {sys.version_info[0]}.{sys.version_info[1]}"
            )
        shutil.rmtree(TFLITE_RUNTIME, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", TFLITE_RUNTIME], check=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "-q", "tflite-runtime==2.14.0", "numpy<2"]
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
def faulty_npu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes delegates known that run in `FaultyEngine`, each with the options given, and the engine "slow" of a CPU.

    Their engines are in a package of their own, which the processes of engines find.
    """
    packages = tmp_path / "packages"
    info = packages / "faulty-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(HERE / "faulty_engine.py", packages)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edge_isp.engines]\nfaulty = faulty_engine:FaultyEngine\nslow = faulty_engine:SlowEngine\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{packages}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(packages)

    def make_known(**npus: dict[str, str]) -> None:
        specs = tuple(
            DelegateSpec(name, "a faulty NPU", "faulty", {"*": "tflite"}, package="numpy", options=options)
            for name, options in npus.items()
        )
        monkeypatch.setattr(delegates, "DELEGATES", specs)

    return make_known


@pytest.fixture
def known_npu(npu: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the tests' NPU known as a delegate of another package, named "npu", with the options given."""

    def make_known(models: dict[str, str] | None = None, **options: str) -> None:
        spec = DelegateSpec(
            "npu", "the tests' NPU", "litert", models or {"*": "tflite"}, libraries=(npu,), options=options
        )
        monkeypatch.setattr(npu_tools, "KNOWN", spec)
        entry = EntryPoint("npu", "tests.engines.npu_tools:KNOWN", "edge_isp.delegates")
        monkeypatch.setattr(delegates, "entry_points", lambda group: [entry])

    return make_known
