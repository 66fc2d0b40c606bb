"""Which delegates may run a model here, and whether one that is loaded is fit to."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_isp.engines.base import Engine, EngineReport, TensorInfo
from edge_isp.engines.cpu import TFLITE_ENGINES
from edge_isp.engines.delegates import DelegateSpec, Probe, delegates, find_delegate, is_installed, probe, resolve
from edge_isp.engines.launch import Launcher
from edge_isp.engines.process import ProcessEngine
from edge_isp.errors import EdgeIspError, EngineError, ModelError

# Some runtimes compile the graph in the first inference, for seconds or, in a simulator, for a minute.
_FIRST_LIMIT_S = 120.0
# After which an inference is over for its process even if nobody is left to end it.
_ANSWER_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Delegation:
    """What may run a model.

    Attributes:
        delegate: "auto" (the fastest that works: an NPU or the CPU), "none" (the CPU), or one that must work and is
            used however slow it is: a delegate's name or the path of a delegate library of TensorFlow Lite, followed by
            its options ("edgetpu,device=usb").
        require_full: fail where the delegate leaves any node to the CPU, or is lost.
        check_every: the number of frames after which all of the delegate's outputs are compared with the CPU's, besides
            the first, second, fourth, eighth frame and so on, and besides the parts that are compared once a second; 0
            for none besides.
        time_limit_s: seconds after which a delegate that has not answered is ended and dropped; the first inference has
            two minutes. None for five seconds, or ten times what it usually takes. The stream does not wait so long:
            the CPU takes over as soon as a frame is late.
        python: the path of another Python, for engines whose packages this one does not have.
        isolate: run the model in a process of its own, on the CPU too: a model that makes its runtime crash, hang or
            eat memory then ends that process alone.
        memory_limit_bytes: of private memory for that process; None for half of the machine's.
    """

    delegate: str = "auto"
    require_full: bool = False
    check_every: int = 1000
    time_limit_s: float | None = None
    python: str | None = None
    isolate: bool = False
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A delegate that was found on this board, and the model's files for it.

    Attributes:
        spec: the delegate, with the options that it is to be loaded with.
        found: where it was found.
        model: the path of the file for inputs of a shape: the model's own, or its variant for the delegate; None where
            there is none for them.
    """

    spec: DelegateSpec
    found: Probe
    model: Callable[[tuple[int, ...]], Path | None]

    @property
    def name(self) -> str:
        """The delegate's name."""
        return self.spec.name

    def open(
        self,
        launcher: Launcher,
        engine: str,
        inputs: tuple[TensorInfo, ...],
        outputs: tuple[TensorInfo, ...],
        time_limit_s: float | None,
        cancelled: threading.Event | None = None,
    ) -> ProcessEngine:
        """Loads the delegate with its model, in a process of its own: only that can be ended when a driver hangs.

        Args:
            launcher: opens the engine.
            engine: the name of the engine on the CPU, which loads delegates of TensorFlow Lite where it can.
            inputs: the inputs of the model on the CPU; the first one has the size of the frames.
            outputs: the outputs of the model on the CPU.
            time_limit_s: see `Delegation`.
            cancelled: see `ProcessEngine`.

        Raises:
            EngineError: it cannot be loaded, or the model has no variant for it and this size of frames; `NotHereError`
                where it may not be there at all.
            ModelError: the variant is not what the model's card says.
        """
        model = self.model(inputs[0].shape)
        if model is None:
            wanted = self.spec.models[self.found.board]
            command = (
                f"'edge-isp export' with '--format {wanted}'"
                if wanted in ("onnx", "tflite")
                else f"'edge-isp compile --npu {wanted} --size WIDTHxHEIGHT'"
            )
            # Whether another Python has a package is seen once it loads it, for which there is nothing here.
            unknown = self.spec.distribution and launcher.python is not None and not is_installed(self.spec)
            raise (NotHereError if unknown else EngineError)(
                f"the model's card has no variant '{wanted}' for inputs of {inputs[0].shape}; {command} makes one"
            )
        name = engine if self.spec.engine in TFLITE_ENGINES and engine in TFLITE_ENGINES else self.spec.engine
        if launcher.python is not None and is_installed(self.spec) and launcher.is_here(name):
            launcher = replace(launcher, python=None)
        return launcher.open_process(
            name,
            model,
            time_limit_s=time_limit_s or _ANSWER_LIMIT_S,
            first_limit_s=_FIRST_LIMIT_S,
            cancelled=cancelled,
            delegate=replace(resolve(self.spec, self.found, model), inputs=inputs, outputs=outputs),
            shape=inputs[0].shape,
        )


