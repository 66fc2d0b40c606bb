"""The fallback engine: a model on the NPU where that is found to work and to be faster, else on the CPU.

Before a candidate may deliver, it is probed and loaded, its part of the graph is read, and its outputs for a real
frame are compared with the CPU's, all in a thread and a process of its own while the CPU runs the frames. The fastest
delivers. While frames stream, a candidate that fails, hangs or starts to disagree is dropped; for a frame on which it
is late, and for all after its loss, the CPU takes over: losing the NPU costs speed, never results.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from edge_isp.engines.candidates import (
    Candidate,
    Delegation,
    NotHereError,
    check_partitions,
    check_tensors,
    find_candidates,
)
from edge_isp.engines.checks import SpotChecks, part_size
from edge_isp.engines.cpu import CpuEngine
from edge_isp.engines.launch import Launcher
from edge_isp.engines.pace import Pace
from edge_isp.engines.parity import DisagreementError, ParityLimits, compare, describe, require_parity, wave_inputs
from edge_isp.engines.process import ProcessEngine
from edge_isp.engines.trials import Example, Proven, Refused, Trials, prove, timed
from edge_isp.errors import EngineError, ModelError

__all__ = ["Delegation", "FallbackEngine"]

_log = logging.getLogger(__name__)

_KEPT_EVENTS, _KEPT_DURATIONS = 100, 100
# When a delegate that has not answered is ended, where no limit is given: so many seconds, or so many times its usual
# duration. Frames are not kept waiting meanwhile.
_HANG_S, _HANG_TIMES = 5.0, 10.0
# A delegate that has been late so often is dropped, unless it was on time for so many frames in between.
_LATE_TIMES, _ON_TIME_FRAMES = 10, 100
_CLOSE_S = 10.0
# Inferences on the CPU, after the first, before a candidate can be said to be faster.
_LEAST_TIMED = 3

SameResults = Callable[[Sequence[NDArray[Any]], Sequence[NDArray[Any]]], str]


@dataclass(slots=True)
class _Active:
    """The candidate that runs the model."""

    proven: Proven
    checks: SpotChecks
    durations_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_KEPT_DURATIONS))
    frames: int = 0  # since it was chosen
    asked_s: float | None = None  # when it was asked for what it has not answered in time
    in_background: bool = False  # whether nobody waits for that answer
    late: int = 0
    on_time: int = 0  # frames since it was late

    @property
    def engine(self) -> ProcessEngine:
        return self.proven.engine

    @property
    def name(self) -> str:
        return self.proven.candidate.name

    @property
    def steady_s(self) -> float:
        return (median(self.durations_ns) if self.durations_ns else self.proven.steady_ns) / 1e9


class FallbackEngine(ClosingEngine):
    """A model on the best candidate there is; see `Delegation`.

    The engine on the CPU is loaded at once and stays: candidates are compared with it, and it takes over where they are
    late or lost. Candidates are tried from the first frame on. Under "auto" that happens in the background; one that is
    demanded must work on the first frame.

    Args:
        path: of the model's file.
        engine: the name of the engine that runs the model on the CPU.
        threads: of the engines; None leaves the choice to `default_threads`.
        delegation: what may run the model; None for the fastest that works.
        limits: how far a delegate's outputs may be from the CPU's; None for the defaults of `ParityLimits`.
        same_results: compares outputs with those of the CPU as what they are decoded to: why they are not the same, ""
            where they are; None compares the outputs alone.
        radius: of the receptive field, in rows and columns of the input; None where an output depends on the whole
            input.
        multiple: what the position and size of a part of the input are a multiple of.
        variant: the path of the model's file that was compiled for an NPU, by the NPU's name and the shape of the
            input; None where there is none.
        sha256: SHA-256 of the model and its variants by path, hexadecimal; None verifies nothing.
        live: whether frames come at their own pace, so that the CPU runs one for which a delegate is late; otherwise it
            is waited for.
        on_event: called with each event but "absent", in the thread that runs the engine; None for nobody.
        clock: the time in seconds; tests bring their own.

    Raises:
        EngineError: the CPU cannot run the model, or the demanded delegate is not here.
        ModelError: the demanded delegate's variant is not what the model's card says.
        PluginError: there is no such engine or delegate.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        engine: str = "litert",
        threads: int | None = None,
        delegation: Delegation | None = None,
        limits: ParityLimits | None = None,
        same_results: SameResults | None = None,
        radius: int | None = None,
        multiple: int = 1,
        variant: Callable[[str, tuple[int, ...]], Path | None] = lambda npu, shape: None,
        sha256: Mapping[Path, str] | None = None,
        live: bool = True,
        on_event: Callable[[EngineEvent], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self._engine_name, self._delegation = engine, delegation or Delegation()
        self._limits = limits or ParityLimits()
        self._same_results = same_results or (lambda found, reference: "")
        self._radius, self._multiple, self._live = radius, multiple, live
        self._on_event, self._clock = on_event, clock
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
        self._is_settled = False  # whether candidates are being tried, or were, on frames of this size
        self._lost: dict[str, Backoff] = {}
        self._slower: list[Candidate] = []  # they work, and wait for the loss of what is faster
        self._parity: ParityCheck | None = None
        self._retired: list[threading.Thread] = []
        self._pace = Pace(clock)
        self._candidates = find_candidates(
            self._delegation,
            self.path,
            engine,
            variant,
            lambda kind, name, reason: self._notify(
                kind, name, reason, logging.DEBUG if kind == "absent" else logging.WARNING
            ),
        )
        self._cpu = CpuEngine(
            self.path,
            engine,
            self._launcher,
            self._notify,
            time_limit_s=self._delegation.time_limit_s if self._delegation.isolate else None,
        )
        self._part: CpuEngine | None = None  # for a part of the frames
        self._ran: Engine = self._cpu  # what ran the last frame
        self._begin_size()
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
        self._end_size()
        self._begin_size()
        self._is_settled = False
        self._report = self._describe()

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`; EngineError where the CPU fails, or a demanded delegate on the first frame."""
        if self._closed:
            raise EngineError(f"{self.path}: the engine is closed")
        check_inputs(self.path, inputs, self.inputs)
        self._pace.frame()
        if not self._is_settled:
            self._try_candidates(inputs)
            self._is_settled = True
        if self._is_demanded or len(self._cpu_ns) >= _LEAST_TIMED:  # the CPU's speed is known
            for outcome in self._trials.outcomes():
                self._take(outcome)
        self._retry()
        outputs = None if self._active is None else self._run_active(self._active, inputs)
        if outputs is None:
            outputs = self._run_cpu(inputs)
            self._trials.offer(inputs, outputs)
        self._frames[self._ran.report.delegate] += 1
        self._report = self._describe()
        return outputs

    def settle(self, limit_s: float | None = None) -> bool:
        """Waits until every candidate has been tried; the fastest then runs the next frame, or the fifth.

        Needs a frame that is not empty to have been run, since candidates are proved on one; the CPU's speed is known
        after four. May be called from any thread.

        Args:
            limit_s: seconds; None for no limit.

        Returns:
            Whether they have.
        """
        return self._trials.settle(limit_s)

    def close(self) -> None:
        """See `Engine.close`."""
        if self._closed:
            return
        self._closed = True
        trials = self._trials
        self._end_size()
        trials.settle(_CLOSE_S)
        for thread in self._retired:
            thread.join(_CLOSE_S)
        self._close_part()
        self._cpu.close()

    def _begin_size(self) -> None:
        """Prepares for frames of the size that the CPU is ready for."""
        inputs, outputs = self.inputs, self.outputs
        self._cpu_ns: deque[int] = deque(maxlen=_KEPT_DURATIONS)
        self._cpu_first_ns = 0
        self._checker = self._cpu  # for the spot checks; see `_get_checker`

        def check(candidate: Candidate, engine: Engine) -> None:
            check_tensors(candidate, engine, inputs, outputs, self.path)
            check_partitions(engine.report, require_full=self._delegation.require_full)

        def judge(example: Example, found: Sequence[NDArray[Any]]) -> ParityCheck:
            return self._require_same(found, example.outputs, outputs)

        def open_engine(candidate: Candidate, cancelled: threading.Event | None = None) -> ProcessEngine:
            limit_s = self._delegation.time_limit_s
            return candidate.open(self._launcher, self._engine_name, inputs, outputs, limit_s, cancelled)

        self._trials = Trials(open_engine, check, judge)
        self._prove = partial(prove, open_engine=open_engine, check=check, judge=judge)

    def _end_size(self) -> None:
        self._trials.cancel()
        if self._active is not None:
            self._retire(self._active.engine.close)
        self._active, self._parity, self._ran = None, None, self._cpu
        self._slower = []

    def _get_checker(self) -> CpuEngine:
        """The model on one core for a part of the frames; the one for whole frames where there is no such part.

        TensorFlow Lite's interpreter keeps every other thread of Python waiting while it is loaded, so that this is
        done on the first frame rather than by a trial, while frames stream, and once for most sizes of frames.
        """
        shape = self.inputs[0].shape
        part = part_size(self.inputs, self.outputs, self._radius, self._multiple)
        part_shape = (shape[0], *part, *shape[3:])
        if part_shape == shape:
            return self._cpu
        if self._part is not None and self._part.inputs[0].shape == part_shape:
            return self._part
        self._close_part()
        try:
            engine = CpuEngine(
                self.path,
                self._engine_name,
                replace(self._launcher, threads=1),
                lambda kind, name, reason: None,
                shape=part_shape,
            )
        except EngineError as error:
            _log.warning("NPUs are checked on whole frames, more rarely: %s", error)
            return self._cpu
        engine.run([np.zeros(info.shape, info.dtype) for info in engine.inputs])
        self._part = engine
        return engine

    def _close_part(self) -> None:
        if self._part is not None:
            self._part.close()
        self._part = None

    def _check_cost_s(self) -> float:
        """A clock of what the spot checks' engine costs: processor time of all its threads, which are equally busy."""
        if self._delegation.isolate:
            return time.perf_counter()
        return self._checker.report.threads * time.thread_time()

    def _describe(self) -> EngineReport:
        active = self._active if self._active is not None and self._ran is self._active.engine else None
        durations_ns = self._cpu_ns if active is None else active.durations_ns
        return replace(
            self._ran.report,
            first_inference_ns=self._cpu_first_ns if active is None else active.proven.first_ns,
            steady_ns=int(median(durations_ns)) if durations_ns else 0,
            cpu_ns=min(self._cpu_ns, default=self._cpu_first_ns),
            parity=self._parity,
            frames=tuple(self._frames.items()),
            events=tuple(self._events),
        )

    # Choosing

    @property
    def _is_demanded(self) -> bool:
        """Whether the CPU may not run the frames from the start."""
        return self._delegation.delegate != "auto" or self._delegation.require_full

    def _try_candidates(self, inputs: list[NDArray[Any]]) -> None:
        """Tries the candidates that are not known to be lost: in the background, or now where one is demanded."""
        candidates = [candidate for candidate in self._candidates if candidate.name not in self._lost]
        if self._candidates:  # those that are lost come back
            self._checker = self._get_checker()
        if not self._is_demanded:
            self._trials.add(candidates)
            return
        if not candidates:
            return
        frame = inputs if any(np.ptp(array) for array in inputs) else wave_inputs(self.inputs)
        example = Example(frame, self._timed_cpu(frame))
        outcomes = [self._prove(candidate, example=lambda: example) for candidate in candidates]
        for outcome in outcomes:
            self._take(outcome)
        if self._active is None:
            errors = [(outcome.candidate.name, outcome.error) for outcome in outcomes if isinstance(outcome, Refused)]
            if len(errors) == 1 and isinstance(errors[0][1], ModelError):
                raise errors[0][1]
            reasons = {o.candidate.name: o.reason for o in outcomes if isinstance(o, Refused)}
            raise EngineError("; ".join(f"delegate '{name}' cannot be used: {text}" for name, text in reasons.items()))

    def _take(self, outcome: Proven | Refused) -> None:
        """Makes a candidate the active one if it is the fastest."""
        name = outcome.candidate.name
        backoff = self._lost.get(name)
        if isinstance(outcome, Refused):
            if backoff is not None:
                backoff.tried(restored=False)
            if isinstance(outcome.error, NotHereError) and not self._is_demanded:
                self._notify("absent", name, outcome.reason, logging.INFO)
                return
            again = f"; it is tried again in {backoff.wait_s:.0f} s" if backoff is not None else ""
            self._notify("refused", name, outcome.reason + again)
            return
        if backoff is not None:
            backoff.tried(restored=True)
        rival, rival_ns = self._rival()
        if rival and outcome.steady_ns >= rival_ns:
            self._set_aside(outcome.candidate, outcome.engine, outcome.steady_ns, rival, rival_ns)
            return
        if self._active is not None:
            before = self._active
            self._set_aside(before.proven.candidate, before.engine, before.proven.steady_ns, name, outcome.steady_ns)
        self._activate(outcome)
        if backoff is not None:
            self._notify("restored", name, "it works again")

    def _rival(self) -> tuple[str, int]:
        """What a candidate must be faster than: its name and duration; "" for nothing."""
        if self._active is not None:
            return f"'{self._active.name}'", self._active.proven.steady_ns
        if self._is_demanded:
            return "", 0
        return "the CPU", min(self._cpu_ns)

    def _set_aside(
        self, candidate: Candidate, engine: ProcessEngine, duration_ns: int, rival: str, rival_ns: int
    ) -> None:
        """A candidate works, and something else is faster."""
        self._retire(engine.close)
        self._slower.append(candidate)
        self._notify(
            "slower",
            candidate.name,
            f"it works and agrees with the CPU, and takes {_ms(duration_ns)} for an inference, {rival} "
            f"{_ms(rival_ns)}; 'delegate={candidate.name}' uses it all the same",
            logging.INFO,
        )

    def _activate(self, proven: Proven) -> None:
        inputs, outputs = self.inputs, self.outputs
        checks = SpotChecks(
            self._checker,
            inputs=inputs,
            outputs=outputs,
            limits=self._limits,
            radius=self._radius or 0,
            multiple=self._multiple,
            usual_rms_lsb=[output.rms_lsb for output in proven.parity.outputs],
            same_results=self._same_results,
            clock=self._clock,
            cost_clock=self._check_cost_s,
        )
        self._active, self._parity = _Active(proven, checks), proven.parity
        report = proven.engine.report
        takes = (
            f"takes {report.nodes_delegated} of {report.nodes} nodes"
            if report.partitions
            else "does not report which nodes it takes"
        )
        cpu_ns = min(self._cpu_ns, default=self._cpu_first_ns)
        self._notify(
            "chosen",
            proven.candidate.name,
            f"{takes}; first inference {_ms(proven.first_ns)}, then {_ms(proven.steady_ns)}, CPU "
            f"{_ms(cpu_ns)}{' (faster)' if proven.steady_ns > cpu_ns else ''}; {describe(proven.parity)}",
            logging.INFO,
        )

    def _retry(self) -> None:
        """Tries lost candidates again in the background once they have waited long enough."""
        for candidate in self._candidates:
            backoff = self._lost.get(candidate.name)
            if backoff is not None and backoff.is_due:
                backoff.begin()
                self._trials.add([candidate])

    # Running

    def _run_active(self, active: _Active, inputs: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """The active candidate's outputs, or None where it is late or was dropped."""
        try:
            if active.asked_s is not None and not self._is_back(active, inputs):
                return None
            begun_ns = time.perf_counter_ns()
            active.engine.send(inputs)
            if not active.engine.wait(self._patience_s(active)):
                self._set_late(active)
                return None
            outputs = active.engine.receive()
            duration_ns = time.perf_counter_ns() - begun_ns
        except EngineError as error:
            self._drop(active, str(error))
            return None
        active.durations_ns.append(duration_ns)
        active.frames += 1
        active.on_time += 1
        if active.on_time == _ON_TIME_FRAMES:
            active.late = 0
        try:
            self._check(active, inputs, outputs)
        except DisagreementError as error:  # another error is the CPU's
            self._drop(active, str(error))
            return None
        self._ran = active.engine
        return outputs

    def _limit_s(self, active: _Active) -> float:
        """Seconds after which an inference is taken to hang."""
        return self._delegation.time_limit_s or max(_HANG_S, _HANG_TIMES * active.steady_s)

    def _patience_s(self, active: _Active) -> float:
        """Seconds that a frame may wait for its inference."""
        limit_s = self._limit_s(active)
        if not self._live or self._delegation.require_full:
            return limit_s
        return min(limit_s, self._pace.patience_s(active.steady_s))

    def _set_late(self, active: _Active) -> None:
        """The CPU runs the frame, and those after it until the delegate is back."""
        limit_s, patience_s = self._limit_s(active), self._patience_s(active)
        if patience_s >= limit_s:
            raise EngineError(f"did not answer within {limit_s:g} s; its process was ended")
        active.asked_s, active.in_background, active.on_time = self._clock() - patience_s, False, 0
        self._count_late(active, patience_s)
        self._notify(
            "late",
            active.name,
            f"it has not answered within {1000 * patience_s:.0f} ms, and usually takes {1000 * active.steady_s:.1f} "
            "ms; the CPU runs the frames until it answers in time again",
        )

    def _is_back(self, active: _Active, inputs: list[NDArray[Any]]) -> bool:
        """Whether a delegate that was late has been in time since; else it is asked again, and nobody waits for it."""
        assert active.asked_s is not None
        if not active.engine.wait(0):
            limit_s = self._limit_s(active)
            if self._clock() - active.asked_s >= limit_s:
                raise EngineError(f"did not answer within {limit_s:g} s; its process was ended")
            return False
        active.engine.receive()
        patience_s = self._patience_s(active)
        if active.in_background and active.engine.run_ns <= 1e9 * patience_s:
            active.asked_s = None
            active.checks.hasten()
            self._notify("restored", active.name, "it answers in time again", logging.INFO)
            return True
        if active.in_background:
            self._count_late(active, patience_s)
        active.engine.send(inputs)
        active.asked_s, active.in_background = self._clock(), True
        return False

    def _count_late(self, active: _Active, patience_s: float) -> None:
        active.late += 1
        if active.late > _LATE_TIMES:
            raise EngineError(f"answers too late: {active.late} times it took longer than {1000 * patience_s:.0f} ms")

    def _check(self, active: _Active, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> None:
        """Raises DisagreementError where a frame is checked and is not what the CPU makes of it."""
        every = self._delegation.check_every
        if active.checks.is_due_whole(active.frames) or (every and active.frames % every == 0):
            reference = self._timed_cpu(inputs)
            self._parity = self._require_same(outputs, reference, self.outputs)
        active.checks.check(inputs, outputs)

    def _require_same(
        self, found: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]], tensors: Sequence[TensorInfo]
    ) -> ParityCheck:
        parity = compare(found, reference, tensors)
        require_parity(parity, self._limits)
        if reason := self._same_results(found, reference):
            raise DisagreementError(f"it disagrees with the CPU: {reason}")
        return parity

    def _drop(self, active: _Active, reason: str) -> None:
        """Leaves the active candidate; the CPU runs the frame."""
        self._retire(active.engine.kill)
        self._active, self._parity = None, None
        name = active.name
        if self._delegation.require_full:
            raise EngineError(f"full delegation is required, and delegate '{name}' was lost: {reason}")
        backoff = self._lost.setdefault(name, Backoff(self._clock))
        backoff.lost()
        self._notify(
            "dropped", name, f"{reason}; the CPU runs the frame, and it is tried again in {backoff.wait_s:.0f} s"
        )
        self._trials.add(self._slower)
        self._slower = []

    def _run_cpu(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        outputs = self._timed_cpu(inputs)
        self._ran = self._cpu
        return outputs

    def _timed_cpu(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        outputs, duration_ns = timed(self._cpu, inputs)
        if self._cpu_first_ns:
            self._cpu_ns.append(duration_ns)
        else:
            self._cpu_first_ns = duration_ns
        return outputs

    def _retire(self, end: Callable[[], None]) -> None:
        """Ends what is not needed any more in a thread, since a driver may hang in it."""
        self._retired = [thread for thread in self._retired if thread.is_alive()]
        thread = threading.Thread(target=end, name="edge_isp engine's end", daemon=True)
        thread.start()
        self._retired.append(thread)

    def _notify(self, kind: str, delegate: str, reason: str, level: int = logging.WARNING) -> None:
        event = EngineEvent(kind, delegate, reason, sum(self._frames.values()))
        self._events.append(event)
        _log.log(level, "delegate '%s' %s: %s", delegate, kind, reason)
        if self._on_event is not None and kind != "absent":
            self._on_event(event)


def _ms(duration_ns: int) -> str:
    return f"{duration_ns / 1e6:.1f} ms"


def _half_of_memory() -> int | None:
    total = Board().memory_bytes()
    return None if total is None else total // 2
