"""Qualcomm's execution provider in the simulator of its Hexagon NPU, which its package for x86-64 brings."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from edge_isp.engines import delegates
from edge_isp.engines.delegates import find_delegate
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.engines.parity import ParityLimits
from edge_isp.errors import EngineError
from edge_isp.models.export import Export, export_model
from tests.engines import npu_tools
from tests.engines.npu_tools import SMALL, codes


@pytest.fixture
def open_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens a fallback on the simulator."""
    python = os.environ.get("EDGE_ISP_QNN_PYTHON")
    if not python:
        pytest.skip("EDGE_ISP_QNN_PYTHON is not set: it names a Python with onnxruntime-qnn, which is 530 MB large")
    model = export_model(SMALL, tmp_path, Export("onnx", size=(24, 24)))
    entry = EntryPoint("simulator", "tests.engines.npu_tools:KNOWN", "edge_isp.delegates")

    def make(**options: str) -> FallbackEngine:
        real = find_delegate("qnn")
        spec = replace(real, name="simulator", models={"*": "onnx"}, devices=(), options={**real.options, **options})
        monkeypatch.setattr(npu_tools, "KNOWN", spec)
        monkeypatch.setattr(delegates, "entry_points", lambda group: [entry])
        delegation = Delegation("simulator", require_full=True, python=python)
        fallback = FallbackEngine(
            SMALL.path,
            threads=1,
            delegation=delegation,
            limits=ParityLimits(),
            variant=lambda npu, shape: model if npu == "onnx" else None,
        )
        fallback.resize((1, 12, 12, 8))
        return fallback

    yield make
    monkeypatch.undo()


def test_it_takes_the_whole_graph_and_agrees(open_fallback: Any) -> None:
    with open_fallback() as fallback:
        for seed in range(2):
            fallback.run([codes(12, 12, seed=seed)])
        report = fallback.report
    assert report.delegate == "simulator"
    assert report.nodes_delegated == report.nodes > 50
    assert dict(report.partitions[0].operators)["Conv"] == 5 * 6 + 2  # of five blocks, first and last
    assert report.parity
    assert report.parity.rms_lsb < 1.5


def test_a_backend_that_cannot_be_loaded_is_not_the_cpu_in_disguise(open_fallback: Any) -> None:
    with (
        open_fallback(backend_path="/nowhere.so") as fallback,
        pytest.raises(EngineError, match="delegate 'simulator' cannot be used: it takes none of the model's"),
    ):
        fallback.run([codes(12, 12)])
