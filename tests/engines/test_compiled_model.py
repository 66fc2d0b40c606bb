"""LiteRT's CompiledModel: on the CPU everywhere, and by Intel's plug-in where a Python with it is named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_isp.engines.compiled_model import CompiledModelEngine
from edge_isp.engines.delegates import Delegate, find_delegate
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.process import ProcessEngine
from edge_isp.errors import EngineError
from edge_isp.models.export import Export, export_model
from tests.engines.npu_tools import SMALL, codes


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model for frames of 32x24 pixels."""
    return export_model(SMALL, tmp_path_factory.mktemp("small"), Export("tflite", size=(32, 24)))


def test_it_computes_what_litert_computes(small: Path) -> None:
    with CompiledModelEngine(small, threads=1) as engine, LiteRtEngine(small, threads=1) as litert:
        assert engine.inputs == litert.inputs
        assert engine.outputs == litert.outputs
        for seed in range(2):
            x = codes(12, 16, seed=seed)
            (out,), (expected,) = engine.run([x]), litert.run([x])
            np.testing.assert_array_equal(out, expected)
        report = engine.report
    assert report.delegate == "XNNPACK"
    assert report.nodes_delegated == report.nodes == litert.report.nodes
    assert report.runtime_library
    assert Path(report.runtime_library.path).name == "libLiteRt.so"
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.run([codes(12, 16)])
    engine.close()


def test_outputs_of_several_tensors_keep_their_order() -> None:
    from edge_isp.models.card import find_model

    path = find_model("raw-detector", None).path
    with CompiledModelEngine(path, threads=1) as engine, LiteRtEngine(path, threads=1) as litert:
        x = np.random.default_rng(0).integers(-128, 128, engine.inputs[0].shape).astype(np.int8)
        for out, expected in zip(engine.run([x]), litert.run([x]), strict=True):
            np.testing.assert_array_equal(out, expected)


def test_outputs_do_not_change_afterwards(small: Path) -> None:
    with CompiledModelEngine(small, threads=1) as engine:
        (first,) = engine.run([codes(12, 16)])
        before = first.copy()
        engine.run([codes(12, 16, seed=1)])
        np.testing.assert_array_equal(first, before)


def delegate(**options: str) -> Delegate:
    return Delegate("npu", options=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accelerator": "npu"}, "'npu' cannot take all of .*Some ops are not accelerated"),
        ({"accelerator": "gpu"}, "'npu' cannot take all of"),
        ({"accelerator": "abacus"}, "unknown 'ABACUS'; accelerator is one of cpu, gpu, npu"),
        ({"accelerator": "npu", "graph_backend": "TPU"}, "unknown 'TPU'; .* graph_backend one of CPU, GPU, NPU"),
    ],
)
def test_an_accelerator_that_is_not_there_is_not_the_cpu_in_disguise(
    small: Path, options: Mapping[str, str], message: str
) -> None:
    """Asked for together with the CPU, LiteRT reports a model as fully accelerated that XNNPACK runs."""
    if list(Path("/dev").glob("accel/accel*")) + list(Path("/dev").glob("dri/renderD*")):
        pytest.skip("this machine may have the accelerator")
    # In a process of its own: Dawn must not stay loaded in the one of the other tests.
    with pytest.raises(EngineError, match=message):
        ProcessEngine(small, engine="compiled-model", threads=1, delegate=delegate(**options))


def test_wrong_files_and_sizes_are_errors(small: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"asked for \(1, 6, 8, 8\); 'edge-isp export"):
        CompiledModelEngine(small, shape=(1, 6, 8, 8))
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    with pytest.raises(EngineError, match="LiteRT cannot load this model"):
        CompiledModelEngine(broken)
    with pytest.raises(EngineError, match="is not the model that its card describes"):
        CompiledModelEngine(small, sha256="0" * 64)
    with CompiledModelEngine(small, threads=1) as engine, pytest.raises(EngineError, match="must be int8"):
        engine.run([codes(12, 16).astype(np.float32)])


@pytest.fixture
def intel_python() -> str:
    python = os.environ.get("EDGE_ISP_LITERT_INTEL_PYTHON")
    if not python:
        pytest.skip(
            "EDGE_ISP_LITERT_INTEL_PYTHON is not set: it names a Python with ai-edge-litert-sdk-intel, which is 400 MB "
            "large with what it needs"
        )
    return python


def test_intels_plug_in_takes_the_whole_graph_and_agrees(small: Path, intel_python: str) -> None:
    spec = find_delegate("litert-intel")
    options = {**spec.options, "graph_backend": "CPU"}
    x: Any = codes(12, 16)
    with (
        ProcessEngine(
            small,
            engine=spec.engine,
            threads=1,
            python=intel_python,
            delegate=Delegate(spec.name, options=options),
            shape=x.shape,
        ) as engine,
        LiteRtEngine(small, threads=1) as litert,
    ):
        (out,), (expected,) = engine.run([x]), litert.run([x])
        assert (engine.inputs, engine.outputs) == (litert.inputs, litert.outputs)
        report = engine.report
    assert np.sqrt(np.mean((out.astype(int) - expected) ** 2)) < 1.5
    assert report.nodes_delegated == report.nodes == litert.report.nodes
    assert report.delegate_library
    assert report.delegate_library.path.endswith("libLiteRtDispatch_IntelOpenvino.so")
