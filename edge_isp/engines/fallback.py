"""The ladder: a model on the NPU where that is found to work, else on the next candidate, down to the CPU.

Every candidate is probed, loaded, asked what it took of the graph, and its answer for a real frame compared with the CPU's,
before it may deliver. While frames stream, a candidate that fails, hangs or starts to disagree is dropped, and the same
frame is done again on the next one: losing the NPU costs speed, never results.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import (
    ClosingEngine,
    Engine,
    EngineEvent,
    EngineReport,
    ParityCheck,
    TensorInfo,
    check_inputs,
)
from edge_isp.engines.delegates import DelegateSpec, Probe, delegates, find_delegate, is_installed, probe, resolve
from edge_isp.errors import EngineError, ModelError, PluginError
from edge_isp.plugins import load

_log = logging.getLogger(__name__)

# The two int8 arithmetics of LiteRT itself, XNNPACK's and its own kernels', are 0.7 LSB apart after 16 operators and
# 1.4 after 56; whatever is wrong by a channel, a tile or a scale is tens of LSB off.
DEFAULT_TOLERANCE_LSB = 2.0
FIRST_RETRY_S, LAST_RETRY_S = 10.0, 600.0

_TFLITE = ("litert", "tflite-runtime")
_KEPT_EVENTS, _KEPT_DURATIONS = 100, 100


@dataclass(frozen=True, slots=True)
class Delegation:
    """What may run a model.

    Attributes:
        delegate: "auto" (the first NPU that works, else the CPU), "none" (the CPU), or one that must work when the
            model is loaded: a delegate's name or the path of a delegate library of TensorFlow Lite, with options behind
            it ("edgetpu,device=usb").
        require_full: fail where the delegate leaves any node to the CPU, or is lost.
        check_every: after so many frames the delegate's answer is compared with the CPU's again, as the first two are;
            0: never.
        time_limit_s: of one inference. The delegate then runs in a process of its own, which is ended when the time
            is up.
        python: path of another Python for engines whose packages are not in this one.
    """

    delegate: str = "auto"
    require_full: bool = False
    check_every: int = 1000
    time_limit_s: float | None = None
    python: str | None = None


@dataclass(frozen=True, slots=True)
class _Rung:
    """A delegate that was found on this board, and the model's file for it."""

    spec: DelegateSpec
    found: Probe
    model: Path


