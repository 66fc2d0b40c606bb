"""What LiteRT and tflite-runtime have in common: the interpreter of TensorFlow Lite, with or without a delegate."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import (
    DescribedEngine,
    EngineReport,
    Library,
    Partition,
    TensorInfo,
    check_inputs,
    check_open,
    default_threads,
    read_model,
)
from edge_isp.engines.delegates import Delegate, require_library
from edge_isp.engines.tflite_content import with_shapes
from edge_isp.errors import EngineError


class TfliteEngine(DescribedEngine):
    """A `.tflite` model in an interpreter of TensorFlow Lite.

    The runtime gives every node that the delegate leaves to XNNPACK, and to its own kernels what XNNPACK leaves.

    Args:
        path: path of the model's file.
        threads: threads on the CPU; None for one fewer than there are cores.
        delegate: takes what it can of the graph.
        shape: shape of the first input; None for the file's.
        xnnpack: False leaves XNNPACK out.
        sha256: of the file, hexadecimal; None verifies nothing.

    Raises:
        EngineError: the file is no model that the runtime can run, or the delegate cannot be loaded.
    """

    runtime: ClassVar[ModuleType]
    name: ClassVar[str]
    title: ClassVar[str]
    library: ClassVar[Library]

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        delegate: Delegate | None = None,
        shape: tuple[int, ...] | None = None,
        xnnpack: bool = True,
        sha256: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._threads = default_threads(threads)
        self._delegate, self._xnnpack = delegate, xnnpack
        self._content = read_model(self.path, sha256)
        self._interpreter: Any = None
        self._loaded: Any = None  # the delegate, which must outlive its interpreter
        self._start(shape)

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`."""
        check_open(self.path, self._interpreter)
        before = self._inputs[0].shape
        if shape == before:
            return
        try:
            self._change(shape)
        except EngineError:
            self._change(before)  # the interpreter is left half-way
            raise

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        check_open(self.path, self._interpreter)
        check_inputs(self.path, inputs, self._inputs)
        for array, index in zip(inputs, self._input_indices, strict=True):
            self._interpreter.set_tensor(index, array)
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.path}: {self.title} failed to run this model: {error}") from error
        return [self._interpreter.get_tensor(index) for index in self._output_indices]

    def close(self) -> None:
        """See `Engine.close`."""
        self._interpreter = None  # before the delegate
        self._loaded = None

    def _change(self, shape: tuple[int, ...]) -> None:
        if self._delegate is not None or self._stated_shapes:  # neither can be changed in a running interpreter
            self._start(shape)
            return
        self._resize(shape)
        self._allocate(f"resize this model to {shape}")
        self._read_details()

    def _start(self, shape: tuple[int, ...] | None) -> None:
        self.close()
        try:
            self._load(shape)
        except EngineError:
            self.close()
            raise
        except (ValueError, RuntimeError) as error:  # of a damaged file, such as a name that is no UTF-8
            self.close()
            raise EngineError(f"{self.path}: {self.title} cannot describe this model: {_text(error)}") from error

    def _load(self, shape: tuple[int, ...] | None) -> None:
        self._interpreter = self._open(self._content)
        # The interpreter lists every node of the file, and then those that stand for what a delegate took.
        self._file_nodes = self._own_nodes = len(self._operator_nodes())
        inputs = self._interpreter.get_input_details()
        self._input_indices = [entry["index"] for entry in inputs]
        self._stated_shapes = self._find_stated_shapes()
        before = tuple(int(n) for n in inputs[0]["shape"])
        if shape is not None and shape != before:
            if self._stated_shapes:
                self._interpreter = self._open(with_shapes(self._content, self._scaled_shapes(before, shape)))
            self._resize(shape)
        if self._delegate is not None:
            self._loaded = self._load_delegate(self._delegate)
            try:
                # After the input has its size: a graph that a delegate has taken from cannot be resized.
                # The runtime's package has no public name for it.
                pointer = self._loaded._get_native_delegate_pointer()  # noqa: SLF001
                self._interpreter._interpreter.ModifyGraphWithDelegate(pointer)  # noqa: SLF001
            except (ValueError, RuntimeError) as error:
                raise EngineError(
                    f"{self.path}: delegate '{self._delegate.name}' cannot prepare this model: {_text(error)}"
                ) from error
            self._own_nodes = len(self._operator_nodes())
        self._allocate(f"resize this model to {shape}" if shape else "load this model")
        self._read_details()

    def _open(self, content: bytes) -> Any:
        resolver = self.runtime.OpResolverType
        try:
            return self.runtime.Interpreter(
                model_content=content,
                num_threads=self._threads,
                experimental_op_resolver_type=resolver.AUTO
                if self._xnnpack
                else resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.path}: {self.title} cannot load this model: {error}") from error

    def _scaled_shapes(self, before: tuple[int, ...], shape: tuple[int, ...]) -> dict[int, list[int]]:
        """What the file states, for another input: batch, height and width follow it, as every other tensor's do."""
        self._check_rank(shape)
        scaled = {}
        for index, values in self._stated_shapes.items():
            sizes = [divmod(n * new, old) for n, new, old in zip(values[:3], shape, before, strict=False)]
            if any(rest for _, rest in sizes):
                raise EngineError(
                    f"{self.path}: {self.title} cannot resize this model to {shape}: its upsampled tensors would not "
                    f"have whole sizes; it is made for {before}"
                )
            scaled[index] = [*(size for size, _ in sizes), *values[3:]]
        return scaled

    def _find_stated_shapes(self) -> dict[int, list[int]]:
        """Constants that state the shape of a transposed convolution's output, by the index of their tensor."""
        nodes = self._operator_nodes()[: self._file_nodes]
        computed = {int(index) for node in nodes for index in node["outputs"]} | set(self._input_indices)
        stated = {int(node["inputs"][0]) for node in nodes if node["op_name"] == "TRANSPOSE_CONV"} - computed
        return {index: self._interpreter.get_tensor(index).tolist() for index in stated}

    def _operator_nodes(self) -> Sequence[Mapping[str, Any]]:
        """The nodes of the graph as the runtime lists them, for which its package has no public name."""
        nodes: Sequence[Mapping[str, Any]] = self._interpreter._get_ops_details()  # noqa: SLF001
        return nodes

    def _load_delegate(self, delegate: Delegate) -> Any:
        require_library(delegate.library)
        try:  # before the runtime does, whose half-made delegate would complain when it is collected
            ctypes.CDLL(delegate.library).tflite_plugin_create_delegate  # noqa: B018
        except OSError as error:
            raise EngineError(f"delegate '{delegate.name}': {error}") from error
        except AttributeError as error:
            raise EngineError(
                f"delegate '{delegate.name}': {delegate.library} is no delegate of TensorFlow Lite: {error}"
            ) from error
        try:
            return self.runtime.load_delegate(delegate.library, dict(delegate.options))
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"delegate '{delegate.name}' cannot be created: {_text(error)}") from error

    def _check_rank(self, shape: tuple[int, ...]) -> None:
        if len(shape) != len(self._interpreter.get_input_details()[0]["shape"]) or min(shape) < 1:
            raise EngineError(f"{self.path}: {self.title} cannot resize this model to {shape}")

    def _resize(self, shape: tuple[int, ...]) -> None:
        self._check_rank(shape)
        try:
            self._interpreter.resize_tensor_input(self._input_indices[0], list(shape))
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.path}: {self.title} cannot resize this model to {shape}: {error}") from error

    def _allocate(self, doing: str) -> None:
        try:
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            custom = re.search(r"unresolved custom op: (\S+)", str(error))
            if custom:
                raise EngineError(
                    f"{self.path}: has the custom operator '{custom[1].rstrip('.')}', which only the delegate that it "
                    f"was compiled for runs; {self.title} on the CPU needs the model that it was made of"
                ) from error
            raise EngineError(f"{self.path}: {self.title} cannot {doing}: {_text(error)}") from error

    def _read_details(self) -> None:
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input_indices = [entry["index"] for entry in inputs]
        self._output_indices = [entry["index"] for entry in outputs]
        self._inputs = tuple(tensor_info(entry) for entry in inputs)
        self._outputs = tuple(tensor_info(entry) for entry in outputs)
        partitions = _partitions(
            self._operator_nodes(),
            self._file_nodes,
            self._own_nodes,
            self._delegate.name if self._delegate else "",
        )
        executors = [partition.executor for partition in partitions if partition.executor != "interpreter"]
        named = self._delegate.name if self._delegate else executors[0] if executors else "none"
        self._report = EngineReport(
            self.name,
            named,
            self._threads,
            partitions,
            runtime_library=self.library,
            delegate_library=Library.of_file(self._delegate.library) if self._delegate else None,
        )