def find_candidates(
    delegation: Delegation,
    path: Path,
    engine: str,
    variant: Callable[[str, tuple[int, ...]], Path | None],
    unusable: Callable[[str, str, str], None],
) -> list[Candidate]:
    """The delegates that may run a model here, the most wanted first.

    Args:
        delegation: what is wanted.
        path: of the model's file.
        engine: the name of the engine on the CPU.
        variant: the path of the model's variant for an NPU and a shape of the input, None where it has none.
        unusable: is called with the kind of an event ("absent" or "refused"), the name of each delegate that cannot be
            used, and the reason.

    Raises:
        EngineError: a delegate is demanded and cannot be used here.
        PluginError: there is no delegate of the name.
    """
    name, options = _parse(delegation.delegate)
    if name == "none":
        if delegation.require_full:
            raise EngineError("full delegation is required, and the delegate is 'none'")
        return []
    if name != "auto":
        return [_candidate(_demanded(name, engine), options, delegation, path, variant)]
    candidates = []
    for spec in delegates(refused=lambda other, reason: unusable("refused", other, reason)):
        try:
            candidates.append(_candidate(spec, options, delegation, path, variant))
        except _AbsentError as error:
            unusable("absent", spec.name, error.reason)
        except Exception as error:  # noqa: BLE001 - one delegate that is broken does not stop a stream
            unusable("refused", spec.name, reason_of(error))
    if not candidates and delegation.require_full:
        raise EngineError("full delegation is required, and there is no NPU; 'edge-isp doctor' says why not")
    return candidates


def reason_of(error: Exception) -> str:
    """Why a delegate is refused: what an error says, with its type where it is not one of ours.

    Args:
        error: whatever a vendor's package or the system has raised.
    """
    return str(error) if isinstance(error, EdgeIspError) else f"{type(error).__name__}: {error}"


class NotHereError(EngineError):
    """A delegate may not be on this machine, and there is nothing to try it with."""


class _AbsentError(EngineError):
    """A delegate is not on this machine."""

    def __init__(self, spec: DelegateSpec, reason: str) -> None:
        super().__init__(f"delegate '{spec.name}' ({spec.title}) cannot be used: {reason}")
        self.reason = reason


def _candidate(
    spec: DelegateSpec,
    options: dict[str, str],
    delegation: Delegation,
    path: Path,
    variant: Callable[[str, tuple[int, ...]], Path | None],
) -> Candidate:
    spec = replace(spec, options={**spec.options, **options})
    found = probe(spec, packages=delegation.python is None)
    if found.missing:
        raise _AbsentError(spec, found.missing)
    return Candidate(spec, found, _model_for(spec, found, path, variant))


def check_partitions(report: EngineReport, *, require_full: bool) -> None:
    """Refuses a delegate that takes nothing of the graph.

    Args:
        report: of the engine with the delegate.
        require_full: also refuse one that does not take the whole graph.

    Raises:
        EngineError: it takes too little.
    """
    if not report.partitions:
        if require_full:
            raise EngineError("full delegation is required, and its runtime does not report what it takes")
        return
    if report.nodes_delegated == 0:
        raise EngineError(f"it takes none of the model's {report.nodes} nodes")
    left = [partition for partition in report.partitions if partition.executor != report.delegate]
    if left and require_full:
        raise EngineError(
            f"full delegation is required, and it takes {report.nodes_delegated} of {report.nodes} nodes; left are "
            + ", ".join(f"{count} {name}" for partition in left for name, count in partition.operators)
        )


def check_tensors(
    candidate: Candidate,
    loaded: Engine,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    path: Path,
) -> None:
    """Refuses a variant that is not the same model.

    Args:
        candidate: the delegate.
        loaded: the engine with the delegate.
        inputs: of the model on the CPU.
        outputs: of the model on the CPU.
        path: of the model's file on the CPU, for the message.

    Raises:
        EngineError: it is for frames of another size.
        ModelError: its tensors are others.
    """
    for what, ours, theirs in (
        ("input", inputs, loaded.inputs),
        ("output", outputs, loaded.outputs),
    ):
        if [_essence(tensor) for tensor in ours] == [_essence(tensor) for tensor in theirs]:
            continue
        model = candidate.model(inputs[0].shape)
        if [tensor.shape for tensor in ours] != [tensor.shape for tensor in theirs]:
            raise EngineError(f"{model}: is for {what} {_shapes(theirs)}, and these frames need {_shapes(ours)}")
        raise ModelError(f"{model}: {what} must be {_essences(ours)} as in {path}, is {_essences(theirs)}")


def _demanded(name: str, engine: str) -> DelegateSpec:
    if "/" not in name:
        return find_delegate(name)
    stem = Path(name).name.removeprefix("lib").partition(".so")[0]
    return DelegateSpec(
        stem,
        Path(name).name,
        engine if engine in TFLITE_ENGINES else "litert",
        {"*": "tflite"},
        libraries=(str(Path(name).absolute()),),
    )


def _model_for(
    spec: DelegateSpec, found: Probe, path: Path, variant: Callable[[str, tuple[int, ...]], Path | None]
) -> Callable[[tuple[int, ...]], Path | None]:
    """The file for inputs of a shape."""
    wanted = [spec.models[found.board]]
    if spec.provider and "onnx" not in wanted:
        wanted.append("onnx")

    def find(shape: tuple[int, ...]) -> Path | None:
        files = (path if path.suffix == f".{name}" else variant(name, shape) for name in wanted)
        return next((file for file in files if file is not None), None)

    return find


def _parse(text: str) -> tuple[str, dict[str, str]]:
    """Splits NAME[,key=value...]."""
    name, *options = re.split(r",(?=\w[\w-]*=)", text)
    return name, dict(option.split("=", 1) for option in options)


def _essence(tensor: TensorInfo) -> tuple[Any, ...]:
    return (tensor.shape, tensor.dtype, float(np.float32(tensor.scale)), tensor.zero_point)


def _essences(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(f"{t.dtype} scale {t.scale:g} zero point {t.zero_point}" for t in tensors)


def _shapes(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(str(tensor.shape) for tensor in tensors)