class FallbackEngine(ClosingEngine):
    """A model on the best of what is there; see `Delegation`.

    The CPU's engine is loaded at once and stays: it is what others are compared with, and what takes over. Delegates
    are loaded with the first frame.

    Args:
        path: of the model's file.
        engine: name of the engine that runs it on the CPU.
        threads: of the engines; by default one a core.
        delegation: what may run the model.
        tolerance_lsb: root mean square difference from the CPU's outputs that a delegate may have, in steps of the
            output's quantisation.
        variant: file of the model that was compiled for a delegate, by the name of the variant; None where there is
            none.
        clock: seconds; another one is for tests.

    Raises:
        EngineError: the CPU cannot run the model, or the demanded delegate is not there.
        PluginError: there is no such engine or delegate.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        engine: str = "litert",
        threads: int | None = None,
        delegation: Delegation | None = None,
        tolerance_lsb: float = DEFAULT_TOLERANCE_LSB,
        variant: Callable[[str], Path | None] = lambda name: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self._engine_name, self._threads = engine, threads
        self._delegation = delegation or Delegation()
        self._tolerance_lsb, self._variant, self._clock = tolerance_lsb, variant, clock
        self._events: deque[EngineEvent] = deque(maxlen=_KEPT_EVENTS)
        self._frames: Counter[str] = Counter()
        self._active: Engine | None = None  # a delegate's
        self._active_rung: _Rung | None = None
        self._settled = False
        self._retry_at_s, self._retry_after_s, self._restored_at_s = float("inf"), 0.0, 0.0
        self._agreement: ParityCheck | None = None
        self._first_ns = self._cpu_ns = self._since_choice = 0
        self._durations_ns: deque[int] = deque(maxlen=_KEPT_DURATIONS)
        self._rungs = self._find_rungs()
        self._cpu_rungs: list[dict[str, Any]] = [{}]
        if engine in _TFLITE:
            self._cpu_rungs.append({"xnnpack": False})
        self._cpu = self._open_cpu(None)
        self._report = self._describe()

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """See `Engine.inputs`."""
        return self._cpu.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """See `Engine.outputs`."""
        return self._cpu.outputs

    @property
    def report(self) -> EngineReport:
        """What made the last frame; before the first, the CPU's. May be read from any thread."""
        return self._report

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`; delegates are looked for anew with the next frame."""
        if shape == self.inputs[0].shape:
            return
        self._resize_cpu(shape)
        self._leave()
        self._settled = False
        self._report = self._describe()

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`; EngineError where the CPU fails, or a demanded delegate with the first frame."""
        check_inputs(self.path, inputs, self.inputs)
        outputs = None
        if not self._settled:
            outputs = self._climb(inputs, self._rungs)
            self._require_demanded(outputs is not None)
            self._settled = True
        elif self._clock() >= self._retry_at_s:
            outputs = self._retry(inputs)
        if outputs is None and self._active is not None:
            outputs = self._run_active(inputs)
        if outputs is None:
            outputs = self._run_cpu(inputs)
        self._frames[(self._active or self._cpu).report.delegate] += 1
        self._report = self._describe()
        return outputs

    def close(self) -> None:
        """See `Engine.close`."""
        self._leave()
        self._cpu.close()

    def _describe(self) -> EngineReport:
        return replace(
            (self._active or self._cpu).report,
            first_inference_ns=self._first_ns,
            steady_ns=int(median(self._durations_ns)) if self._durations_ns else 0,
            cpu_ns=self._cpu_ns,
            agreement=self._agreement,
            frames=tuple(self._frames.items()),
            events=tuple(self._events),
        )

    # Finding candidates

    def _find_rungs(self) -> list[_Rung]:
        name, options = _parse(self._delegation.delegate)
        if name == "none":
            if self._delegation.require_full:
                raise EngineError("full delegation is required, and the delegate is 'none'")
            return []
        candidates = []
        for spec in delegates() if name == "auto" else (self._demanded(name),):
            spec = replace(spec, options={**spec.options, **options})
            found = probe(spec, packages=self._delegation.python is None)
            candidate = None if found.missing else self._rung(spec, found)
            if candidate is None:
                reason = found.missing or f"the model has no variant '{spec.models[found.board]}' in its card"
                if name != "auto":
                    raise EngineError(f"delegate '{spec.name}' ({spec.title}) cannot be used: {reason}")
                self._tell("absent", spec.name, reason, logging.DEBUG)
            else:
                candidates.append(candidate)
        if not candidates and self._delegation.require_full:
            raise EngineError("full delegation is required, and there is no NPU; 'edge-isp doctor' says why not")
        return candidates

    def _demanded(self, name: str) -> DelegateSpec:
        if "/" not in name:
            return find_delegate(name)
        engine = self._engine_name if self._engine_name in _TFLITE else "litert"
        stem = Path(name).name.removeprefix("lib").partition(".so")[0]
        return DelegateSpec(stem, Path(name).name, engine, {"*": "tflite"}, libraries=(str(Path(name).absolute()),))

    def _rung(self, spec: DelegateSpec, found: Probe) -> _Rung | None:
        wanted = spec.models[found.board]
        model = self.path if self.path.suffix == f".{wanted}" else self._variant(wanted)
        return None if model is None else _Rung(spec, found, model)

    # Climbing

    def _climb(self, inputs: list[NDArray[Any]], candidates: Sequence[_Rung]) -> list[NDArray[Any]] | None:
        """Tries one candidate after the other on a frame; the outputs of the first that works, None where none does."""
        for candidate in candidates:
            try:
                return self._try(candidate, inputs)
            except (EngineError, PluginError) as error:
                self._tell("refused", candidate.spec.name, str(error), logging.WARNING)
        return None

    def _try(self, candidate: _Rung, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """A frame's outputs from a candidate, which then is the active one; an error where it cannot be."""
        engine = self._open(candidate)
        try:
            self._check_tensors(candidate, engine)
            self._check_shares(engine.report)
            frame = inputs if any(np.ptp(array) for array in inputs) else _waves(self.inputs)
            compared, first_ns = _timed(engine, frame)
            agreement = self._agreement_with_cpu(frame, compared)
            self._check_agreement(agreement)
            outputs, steady_ns = _timed(engine, inputs)
        except (EngineError, ModelError):
            engine.close()
            raise
        self._leave()
        self._active, self._active_rung, self._since_choice = engine, candidate, 0
        self._first_ns, self._agreement = first_ns, agreement
        self._durations_ns.append(steady_ns)
        report = engine.report
        takes = (
            f"takes {report.nodes_delegated} of {report.nodes} nodes" if report.shares else "does not tell its nodes"
        )
        self._tell(
            "chosen",
            candidate.spec.name,
            f"{takes}; first inference {first_ns / 1e6:.1f} ms, then {steady_ns / 1e6:.1f} ms, CPU "
            f"{self._cpu_ns / 1e6:.1f} ms{' (faster)' if steady_ns > self._cpu_ns else ''}; {_told(agreement)}",
            logging.INFO,
        )
        return outputs

    def _check_shares(self, report: EngineReport) -> None:
        required = self._delegation.require_full
        if not report.shares and required:
            raise EngineError("full delegation is required, and its runtime does not tell what it takes")
        if report.shares and report.nodes_delegated == 0:
            raise EngineError(f"it takes none of the model's {report.nodes} nodes")
        left = [share for share in report.shares if share.executor != report.delegate]
        if left and required:
            raise EngineError(
                f"full delegation is required, and it takes {report.nodes_delegated} of {report.nodes} nodes; left "
                "are " + ", ".join(f"{count} {name}" for share in left for name, count in share.operators)
            )

    def _check_tensors(self, candidate: _Rung, engine: Engine) -> None:
        """Raises where a variant is not the same model."""
        for what, ours, theirs in (("input", self.inputs, engine.inputs), ("output", self.outputs, engine.outputs)):
            if [_essence(t) for t in ours] == [_essence(t) for t in theirs]:
                continue
            if [t.shape for t in ours] != [t.shape for t in theirs]:
                raise EngineError(
                    f"{candidate.model}: is for {what} {_shapes(theirs)}, and these frames need {_shapes(ours)}"
                )
            raise ModelError(
                f"{candidate.model}: {what} must be {_essences(ours)} as in {self.path}, is {_essences(theirs)}"
            )

    def _require_demanded(self, works: bool) -> None:
        demanded = self._delegation.delegate != "auto" or self._delegation.require_full
        lost = self._retry_after_s > 0  # it has worked, and whoever streams goes on without it
        if works or not self._rungs or not demanded or lost:
            return
        names = [candidate.spec.name for candidate in self._rungs]
        reasons = {e.delegate: e.reason for e in self._events if e.kind == "refused" and e.delegate in names}
        raise EngineError("; ".join(f"delegate '{name}' cannot be used: {reason}" for name, reason in reasons.items()))

    # Streaming

    def _run_active(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """The delegate's outputs, or None where it was dropped."""
        assert self._active is not None
        try:
            outputs, duration_ns = _timed(self._active, inputs)
        except EngineError as error:
            return self._drop(str(error), inputs)
        self._durations_ns.append(duration_ns)
        self._since_choice += 1
        every = self._delegation.check_every
        # What warmed it up may have been a made-up frame, so that the first after it is compared too.
        if self._since_choice == 1 or (every and self._since_choice % every == 0):
            self._agreement = self._agreement_with_cpu(inputs, outputs)
            try:
                self._check_agreement(self._agreement)
            except EngineError as error:
                return self._drop(str(error), inputs)
        return outputs

    def _drop(self, reason: str, inputs: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """Leaves the delegate and does the frame again on the next candidate."""
        assert self._active_rung is not None
        dropped = self._active_rung
        self._leave()
        if self._delegation.require_full:
            raise EngineError(f"full delegation is required, and delegate '{dropped.spec.name}' was lost: {reason}")
        now = self._clock()
        # One that worked for longer than it was waited for starts afresh.
        worked = not self._retry_after_s or now - self._restored_at_s > self._retry_after_s
        self._wait(FIRST_RETRY_S if worked else 2 * self._retry_after_s)
        self._tell(
            "dropped",
            dropped.spec.name,
            f"{reason}; the frame is done again without it, and it is tried again in {self._retry_after_s:.0f} s",
            logging.WARNING,
        )
        return self._climb(inputs, self._rungs[self._rungs.index(dropped) + 1 :])

    def _retry(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """Tries what stands higher than what runs."""
        active = self._active_rung
        better = self._rungs[: self._rungs.index(active)] if active else self._rungs
        outputs = self._climb(inputs, better) if better else None
        if self._active_rung is self._rungs[0]:
            self._retry_at_s = float("inf")
        else:
            self._wait(2 * self._retry_after_s)
        if outputs is None:
            return None
        self._restored_at_s = self._clock()
        assert self._active_rung is not None
        self._tell("restored", self._active_rung.spec.name, "it works again", logging.WARNING)
        return outputs

    def _wait(self, duration_s: float) -> None:
        self._retry_after_s = min(duration_s, LAST_RETRY_S)
        self._retry_at_s = self._clock() + self._retry_after_s

    def _run_cpu(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        while True:
            try:
                outputs, duration_ns = _timed(self._cpu, inputs)
            except EngineError as error:
                if len(self._cpu_rungs) == 1:
                    raise
                self._tell("dropped", self._cpu.report.delegate, str(error), logging.WARNING)
                self._cpu_rungs.pop(0)
                shape = self.inputs[0].shape
                self._cpu.close()
                self._cpu = self._open_cpu(shape)
                continue
            if self._active is None:
                if not self._first_ns:
                    self._first_ns = duration_ns
                else:
                    self._durations_ns.append(duration_ns)
            return outputs

    def _agreement_with_cpu(self, inputs: list[NDArray[Any]], outputs: Sequence[NDArray[Any]]) -> ParityCheck:
        started = time.perf_counter_ns()
        reference = self._run_cpu(inputs)
        self._cpu_ns = time.perf_counter_ns() - started
        return compare(outputs, reference, self.outputs)

    def _check_agreement(self, agreement: ParityCheck) -> None:
        if agreement.rms_lsb > self._tolerance_lsb:
            raise EngineError(f"it disagrees with the CPU: {_told(agreement)}, allowed {self._tolerance_lsb:g} LSB")

    # Engines

    def _open(self, candidate: _Rung) -> Engine:
        name = candidate.spec.engine
        if name in _TFLITE and self._engine_name in _TFLITE:
            name = self._engine_name
        settings: dict[str, Any] = {
            "threads": self._threads,
            "delegate": replace(
                resolve(candidate.spec, candidate.found, candidate.model), inputs=self.inputs, outputs=self.outputs
            ),
            "shape": self.inputs[0].shape,
        }
        limit_s, python = self._delegation.time_limit_s, self._delegation.python
        elsewhere = python is not None and not is_installed(candidate.spec)
        if limit_s is None and not elsewhere:
            loaded = self._load_here(name)
            if loaded is not None:
                engine: Engine = loaded(candidate.model, **settings)
                return engine
        from edge_isp.engines.process import ProcessEngine

        return ProcessEngine(candidate.model, engine=name, python=python, time_limit_s=limit_s, **settings)

    def _open_cpu(self, shape: tuple[int, ...] | None) -> Engine:
        """The CPU's engine on the first of its candidates that loads the model; the others are forgotten."""
        loaded = self._load_here(self._engine_name)
        failures: list[EngineError] = []
        while self._cpu_rungs:
            try:
                engine = self._open_cpu_rung(loaded, self._cpu_rungs[0])
                if shape is not None:
                    engine.resize(shape)
            except EngineError as error:
                failures.append(error)
                self._cpu_rungs.pop(0)
                continue
            if failures:
                self._tell("refused", "XNNPACK", str(failures[0]), logging.WARNING)
            return engine
        raise failures[0]

    def _resize_cpu(self, shape: tuple[int, ...]) -> None:
        """XNNPACK may refuse a size that the runtime's own kernels take."""
        try:
            self._cpu.resize(shape)
        except EngineError as error:
            if len(self._cpu_rungs) == 1:
                raise
            engine = self._open_cpu_rung(self._load_here(self._engine_name), self._cpu_rungs[1])
            try:
                engine.resize(shape)
            except EngineError:
                engine.close()
                raise error from None
            self._cpu.close()
            self._cpu = engine
            self._cpu_rungs.pop(0)
            self._tell("refused", "XNNPACK", str(error), logging.WARNING)

    def _open_cpu_rung(self, loaded: Any, options: dict[str, Any]) -> Engine:
        if loaded is not None:
            engine: Engine = loaded(self.path, threads=self._threads, **options)
            return engine
        from edge_isp.engines.process import ProcessEngine

        return ProcessEngine(
            self.path, engine=self._engine_name, threads=self._threads, python=self._delegation.python, **options
        )

    def _load_here(self, name: str) -> Any:
        """The engine's class; None where its packages are only in the other Python."""
        try:
            return load("engines", name)
        except PluginError:
            if self._delegation.python is None:
                raise
            return None

    def _leave(self) -> None:
        if self._active is not None:
            self._active.close()
        self._active = self._active_rung = None
        self._first_ns, self._agreement = 0, None
        self._durations_ns.clear()

    def _tell(self, kind: str, delegate: str, reason: str, level: int) -> None:
        self._events.append(EngineEvent(kind, delegate, reason, sum(self._frames.values())))
        _log.log(level, "delegate '%s' %s: %s", delegate, kind, reason)


def compare(
    outputs: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]], tensors: Sequence[TensorInfo]
) -> ParityCheck:
    """How far outputs are from a reference, over all tensors together."""
    squares, values, equal, greatest = 0.0, 0, 0, 0.0
    for found, expected, tensor in zip(outputs, reference, tensors, strict=True):
        difference = found.astype(np.float64) - expected
        if not tensor.scale:  # not quantised
            difference /= (float(np.ptp(expected)) or 1.0) / 255
        squares += float(np.square(difference).sum())
        equal += int(np.count_nonzero(difference == 0))
        values += difference.size
        greatest = max(greatest, float(np.abs(difference).max(initial=0)))
    return ParityCheck((squares / max(values, 1)) ** 0.5, greatest, equal / max(values, 1))


def _waves(tensors: Sequence[TensorInfo]) -> list[NDArray[Any]]:
    """Inputs in place of an empty frame, on which any two engines would agree."""
    frames = []
    for tensor in tensors:
        phase = np.zeros(tensor.shape)
        for axis, size in enumerate(tensor.shape):
            steps = [1] * len(tensor.shape)
            steps[axis] = size
            phase += (np.arange(size) * (0.13 + 0.11 * axis)).reshape(steps)
        values = (np.sin(phase) + 1) / 2
        if np.issubdtype(np.dtype(tensor.dtype), np.integer):
            limits = np.iinfo(tensor.dtype)
            values = np.rint(limits.min + values * (limits.max - limits.min))
        frames.append(values.astype(tensor.dtype))
    return frames


def _parse(text: str) -> tuple[str, dict[str, str]]:
    """NAME[,key=value...]"""
    name, *options = re.split(r",(?=\w[\w-]*=)", text)
    return name, dict(option.split("=", 1) for option in options)


def _timed(engine: Engine, inputs: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], int]:
    started = time.perf_counter_ns()
    outputs = engine.run(inputs)
    return outputs, time.perf_counter_ns() - started


def _told(agreement: ParityCheck) -> str:
    return (
        f"{agreement.equal:.1%} of values equal to the CPU's, difference {agreement.rms_lsb:.2f} LSB rms, "
        f"{agreement.max_lsb:g} at most"
    )


def _essence(tensor: TensorInfo) -> tuple[Any, ...]:
    return (tensor.shape, tensor.dtype, float(np.float32(tensor.scale)), tensor.zero_point)


def _essences(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(f"{t.dtype} scale {t.scale:g} zero point {t.zero_point}" for t in tensors)


def _shapes(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(str(t.shape) for t in tensors)