def _partitions(
    nodes: Sequence[Mapping[str, Any]], file_nodes: int, own_nodes: int, delegate: str
) -> tuple[Partition, ...]:
    """Who runs which of the file's nodes.

    Args:
        nodes: of the interpreter: first the file's, then one for every subset that a delegate took.
        file_nodes: how many are the file's.
        own_nodes: how many there were once `delegate` had taken its subsets; the rest are XNNPACK's.
    """
    makers = {int(output): node for node in nodes[:file_nodes] for output in node["outputs"]}
    executors: dict[int, str] = {}
    for position, subset in enumerate(nodes[file_nodes:], file_nodes):
        inputs = {int(i) for i in subset["inputs"]}
        open_tensors = [int(o) for o in subset["outputs"]]
        while open_tensors:
            tensor = open_tensors.pop()
            node = makers.get(tensor)
            if tensor in inputs or node is None or node["index"] in executors:
                continue
            executors[node["index"]] = delegate if position < own_nodes else "XNNPACK"
            open_tensors += [int(i) for i in node["inputs"]]
    counts: dict[str, Counter[str]] = {}
    for node in nodes[:file_nodes]:
        counts.setdefault(executors.get(node["index"], "interpreter"), Counter())[node["op_name"]] += 1
    order = [delegate, "XNNPACK", "interpreter"]
    return tuple(Partition(executor, tuple(counts[executor].most_common())) for executor in order if executor in counts)


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def tensor_info(entry: Mapping[str, Any]) -> TensorInfo:
    """A tensor as the interpreter describes it.

    Args:
        entry: of the interpreter's details of its inputs or outputs.
    """
    scale, zero_point = entry["quantization"]
    return TensorInfo(
        name=entry["name"],
        shape=tuple(int(n) for n in entry["shape"]),
        dtype=np.dtype(entry["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )
