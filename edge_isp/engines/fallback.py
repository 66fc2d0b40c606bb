"""The fallback engine: a model on the NPU where that is found to work, else on the next candidate, down to the CPU.

Before a candidate may deliver, it is probed and loaded, its part of the graph is read, and its outputs for
a real frame are compared with the CPU's. While frames stream, a candidate that fails, hangs or starts to disagree is
dropped, and the same frame is run again on the next one: losing the NPU costs speed, never results.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.board import Board
from edge_isp.engines.backoff import Backoff
from edge_isp.engines.base import (
    ClosingEngine,
    Engine,
    EngineEvent,
    EngineReport,
    ParityCheck,
    TensorInfo,
    check_inputs,
)
from edge_isp.engines.candidates import Candidate, Delegation, check_partitions, check_tensors, find_candidates
from edge_isp.engines.cpu import CpuEngine
from edge_isp.engines.launch import Launcher
from edge_isp.engines.parity import DEFAULT_TOLERANCE_LSB, compare, describe, require_parity, wave_inputs
from edge_isp.errors import EngineError, ModelError, PluginError

__all__ = ["Delegation", "FallbackEngine"]

_log = logging.getLogger(__name__)

_KEPT_EVENTS, _KEPT_DURATIONS = 100, 100


@dataclass(slots=True)
class _Active:
    """The candidate that runs the model."""

    candidate: Candidate
    engine: Engine
    frames: int = 0  # since it was chosen


class FallbackEngine(ClosingEngine):
    """A model on the best candidate there is; see `Delegation`.

    The engine on the CPU is loaded at once and stays: candidates are compared with it, and it takes over where they are
    lost. Candidates are loaded with the first frame.

    Args:
        path: of the model's file.
        engine: the name of the engine that runs the model on the CPU.
        threads: of the engines; None for one per core.
        delegation: what may run the model; None for the first NPU that works.
        tolerance_lsb: the root mean square difference from the CPU's outputs that a delegate may have, in steps of the
            outputs' quantisation; None for 2, which is what int8 arithmetics that round differently come to in a deep
            network.
        same_results: compares a delegate's outputs with the CPU's as the results that they are decoded to, and says why
            they are not the same, "" where they are; None where the outputs alone are compared.
        variant: the path of the model's file that was compiled for a delegate, by the name of the variant; None where
            there is none.
        sha256: SHA-256 of the model and its variants by path, hexadecimal; None verifies nothing.
        clock: the time in seconds; tests bring their own.

    Raises:
        EngineError: the CPU cannot run the model, or the demanded delegate is not here.
        ModelError: a variant is not what the model's card says.
        PluginError: there is no such engine or delegate.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        engine: str = "litert",
        threads: int | None = None,
        delegation: Delegation | None = None,
        tolerance_lsb: float | None = None,
        same_results: Callable[[Sequence[NDArray[Any]], Sequence[NDArray[Any]]], str] | None = None,
        variant: Callable[[str], Path | None] = lambda name: None,
        sha256: Mapping[Path, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self._engine_name, self._delegation = engine, delegation or Delegation()
        self._tolerance_lsb = DEFAULT_TOLERANCE_LSB if tolerance_lsb is None else tolerance_lsb
        self._same_results = same_results or (lambda outputs, reference: "")
        self._launcher = Launcher(
            threads,
            self._delegation.python,
            self._delegation.isolate,
            self._delegation.memory_limit_bytes or _half_of_memory() if self._delegation.isolate else None,
            sha256 or {},
        )
        self._events: deque[EngineEvent] = deque(maxlen=_KEPT_EVENTS)
        self._frames: Counter[str] = Counter()
        self._active: _Active | None = None
        self._closed = False
        self._is_settled = False  # whether candidates have been tried on frames of this size
        self._backoff = Backoff(clock)
        self._parity: ParityCheck | None = None
        self._first_ns = self._cpu_ns = 0
        self._durations_ns: deque[int] = deque(maxlen=_KEPT_DURATIONS)
        self._candidates = find_candidates(
            self._delegation,
            self.path,
            engine,
            variant,
            lambda name, reason: self._notify("absent", name, reason, logging.DEBUG),
        )
        self._cpu = CpuEngine(
            self.path,
            engine,
            self._launcher,
            self._notify,
            time_limit_s=self._delegation.time_limit_s if self._delegation.isolate else None,
        )
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
        """What ran the last frame; before the first, the CPU's. May be read from any thread."""
        return self._report

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`; candidates are tried again with the next frame."""
        if shape == self.inputs[0].shape:
            return
        self._cpu.resize(shape)
        self._leave()
        self._is_settled = False
        self._report = self._describe()

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`; EngineError where the CPU fails, or a demanded delegate on the first frame."""
        if self._closed:
            raise EngineError(f"{self.path}: the engine is closed")
        check_inputs(self.path, inputs, self.inputs)
        outputs = None
        if not self._is_settled:
            outputs = self._choose(inputs, self._candidates)
            if outputs is None:
                self._require_demanded()
            self._is_settled = True
        elif self._backoff.is_due:
            outputs = self._retry(inputs)
        if outputs is None and self._active is not None:
            outputs = self._run_active(self._active, inputs)
        if outputs is None:
            outputs = self._run_cpu(inputs)
        self._frames[self._running.report.delegate] += 1
        self._report = self._describe()
        return outputs

    def close(self) -> None:
        """See `Engine.close`."""
        self._closed = True
        self._leave()
        self._cpu.close()

    @property
    def _running(self) -> Engine:
        return self._active.engine if self._active else self._cpu

    def _describe(self) -> EngineReport:
        return replace(
            self._running.report,
            first_inference_ns=self._first_ns,
            steady_ns=int(median(self._durations_ns)) if self._durations_ns else 0,
            cpu_ns=self._cpu_ns,
            parity=self._parity,
            frames=tuple(self._frames.items()),
            events=tuple(self._events),
        )

    def _choose(self, inputs: list[NDArray[Any]], candidates: Sequence[Candidate]) -> list[NDArray[Any]] | None:
        """Tries one candidate after the other on a frame; the outputs of the first that works, None where none does."""
        for candidate in candidates:
            try:
                return self._try(candidate, inputs)
            except (EngineError, PluginError) as error:
                self._notify("refused", candidate.name, str(error))
        return None

    def _try(self, candidate: Candidate, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Makes a candidate the active one, and returns the frame's outputs; an error where it is not fit."""
        engine = candidate.open(
            self._launcher, self._engine_name, self.inputs, self.outputs, self._delegation.time_limit_s
        )
        try:
            check_tensors(candidate, engine, self, self.path)
            check_partitions(engine.report, require_full=self._delegation.require_full)
            frame = inputs if any(np.ptp(array) for array in inputs) else wave_inputs(self.inputs)
            compared, first_ns = _timed(engine, frame)
            parity, reason = self._compare_with_cpu(frame, compared)
            self._require_parity(parity, reason)
            outputs, steady_ns = _timed(engine, inputs)
        except (EngineError, ModelError):
            engine.close()
            raise
        self._leave()
        self._active = _Active(candidate, engine)
        self._first_ns, self._parity = first_ns, parity
        self._durations_ns.append(steady_ns)
        report = engine.report
        takes = (
            f"takes {report.nodes_delegated} of {report.nodes} nodes"
            if report.partitions
            else "does not report which nodes it takes"
        )
        self._notify(
            "chosen",
            candidate.name,
            f"{takes}; first inference {first_ns / 1e6:.1f} ms, then {steady_ns / 1e6:.1f} ms, CPU "
            f"{self._cpu_ns / 1e6:.1f} ms{' (faster)' if steady_ns > self._cpu_ns else ''}; {describe(parity)}",
            logging.INFO,
        )
        return outputs

    def _require_demanded(self) -> None:
        """Raises where candidates were demanded, and none works; one that has worked before may be lost."""
        demanded = self._delegation.delegate != "auto" or self._delegation.require_full
        if not self._candidates or not demanded or self._backoff.wait_s:
            return
        names = [candidate.name for candidate in self._candidates]
        reasons = {e.delegate: e.reason for e in self._events if e.kind == "refused" and e.delegate in names}
        raise EngineError("; ".join(f"delegate '{name}' cannot be used: {reason}" for name, reason in reasons.items()))

    def _run_active(self, active: _Active, inputs: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """The active candidate's outputs, or None where it and all after it were dropped."""
        try:
            outputs, duration_ns = _timed(active.engine, inputs)
        except EngineError as error:
            return self._drop(active.candidate, str(error), inputs)
        self._durations_ns.append(duration_ns)
        active.frames += 1
        every = self._delegation.check_every
        # The frame that it was chosen on may have been an empty one, so that the first after it is compared too.
        if active.frames == 1 or (every and active.frames % every == 0):
            self._parity, reason = self._compare_with_cpu(inputs, outputs)  # an error of the CPU is not the delegate's
            try:
                self._require_parity(self._parity, reason)
            except EngineError as error:
                return self._drop(active.candidate, str(error), inputs)
        return outputs

    def _drop(self, dropped: Candidate, reason: str, inputs: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """Leaves a candidate, and runs the frame again on those after it."""
        self._leave()
        if self._delegation.require_full:
            raise EngineError(f"full delegation is required, and delegate '{dropped.name}' was lost: {reason}")
        self._backoff.lost()
        self._notify(
            "dropped",
            dropped.name,
            f"{reason}; the frame is run again without it, and it is tried again in {self._backoff.wait_s:.0f} s",
        )
        return self._choose(inputs, self._candidates[self._candidates.index(dropped) + 1 :])

    def _retry(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """Tries the candidates that are better than what runs."""
        active = self._active
        better = self._candidates[: self._candidates.index(active.candidate)] if active else self._candidates
        outputs = self._choose(inputs, better)
        chosen = self._active.candidate if self._active else None
        self._backoff.tried(restored=outputs is not None, best=chosen is self._candidates[0])
        if outputs is not None and chosen is not None:
            self._notify("restored", chosen.name, "it works again")
        return outputs

    def _run_cpu(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        outputs, duration_ns = _timed(self._cpu, inputs)
        if self._active is None:
            if self._first_ns:
                self._durations_ns.append(duration_ns)
            else:
                self._first_ns = duration_ns
        return outputs

    def _compare_with_cpu(self, inputs: list[NDArray[Any]], outputs: Sequence[NDArray[Any]]) -> tuple[ParityCheck, str]:
        """The difference of a frame's outputs from the CPU's, and why their results are not the same."""
        reference, self._cpu_ns = _timed(self._cpu, inputs)
        return compare(outputs, reference, self.outputs), self._same_results(outputs, reference)

    def _require_parity(self, parity: ParityCheck, reason: str) -> None:
        require_parity(parity, self._tolerance_lsb)
        if reason:
            raise EngineError(f"it disagrees with the CPU: {reason}")

    def _leave(self) -> None:
        if self._active is not None:
            self._active.engine.close()
        self._active = None
        self._first_ns, self._parity = 0, None
        self._durations_ns.clear()

    def _notify(self, kind: str, delegate: str, reason: str, level: int = logging.WARNING) -> None:
        self._events.append(EngineEvent(kind, delegate, reason, sum(self._frames.values())))
        _log.log(level, "delegate '%s' %s: %s", delegate, kind, reason)


def _half_of_memory() -> int | None:
    total = Board().memory_bytes()
    return None if total is None else total // 2


def _timed(engine: Engine, inputs: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], int]:
    started = time.perf_counter_ns()
    outputs = engine.run(inputs)
    return outputs, time.perf_counter_ns() - started
