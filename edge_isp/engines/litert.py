"""LiteRT (ai-edge-litert), with XNNPACK on the CPU."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edge_isp.engines.base import EngineReport, TensorInfo, check_inputs
from edge_isp.errors import EngineError


class LiteRtEngine:
    """A `.tflite` model in LiteRT's interpreter.

    Args:
        path: of the model's file.
        threads: for XNNPACK; by default one a core.

    Raises:
        EngineError: the file is no model that LiteRT can run.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self.path = Path(path)
        self._threads = threads or os.cpu_count() or 1
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise EngineError(f"{self.path}: cannot be read: {error.strerror}") from error
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=self._threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.path}: LiteRT cannot load this model: {error}") from error
        self._read_details()

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """See `Engine.inputs`."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """See `Engine.outputs`."""
        return self._outputs

    @property
    def report(self) -> EngineReport:
        """See `Engine.report`."""
        operators = {entry["op_name"] for entry in self._interpreter._get_ops_details()}
        delegate = "XNNPACK" if "DELEGATE" in operators else "none"
        return EngineReport(f"litert {version('ai-edge-litert')}", delegate, self._threads)

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`."""
        if shape == self._inputs[0].shape:
            return
        try:
            self._interpreter.resize_tensor_input(self._input_indices[0], list(shape))
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.path}: LiteRT cannot resize this model to {shape}: {error}") from error
        self._read_details()

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        check_inputs(self.path, inputs, self._inputs)
        for array, index in zip(inputs, self._input_indices, strict=True):
            self._interpreter.set_tensor(index, array)
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.path}: LiteRT failed to run this model: {error}") from error
        return [self._interpreter.get_tensor(index) for index in self._output_indices]

    def close(self) -> None:
        """See `Engine.close`."""
        self._interpreter = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_details(self) -> None:
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input_indices = [entry["index"] for entry in inputs]
        self._output_indices = [entry["index"] for entry in outputs]
        self._inputs = tuple(_info(entry) for entry in inputs)
        self._outputs = tuple(_info(entry) for entry in outputs)


def _info(entry: dict[str, Any]) -> TensorInfo:
    scale, zero_point = entry["quantization"]
    return TensorInfo(
        name=entry["name"],
        shape=tuple(int(n) for n in entry["shape"]),
        dtype=np.dtype(entry["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )
