"""How long each operator of a model takes, by the profiler of its runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_isp.bench.report import OperatorTime
from edge_isp.errors import BenchError
from edge_isp.plugins import load


def measure_operators(model: Path, shape: tuple[int, ...], threads: int | None, *, seed: int = 0) -> list[OperatorTime]:
    """Profiles a model on ONNX Runtime's CPU, the only runtime whose Python package has a profiler.

    Args:
        model: path of an `.onnx` file.
        shape: of its input.
        threads: of the engine; None for one fewer than there are cores.
        seed: of the random input.

    Returns:
        The operators, the slowest first.

    Raises:
        BenchError: the model is of another runtime.
        EngineError: the engine cannot run the model.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    if model.suffix != ".onnx":
        raise BenchError(
            f"{model}: the Python package of LiteRT has no profiler of operators; --engine onnxruntime has one"
        )
    with load("engines", "onnxruntime")(model, threads=threads, shape=shape) as engine:
        info = engine.inputs[0]
        limits = np.iinfo(np.dtype(info.dtype))
        codes = np.random.default_rng(seed).integers(limits.min, limits.max, info.shape, info.dtype, endpoint=True)
        found = engine.operator_times([codes])
    return [OperatorTime(operator=name, executor=where, nodes=nodes, ns=ns) for name, where, nodes, ns in found]
