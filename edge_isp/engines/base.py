"""The protocol of an engine, and what an engine reports."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import EngineError
from edge_isp.files import LARGEST_MODEL_BYTES, read_file


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as the runtime sees it; scale 0 where it is not quantised."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Partition:
    """The part of a model's graph that one executor runs.

    Attributes:
        executor: a delegate's name, "XNNPACK", "interpreter" (the runtime's own kernels) or an execution provider.
        operators: the number of nodes of each operator ("CONV_2D"), the most frequent first.
    """

    executor: str
    operators: tuple[tuple[str, int], ...]

    @property
    def nodes(self) -> int:
        """The number of its nodes."""
        return sum(count for _, count in self.operators)


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library that runs a model, or a part of it.

    Attributes:
        path: of its file.
        version: of the package that brings it, or by its file's name; "" where neither says.
    """

    path: str
    version: str = ""

    @classmethod
    def of_file(cls, path: Path | str) -> Library:
        """A library that no package brings: `libteflon.so.1.2`, to which a link may lead, is of version 1.2.

        Args:
            path: of its file.
        """
        match = re.search(r"\.so\.(\d+(?:\.\d+)*)$", Path(path).resolve().name)
        return cls(str(path), match[1] if match else "")


@dataclass(frozen=True, slots=True)
class OutputParity:
    """The difference of one output from the CPU's, in steps of its quantisation (of 1/255 of its range in float).

    Attributes:
        name: of the output.
        rms_lsb: root mean square difference.
        mean_lsb: mean difference, with its sign: other rounding is off in both directions, a fault often in one.
        values: number of values that were compared.
    """

    name: str
    rms_lsb: float
    mean_lsb: float
    values: int


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """The difference of outputs from the CPU's, in steps of their quantisation (of 1/255 of their range in float).

    Attributes:
        rms_lsb: root mean square difference of all values.
        max_lsb: greatest difference.
        equal: share of the values that are equal.
        outputs: each output by itself.
    """

    rms_lsb: float
    max_lsb: float
    equal: float
    outputs: tuple[OutputParity, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something that happened to a delegate.

    Attributes:
        kind: "absent" (it is not on this machine), "refused" (it is there and does not work), "chosen" (it runs the
            frames from now on), "slower" (it works, and something else is faster), "late" (it has not answered in
            time, and the CPU runs its frames until it does), "dropped" (it failed while frames streamed) or "restored"
            (it was late or had failed, and works again).
        delegate: its name.
        reason: in words.
        frame: the number of frames that had been delivered before.
    """

    kind: str
    delegate: str
    reason: str
    frame: int


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What runs the model.

    Attributes:
        engine: the runtime and its version ("litert 2.3.0").
        delegate: what runs the graph in place of the runtime's own kernels ("teflon", "XNNPACK"), or "none". Of the
            fallback engine: what ran the last frame.
        threads: the threads that the runtime was given.
        partitions: which executor runs which part of the graph; empty where the runtime does not report it.
        first_inference_ns: duration of the first inference of what runs the frames, 0 before it.
        steady_ns: median duration of the last inferences after the first, 0 before there are any.
        cpu_ns: duration of the CPU's fastest inference of the last hundred; 0 before there are any.
        parity: with the CPU, on the last such frame.
        frames: the number of frames that each delegate ran, those of the warm-up included.
        events: the last hundred, oldest first.
        tile: height and width of the part of the input that the engine runs at a time; None for the whole. Where frames
            are cut into tiles, durations are those of one tile.
        runtime_library: of the runtime; None where it is not known.
        delegate_library: of the delegate; None where it has none of its own.
    """

    engine: str
    delegate: str
    threads: int
    partitions: tuple[Partition, ...] = ()
    first_inference_ns: int = 0
    steady_ns: int = 0
    cpu_ns: int = 0
    parity: ParityCheck | None = None
    frames: tuple[tuple[str, int], ...] = ()
    events: tuple[EngineEvent, ...] = ()
    tile: tuple[int, int] | None = None
    runtime_library: Library | None = None
    delegate_library: Library | None = None

    @property
    def nodes(self) -> int:
        """The number of nodes of the graph; 0 where the runtime does not report them."""
        return sum(partition.nodes for partition in self.partitions)

    @property
    def nodes_delegated(self) -> int:
        """The number of nodes that `delegate` runs."""
        return sum(partition.nodes for partition in self.partitions if partition.executor == self.delegate)


def tensors_from(entries: Sequence[Mapping[str, Any]]) -> tuple[TensorInfo, ...]:
    """Tensors from plain values.

    Args:
        entries: what `dataclasses.asdict` and JSON have made of each tensor.
    """
    return tuple(TensorInfo(**{**entry, "shape": tuple(entry["shape"])}) for entry in entries)


def report_from(entry: Mapping[str, Any]) -> EngineReport:
    """The report of an engine that has just been loaded, from plain values.

    Args:
        entry: what `dataclasses.asdict` and JSON have made of it.
    """
    partitions = tuple(
        Partition(part["executor"], tuple((name, count) for name, count in part["operators"]))
        for part in entry["partitions"]
    )
    return EngineReport(
        entry["engine"],
        entry["delegate"],
        entry["threads"],
        partitions,
        runtime_library=_library_from(entry["runtime_library"]),
        delegate_library=_library_from(entry["delegate_library"]),
    )


def _library_from(entry: Mapping[str, str] | None) -> Library | None:
    return None if entry is None else Library(**entry)


class Engine(Protocol):
    """Runs one model; a context manager. It must not be used from two threads at once.

    An engine is a class with the constructor `(path, *, threads=None)`. One that loads delegates also takes
    `delegate=None` (a `Delegate`) and `shape=None`, the shape of the first input. `edge_isp.testing.check_engine`
    checks an engine against this protocol.
    """

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The model's inputs, in order."""
        ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The model's outputs, in order."""
        ...

    @property
    def report(self) -> EngineReport:
        """What runs the model."""
        ...

    def resize(self, shape: tuple[int, ...]) -> None:
        """Prepares the model for a first input of another shape.

        Args:
            shape: of the first input.

        Raises:
            EngineError: the model cannot take it; it then stays ready for the shape that it had.
        """
        ...

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs one inference.

        Args:
            inputs: one array for each of the model's inputs, of its shape and dtype. They are not changed and not kept.

        Returns:
            One array for each of the model's outputs; they belong to the caller and do not change afterwards.

        Raises:
            EngineError: an input does not fit, or the runtime fails.
        """
        ...

    def close(self) -> None:
        """Frees the model. Idempotent; a `run` or `resize` after it is an EngineError."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ClosingEngine:
    """The context manager of `Engine`, for engines to inherit."""

    def close(self) -> None:
        """See `Engine.close`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DescribedEngine(ClosingEngine):
    """An engine that keeps its description, for engines to inherit: they set it whenever it changes."""

    _inputs: tuple[TensorInfo, ...]
    _outputs: tuple[TensorInfo, ...]
    _report: EngineReport

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
        return self._report


def read_model(path: Path, sha256: str | None = None) -> bytes:
    """The content of a model's file, read once: what is verified is what is loaded.

    Args:
        path: of the file.
        sha256: of the content, hexadecimal; None verifies nothing.

    Raises:
        EngineError: it cannot be read, or it is another file.
    """
    content = read_file(path, EngineError, LARGEST_MODEL_BYTES)
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise EngineError(f"{path}: is not the model that its card describes: expected SHA-256 {sha256}, found {found}")
    return content


def default_threads(threads: int | None) -> int:
    """The number of threads for a runtime.

    One core is left to what comes before and after the network: capture, encoding, decoding. With a thread on every
    core, a detector's pipeline on two cores delivers two thirds of the frames that it delivers with one.

    Args:
        threads: the number that was asked for; None for one fewer than this process has cores, at least one.
    """
    return threads or max(len(os.sched_getaffinity(0)) - 1, 1)


def check_open(path: Path, runtime: object) -> None:
    """Raises EngineError where an engine is used after `close`.

    Args:
        path: of the model's file, for the message.
        runtime: what `close` sets to None.
    """
    if runtime is None:
        raise EngineError(f"{path}: the engine is closed")


def check_inputs(path: Path, inputs: Sequence[NDArray[Any]], expected: Sequence[TensorInfo]) -> None:
    """Raises EngineError where arrays are not what a model takes.

    Args:
        path: of the model's file, for the message.
    """
    if len(inputs) != len(expected):
        raise EngineError(f"{path}: expected {len(expected)} inputs, found {len(inputs)}")
    for array, info in zip(inputs, expected, strict=True):
        if array.shape != info.shape or array.dtype != np.dtype(info.dtype):
            raise EngineError(
                f"{path}: input '{info.name}' must be {info.dtype} {info.shape}, found {array.dtype} {array.shape}"
            )
