"""ONNX Runtime (onnxruntime) on the CPU."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from edge_isp.engines.base import EngineReport, TensorInfo, check_inputs
from edge_isp.errors import EngineError

# They have no base of their own.
_ERRORS = tuple(v for v in vars(runtime_errors).values() if isinstance(v, type) and issubclass(v, Exception))


class OnnxRuntimeEngine:
    """An `.onnx` model in ONNX Runtime's CPU provider.

    Scales and zero points, and the shapes that a model with open dimensions starts with, are read from the metadata
    that `edge-isp export` writes. Of another's model the scales are 0 and open dimensions start at 1.

    Args:
        path: of the model's file.
        threads: by default one a core.

    Raises:
        EngineError: the file is no model that ONNX Runtime can run.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self.path = Path(path)
        self._threads = threads or os.cpu_count() or 1
        try:
            self._content = self.path.read_bytes()
        except OSError as error:
            raise EngineError(f"{self.path}: cannot be read: {error.strerror}") from error
        self._session: Any = self._load({})
        self._declared: tuple[int | str, ...] = tuple(self._session.get_inputs()[0].shape)  # open sizes by name
        self._prepare(self._describe(self._session.get_inputs())[0].shape)

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
        return EngineReport(f"onnxruntime {onnxruntime.__version__}", "none", self._threads)

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`."""
        if shape == self._inputs[0].shape:
            return
        fixed = [isinstance(declared, int) for declared in self._declared]
        if len(shape) != len(fixed) or any(f and n != d for f, n, d in zip(fixed, shape, self._declared, strict=True)):
            raise EngineError(
                f"{self.path}: this model takes inputs of {self._declared} only, asked for {shape}; "
                "'edge-isp export' makes one for that size, or without --size one for every size"
            )
        self._prepare(shape)

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        check_inputs(self.path, inputs, self._inputs)
        feed = {info.name: array for info, array in zip(self._inputs, inputs, strict=True)}
        try:
            outputs: list[NDArray[Any]] = self._session.run(None, feed)
        except _ERRORS as error:
            raise EngineError(f"{self.path}: ONNX Runtime failed to run this model: {error}") from error
        return outputs

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, shape: tuple[int, ...]) -> None:
        """Loads the model for one size: ONNX Runtime then plans its memory, and says the outputs' shapes."""
        open_sizes = {name: n for name, n in zip(self._declared, shape, strict=True) if isinstance(name, str)}
        if open_sizes:
            self._session = self._load(open_sizes)
        self._inputs = self._describe(self._session.get_inputs())
        self._outputs = self._describe(self._session.get_outputs())

    def _load(self, open_sizes: dict[str, int]) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3  # errors
        for name, size in open_sizes.items():
            options.add_free_dimension_override_by_name(name, size)
        if _products_overflow():
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            return onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])
        except _ERRORS as error:
            raise EngineError(f"{self.path}: ONNX Runtime cannot load this model: {error}") from error

    def _describe(self, entries: list[Any]) -> tuple[TensorInfo, ...]:
        known = json.loads(self._session.get_modelmeta().custom_metadata_map.get("edge_isp", "{}"))
        described = []
        for entry in entries:
            told = known.get(entry.name, {})
            shape = entry.shape
            if not all(isinstance(n, int) for n in shape):
                shape = told.get("shape", [n if isinstance(n, int) else 1 for n in shape])
            dtype = entry.type.removeprefix("tensor(").removesuffix(")")
            described.append(
                TensorInfo(
                    name=entry.name,
                    shape=tuple(shape),
                    dtype="float32" if dtype == "float" else dtype,
                    scale=told.get("scale", 0.0),
                    zero_point=told.get("zero_point", 0),
                )
            )
        return tuple(described)


def _products_overflow() -> bool:
    """Whether the fast products of uint8 and int8 saturate at 16 bits: on x86 without VNNI."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # cannot be told, so better slow than wrong
        return True
