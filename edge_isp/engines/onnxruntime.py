"""ONNX Runtime (onnxruntime): its CPU provider, and execution providers for NPUs."""

from __future__ import annotations

import json
import platform
from collections import Counter
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors  # pyright: ignore[reportAttributeAccessIssue]

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
from edge_isp.engines.delegates import Delegate
from edge_isp.errors import EngineError, PluginError

# They have no base of their own.
_ERRORS = tuple(v for v in vars(runtime_errors).values() if isinstance(v, type) and issubclass(v, Exception))


class OnnxRuntimeEngine(DescribedEngine):
    """An `.onnx` model in ONNX Runtime.

    Scales and zero points, and the shapes that a model with open dimensions starts with, are read from the metadata
    that `edge-isp export` writes. Of another's model the scales are 0 and open dimensions start at 1.

    Args:
        path: of the model's file.
        threads: None for one fewer than there are cores.
        delegate: the execution provider that takes what it can of the graph before the CPU's.
        shape: of the first input; by default the file's.
        sha256: of the file, hexadecimal; None verifies nothing.

    Raises:
        EngineError: the file is no model that ONNX Runtime can run, or the provider cannot be loaded.
        PluginError: the provider's package is not installed.
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
        self._threads = default_threads(threads)
        self._content = read_model(self.path, sha256)
        self._delegate: Delegate | None = None
        self._session: Any = self._load({})
        self._declared: tuple[int | str, ...] = tuple(self._session.get_inputs()[0].shape)  # open sizes by name
        described = self._describe(self._session.get_inputs())[0].shape
        if delegate is None:
            self._prepare(described)
        else:
            self._delegate = delegate
            self._inputs = self._describe(self._session.get_inputs())
            self._check_shape(shape or described)
            self._prepare(shape or described, anew=True)
        if delegate is None and shape is not None:
            self.resize(shape)

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`."""
        check_open(self.path, self._session)
        if shape != self._inputs[0].shape:
            self._check_shape(shape)
            self._prepare(shape)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        fixed = [isinstance(declared, int) for declared in self._declared]
        fits = len(shape) == len(fixed) and min(shape) > 0
        if not fits or any(f and n != d for f, n, d in zip(fixed, shape, self._declared, strict=True)):
            raise EngineError(
                f"{self.path}: this model takes inputs of {self._declared} only, asked for {shape}; "
                "'edge-isp export' makes one for that size, or without --size one for every size"
            )

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        check_open(self.path, self._session)
        check_inputs(self.path, inputs, self._inputs)
        feed = {info.name: array for info, array in zip(self._inputs, inputs, strict=True)}
        try:
            outputs: list[NDArray[Any]] = self._session.run(None, feed)
        except _ERRORS as error:
            raise EngineError(f"{self.path}: ONNX Runtime failed to run this model: {error}") from error
        return outputs

    def operator_times(
        self, inputs: list[NDArray[Any]], *, warmup: int = 2, runs: int = 10
    ) -> list[tuple[str, str, int, float]]:
        """Profiles the model, in a session of its own: profiling costs time.

        Args:
            inputs: as of `run`.
            warmup: the number of inferences that are left out.
            runs: the number of inferences that are measured.

        Returns:
            For each operator and executor: the operator's name, the executor's, the number of nodes, and their
            nanoseconds together per inference; the slowest first. The nodes are those that ONNX Runtime has made of the
            graph's.

        Raises:
            EngineError: an input does not fit, or the runtime fails.
        """
        check_open(self.path, self._session)
        check_inputs(self.path, inputs, self._inputs)
        feed = {info.name: array for info, array in zip(self._inputs, inputs, strict=True)}
        with TemporaryDirectory(prefix="edge-isp-profile-") as folder:
            session = self._load(self._open_sizes, profile=f"{folder}/profile")
            try:
                for _ in range(warmup + runs):
                    session.run(None, feed)
                events = json.loads(Path(session.end_profiling()).read_bytes())
            except _ERRORS as error:
                raise EngineError(f"{self.path}: ONNX Runtime failed to run this model: {error}") from error
        times: dict[tuple[str, str, str], list[int]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                node = event["args"]
                times.setdefault((node["op_name"], node["provider"], event["name"]), []).append(event["dur"])
        found: dict[tuple[str, str], list[float]] = {}
        for (operator, provider, _), microseconds in times.items():
            found.setdefault((operator, provider), []).append(1e3 * sum(microseconds[warmup:]) / runs)
        totals = [(operator, where, len(each), sum(each)) for (operator, where), each in found.items()]
        return sorted(totals, key=lambda total: -total[3])

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None

    def _prepare(self, shape: tuple[int, ...], *, anew: bool = False) -> None:
        """Loads the model for one size: ONNX Runtime then plans its memory, and says the outputs' shapes."""
        self._open_sizes = {name: n for name, n in zip(self._declared, shape, strict=True) if isinstance(name, str)}
        if self._open_sizes or anew:
            self._session = self._load(self._open_sizes)
        self._inputs = self._describe(self._session.get_inputs())
        self._outputs = self._describe(self._session.get_outputs())
        self._report = EngineReport(
            f"onnxruntime {onnxruntime.__version__}",
            self._delegate.name if self._delegate else "none",
            self._threads,
            self._partitions(),
            runtime_library=Library(str(runtime_errors.__file__), onnxruntime.__version__),
            delegate_library=_library_of(self._delegate) if self._delegate else None,
        )

    def _load(self, open_sizes: dict[str, int], *, profile: str = "") -> Any:
        options = onnxruntime.SessionOptions()
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3  # errors
        for name, size in open_sizes.items():
            options.add_free_dimension_override_by_name(name, size)
        if _products_overflow():
            options.add_session_config_entry("session.x64quantprecision", "1")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        providers: list[Any] | None = ["CPUExecutionProvider"]
        if self._delegate is not None:
            providers = _add_provider(options, self._delegate, self._threads)
        try:
            return onnxruntime.InferenceSession(self._content, options, providers=providers)
        except _ERRORS as error:
            raise EngineError(f"{self.path}: ONNX Runtime cannot load this model: {error}") from error

    def _partitions(self) -> tuple[Partition, ...]:
        """Who runs which nodes, as ONNX Runtime has assigned them; empty where its version does not report it."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return ()
        counts: dict[str, Counter[str]] = {}
        for part in self._session.get_provider_graph_assignment_info():
            executor = (
                self._delegate.name if self._delegate and part.ep_name == self._delegate.provider else part.ep_name
            )
            counts.setdefault(executor, Counter()).update(node.op_type for node in part.get_nodes())
        return tuple(Partition(executor, tuple(operators.most_common())) for executor, operators in counts.items())

    def _describe(self, entries: list[Any]) -> tuple[TensorInfo, ...]:
        try:
            return self._described(entries)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise EngineError(f"{self.path}: its metadata 'edge_isp' do not describe its tensors: {error!r}") from error

    def _described(self, entries: list[Any]) -> tuple[TensorInfo, ...]:
        known = json.loads(self._session.get_modelmeta().custom_metadata_map.get("edge_isp", "{}"))
        described = []
        for entry in entries:
            described_as = known.get(entry.name, {})
            shape = entry.shape
            if not all(isinstance(n, int) for n in shape):
                shape = described_as.get("shape", [n if isinstance(n, int) else 1 for n in shape])
            dtype = entry.type.removeprefix("tensor(").removesuffix(")")
            described.append(
                TensorInfo(
                    name=entry.name,
                    shape=tuple(shape),
                    dtype="float32" if dtype == "float" else dtype,
                    scale=described_as.get("scale", 0.0),
                    zero_point=described_as.get("zero_point", 0),
                )
            )
        return tuple(described)


def _library_of(delegate: Delegate) -> Library | None:
    """The library of an execution provider: of its package, of its own, or beside ONNX Runtime's."""
    if delegate.package:
        package = import_module(delegate.package)
        return Library(package.get_library_path(), getattr(package, "__version__", ""))
    if delegate.library:
        return Library.of_file(delegate.library)
    short = delegate.provider.removesuffix("ExecutionProvider").lower()
    beside = Path(str(runtime_errors.__file__)).with_name(f"libonnxruntime_providers_{short}.so")
    return Library(str(beside), onnxruntime.__version__) if beside.exists() else None


def _add_provider(options: Any, delegate: Delegate, threads: int) -> list[Any] | None:
    """Adds an execution provider to a session's options; returns the session's `providers`.

    A plug-in is registered with its library and then added by its device; what was built into ONNX Runtime is named.
    """
    name = delegate.provider
    settings = {key: value.replace("{threads}", str(threads)) for key, value in delegate.options.items()}
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        # A provider whose backend cannot be loaded leaves the whole graph to the CPU, and nothing else says so.
        raise EngineError(
            f"delegate '{delegate.name}': ONNX Runtime {onnxruntime.__version__} does not report what a provider "
            "takes of a graph; install a newer one"
        )
    library = delegate.library
    if delegate.package:
        try:
            package = import_module(delegate.package)
        except ModuleNotFoundError as error:
            raise PluginError(f"delegate '{delegate.name}' needs the package '{delegate.package}'") from error
        library = package.get_library_path()
        folder = str(Path(str(package.__file__)).parent)
        settings = {key: value.replace("{package}", folder) for key, value in settings.items()}
    if not library:
        if name not in onnxruntime.get_available_providers():
            raise EngineError(
                f"delegate '{delegate.name}': this ONNX Runtime has no {name}, but "
                + ", ".join(onnxruntime.get_available_providers())
            )
        return [(name, settings), "CPUExecutionProvider"]
    if not any(device.ep_name == name for device in onnxruntime.get_ep_devices()):
        try:
            onnxruntime.register_execution_provider_library(name, library)
        except _ERRORS as error:
            raise EngineError(f"delegate '{delegate.name}': {library} cannot be loaded: {error}") from error
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise EngineError(f"delegate '{delegate.name}': {library} offers no device for {name}")
    try:
        options.add_provider_for_devices(devices[:1], settings)
    except _ERRORS as error:
        raise EngineError(f"delegate '{delegate.name}': {error}") from error
    return None


def _products_overflow() -> bool:
    """Whether the fast products of uint8 and int8 saturate at 16 bits: on x86 without VNNI."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not known, so better slow than wrong
        return True
