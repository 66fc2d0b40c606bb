"""LiteRT's CompiledModel: NPUs by their vendors' plug-ins, and GPUs by WebGPU.

Its Python package says of a part of a graph only whether all of it is accelerated, and counts XNNPACK as an
accelerator. So the NPU or GPU is asked for alone, without the CPU: it takes the whole graph, or the model is refused.
"""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
from ai_edge_litert import interpreter
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import IntelOpenVinoGraphBackend, Options
from numpy.typing import NDArray

from edge_isp.engines.base import (
    DescribedEngine,
    EngineReport,
    Library,
    Partition,
    check_inputs,
    check_open,
    default_threads,
    read_model,
)
from edge_isp.engines.delegates import Delegate
from edge_isp.engines.tflite import tensor_info
from edge_isp.errors import EngineError

_ERRORS = (RuntimeError, ValueError, TypeError)
_PACKAGE = Path(ai_edge_litert.__file__).parent


class CompiledModelEngine(DescribedEngine):
    """A `.tflite` model in LiteRT's CompiledModel, which compiles it for the accelerator when it is loaded.

    The delegate's options are `accelerator` ("npu", "gpu", or "cpu" for XNNPACK), `vendor` (whose plug-in of LiteRT's
    own package compiles for the NPU; without it, the delegate's library is the vendor's dispatch library, beside which
    its compiler plug-in lies) and `graph_backend` (of Intel: "NPU", "GPU" or "CPU").

    Args:
        path: path of the model's file.
        threads: threads on the CPU; None for one fewer than there are cores.
        delegate: says which accelerator; None for the CPU.
        shape: shape of the first input, which must be the file's.
        sha256: of the file, hexadecimal; None verifies nothing.

    Raises:
        EngineError: the file is no model that the runtime can run, or the accelerator does not take all of it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        delegate: Delegate | None = None,
        shape: tuple[int, ...] | None = None,
        sha256: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._delegate = delegate or Delegate("XNNPACK", options={"accelerator": "cpu"})
        self._model: Any = None
        self._input_buffers: list[Any] = []
        self._output_buffers: list[Any] = []
        content = read_model(self.path, sha256)
        operators = self._describe(content)
        if shape is not None:
            self.resize(shape)
        threads = default_threads(threads)
        self._compile(content, threads)
        self._report = EngineReport(
            f"litert-compiled {version('ai-edge-litert')}",
            self._delegate.name,
            threads,
            (Partition(self._delegate.name, operators),),
            runtime_library=Library(str(_PACKAGE / "libLiteRt.so"), version("ai-edge-litert")),
            delegate_library=self._plug_in(),
        )

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`: another shape than the file's is an EngineError."""
        if shape != self._inputs[0].shape:
            raise EngineError(
                f"{self.path}: is compiled for inputs of {self._inputs[0].shape}, asked for {shape}; 'edge-isp export' "
                "with '--format tflite --size WIDTHxHEIGHT' makes a model for frames of that size"
            )

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        check_open(self.path, self._model)
        check_inputs(self.path, inputs, self._inputs)
        try:
            for buffer, array in zip(self._input_buffers, inputs, strict=True):
                buffer.write(np.ascontiguousarray(array))
            self._model.run_by_index(0, self._input_buffers, self._output_buffers)
            return [
                self._output_buffers[place].read(int(np.prod(info.shape)), np.dtype(info.dtype)).reshape(info.shape)
                for place, info in zip(self._output_places, self._outputs, strict=True)
            ]
        except _ERRORS as error:
            raise EngineError(f"{self.path}: LiteRT failed to run this model: {_text(error)}") from error

    def close(self) -> None:
        """See `Engine.close`."""
        self._input_buffers, self._output_buffers = [], []  # before their model
        self._model = None

    def _describe(self, content: bytes) -> tuple[tuple[str, int], ...]:
        """Reads the tensors with their quantisation, which CompiledModel does not say; returns the operators."""
        try:
            graph = interpreter.Interpreter(
                model_content=content,
                experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        except _ERRORS as error:
            raise EngineError(f"{self.path}: LiteRT cannot load this model: {_text(error)}") from error
        self._inputs = tuple(tensor_info(entry) for entry in graph.get_input_details())
        self._outputs = tuple(tensor_info(entry) for entry in graph.get_output_details())
        # The runtime's package has no public name for it.
        counts = Counter(node["op_name"] for node in graph._get_ops_details())  # noqa: SLF001
        return tuple(counts.most_common())

    def _compile(self, content: bytes, threads: int) -> None:
        settings = self._delegate.options
        accelerator = settings.get("accelerator", "npu").upper()
        backend = settings.get("graph_backend", "")
        options = Options()
        try:
            options.hardware_accelerators = HardwareAccelerator[accelerator]
            if backend:
                options.intel_openvino_options.graph_backend = IntelOpenVinoGraphBackend[backend.upper()]
        except KeyError as error:
            raise EngineError(
                f"delegate '{self._delegate.name}': unknown {error}; accelerator is one of "
                f"{', '.join(name.lower() for name in HardwareAccelerator.__members__)}, graph_backend one of "
                f"{', '.join(b.name for b in IntelOpenVinoGraphBackend)}"
            ) from error
        options.cpu_options.num_threads = threads
        folders = self._folders()
        try:
            self._environment = Environment.create(
                dispatch_library_path=folders.get("dispatch", ""), compiler_plugin_path=folders.get("compiler", "")
            )
            self._model = CompiledModel.from_buffer(content, environment=self._environment, options=options)
            if not self._model.is_fully_accelerated():
                raise EngineError(f"delegate '{self._delegate.name}' does not take the whole graph of {self.path}")
            signature = next(iter(self._model.get_signature_list().values()))
            self._output_places = [signature["outputs"].index(info.name) for info in self._outputs]
            self._input_buffers = self._model.create_input_buffers(0)
            self._output_buffers = self._model.create_output_buffers(0)
        except _ERRORS as error:
            self.close()
            raise EngineError(
                f"delegate '{self._delegate.name}' cannot take all of {self.path}: {_text(error)}"
            ) from error

    def _folders(self) -> dict[str, str]:
        """The folders of the vendor's dispatch library and compiler plug-in, where it is said whose."""
        vendor = self._delegate.options.get("vendor", "")
        if vendor:
            return {kind: str(_PACKAGE / "vendors" / vendor / kind) for kind in ("dispatch", "compiler")}
        if self._delegate.library:
            folder = str(Path(self._delegate.library).parent)
            return {"dispatch": folder, "compiler": folder}
        return {}

    def _plug_in(self) -> Library | None:
        """The library that runs the graph, where there is one beside the runtime's."""
        if self._delegate.library:
            return Library.of_file(self._delegate.library)
        if self._delegate.options.get("accelerator") == "gpu":
            return Library(str(_PACKAGE / "libLiteRtWebGpuAccelerator.so"), version("ai-edge-litert"))
        dispatch = self._folders().get("dispatch")
        found = sorted(Path(dispatch).glob("libLiteRtDispatch_*.so")) if dispatch else []
        return Library(str(found[0]), version("ai-edge-litert")) if found else None


def _text(error: Exception) -> str:
    """What LiteRT says, which it draws as a tree of lines, in one line."""
    return " ".join(str(error).replace("└", " ").split()) or type(error).__name__
