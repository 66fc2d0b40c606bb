"""An engine for edge_isp: TensorFlow Lite's plain kernels, without XNNPACK. Slow, and a reference for NPUs."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from ai_edge_litert import interpreter
from numpy.typing import NDArray

from edge_isp.engines.base import DescribedEngine, EngineReport, TensorInfo, check_inputs, check_open
from edge_isp.errors import EngineError


class PlainLiteRt(DescribedEngine):
    """A `.tflite` model; `edge_isp` gives it the path and the number of threads."""

    def __init__(self, path: str | Path, *, threads: int | None = None, **settings: Any) -> None:
        self.path, self._threads = Path(path), threads or 1
        self._runtime: Any = None
        self._load(None)

    def _load(self, shape: tuple[int, ...] | None) -> None:
        plain = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            runtime = interpreter.Interpreter(
                str(self.path), num_threads=self._threads, experimental_op_resolver_type=plain
            )
            if shape is not None:
                runtime.resize_tensor_input(runtime.get_input_details()[0]["index"], list(shape))
            runtime.allocate_tensors()
        except (ValueError, RuntimeError, TypeError) as error:
            raise EngineError(f"{self.path}: plain LiteRT cannot load this model for {shape}: {error}") from error
        self._runtime = runtime
        self._inputs, self._outputs = _tensors(runtime.get_input_details()), _tensors(runtime.get_output_details())
        self._report = EngineReport(f"plain litert {version('ai-edge-litert')}", "none", self._threads)

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `edge_isp.Engine.resize`."""
        check_open(self.path, self._runtime)
        if shape != self._inputs[0].shape:
            if len(shape) != len(self._inputs[0].shape) or min(shape) < 1:
                raise EngineError(f"{self.path}: this model takes no input of {shape}")
            self._load(shape)

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `edge_isp.Engine.run`."""
        check_open(self.path, self._runtime)
        check_inputs(self.path, inputs, self._inputs)
        for array, detail in zip(inputs, self._runtime.get_input_details(), strict=True):
            self._runtime.set_tensor(detail["index"], array)
        self._runtime.invoke()
        return [self._runtime.get_tensor(detail["index"]) for detail in self._runtime.get_output_details()]

    def close(self) -> None:
        """See `edge_isp.Engine.close`."""
        self._runtime = None


def _tensors(details: list[dict[str, Any]]) -> tuple[TensorInfo, ...]:
    tensors = []
    for detail in details:
        scale, zero_point = detail["quantization"]
        shape = tuple(int(n) for n in detail["shape"])
        tensors.append(TensorInfo(detail["name"], shape, detail["dtype"].__name__, float(scale), int(zero_point)))
    return tuple(tensors)
