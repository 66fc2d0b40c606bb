"""OpenVINO's execution provider on the CPU: a real accelerator of whole graphs, in a virtual environment of its own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_isp.bench.matrix import Combination, measure_matrix
from edge_isp.bench.plan import Plan, Subject
from edge_isp.engines import delegates
from edge_isp.engines.delegates import find_delegate, probe, resolve
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.engines.onnxruntime import _add_provider
from edge_isp.errors import EngineError
from edge_isp.models.export import Export, export_model
from tests.engines.npu_tools import SMALL, codes

# Made once, since it takes a while; `.venv*` is not tracked.
OPENVINO = Path(__file__).parents[2] / ".venv-openvino"


@pytest.fixture(scope="session")
def openvino_python() -> str:
    """A Python with onnxruntime-openvino, which cannot stand beside onnxruntime."""
    python = OPENVINO / "bin/python"
    if not (OPENVINO / "ready").exists():
        shutil.rmtree(OPENVINO, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", OPENVINO], check=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "-q", "onnxruntime-openvino>=1.24", "numpy"]
        installed = subprocess.run(install, capture_output=True, text=True, check=False)
        if installed.returncode:
            reason = (installed.stderr.strip().splitlines() or ["pip failed"])[-1]
            pytest.skip(f"onnxruntime-openvino cannot be installed: {reason}")
        (OPENVINO / "ready").touch()
    return str(python)


@pytest.fixture(scope="session")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(SMALL, tmp_path_factory.mktemp("onnx"), Export("onnx", size=(24, 24)))


def open_fallback(model: Path, python: str, delegate: str = "openvino") -> FallbackEngine:
    delegation = Delegation(delegate, require_full=True, python=python)
    return FallbackEngine(model, engine="onnxruntime", threads=1, delegation=delegation, live=False)


def test_it_takes_the_whole_graph_and_agrees(onnx_model: Path, openvino_python: str) -> None:
    with open_fallback(onnx_model, openvino_python) as fallback:
        for seed in range(3):
            fallback.run([codes(12, 12, seed=seed)])
        report = fallback.report
    assert report.delegate == "openvino"
    assert report.nodes_delegated == report.nodes > 50
    assert report.parity
    assert report.parity.rms_lsb < 1.5
    assert report.delegate_library
    assert report.delegate_library.path.endswith("libonnxruntime_providers_openvino.so")
    assert report.delegate_library.path.startswith(str(OPENVINO))
    assert report.runtime_library
    assert report.runtime_library.version == report.delegate_library.version


@pytest.mark.parametrize("device", ["NPU", "GPU", "NONSENSE"])
def test_a_device_that_is_not_there_is_not_the_cpu_in_disguise(
    onnx_model: Path, openvino_python: str, device: str
) -> None:
    if list(Path("/dev").glob("accel/accel*")) + list(Path("/dev").glob("dri/renderD*")):
        pytest.skip("this machine may have the device")
    with (
        open_fallback(onnx_model, openvino_python, f"openvino,device_type={device}") as fallback,
        pytest.raises(EngineError, match="'openvino' cannot be used: it takes none of the model's"),
    ):
        fallback.run([codes(12, 12)])


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Makes these the only packages that pip has installed."""

    def distribution(name: str) -> str:
        if name not in names:
            raise PackageNotFoundError(name)
        return name

    monkeypatch.setattr(delegates, "distribution", distribution)


def test_it_is_missing_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime")
    missing = probe(find_delegate("openvino")).missing
    assert "'onnxruntime-openvino' is not installed" in missing
    assert "--engine-python" in missing
    installed(monkeypatch, "onnxruntime-openvino")
    assert not probe(find_delegate("openvino")).missing


def test_it_must_not_stand_beside_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime", "onnxruntime-openvino")
    missing = probe(find_delegate("openvino")).missing
    assert "'onnxruntime-openvino' and 'onnxruntime' are both installed" in missing
    assert "a virtual environment of its own" in missing


def test_the_bench_runs_it_in_the_other_python(openvino_python: str) -> None:
    subjects = [
        Subject("rfdcsanet-t", "onnxruntime", 1, delegate="openvino", python=openvino_python),
        Subject("rfdcsanet-t", None, 1, delegate="none"),
    ]
    plan = Plan(warmup=0, warmup_s=0, frames=2, duration_s=0)
    matrix = measure_matrix([Combination(subject, 64, 48) for subject in subjects], plan)
    ours, other = (cell.report for cell in matrix.cells)
    assert ours
    assert other
    found: Any = ours.software.delegate
    assert (found.name, found.sha256) == ("openvino", sha256(found.lib))
    assert found.version == ours.software.runtime.version if ours.software.runtime else None
    assert ours.model.nodes_delegated == ours.model.nodes_total
    # What the engine takes in its own process counts as well: OpenVINO is larger than LiteRT.
    assert ours.resources.rss_init_bytes
    assert other.resources.rss_init_bytes
    assert ours.resources.rss_init_bytes > 2 * other.resources.rss_init_bytes > 0
    runtime = other.software.runtime
    assert runtime
    assert runtime.lib
    assert (runtime.name, runtime.sha256) == ("litert", sha256(runtime.lib))
    assert np.isfinite(ours.init_ns)


def sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_a_provider_has_the_threads_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO has threads of its own, one for each core unless it is told otherwise."""
    spec = find_delegate("openvino")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [spec.provider])
    providers = _add_provider(None, resolve(spec, probe(spec), Path("model.onnx")), 3)
    assert providers == [(spec.provider, {"device_type": "CPU", "num_of_threads": "3"}), "CPUExecutionProvider"]
