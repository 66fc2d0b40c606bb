"""Candidates that are loaded and proved in a thread, while the CPU runs the frames."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import Engine, ParityCheck
from edge_isp.engines.candidates import Candidate, reason_of
from edge_isp.engines.process import ProcessEngine

_TIMED = 5


@dataclass(frozen=True, slots=True)
class Example:
    """A frame that the CPU has run.

    Attributes:
        inputs: of the model; not changed any more.
        outputs: of the CPU; likewise.
    """

    inputs: list[NDArray[Any]]
    outputs: list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Proven:
    """A candidate that is loaded, and has agreed with the CPU.

    Attributes:
        candidate: the delegate.
        engine: runs it.
        first_ns: duration of its first inference.
        steady_ns: duration of the fastest of the next ones.
        parity: with the CPU.
    """

    candidate: Candidate
    engine: ProcessEngine
    first_ns: int
    steady_ns: int
    parity: ParityCheck


@dataclass(frozen=True, slots=True)
class Refused:
    """A candidate that cannot be used.

    Attributes:
        candidate: the delegate.
        error: why not.
    """

    candidate: Candidate
    error: Exception

    @property
    def reason(self) -> str:
        """The error in words."""
        return reason_of(self.error)


def prove(
    candidate: Candidate,
    open_engine: Callable[[Candidate], ProcessEngine],
    check: Callable[[Candidate, Engine], object],
    example: Callable[[], Example],
    judge: Callable[[Example, Sequence[NDArray[Any]]], ParityCheck],
) -> Proven | Refused:
    """Loads a candidate, compares it with the CPU on one frame, and times it.

    Args:
        candidate: the delegate.
        open_engine: loads it.
        check: raises where what was loaded is not fit for the model.
        example: the frame.
        judge: compares outputs with the frame's; raises where they are too far off.
    """
    try:
        engine = open_engine(candidate)
    except Exception as error:  # noqa: BLE001 - whatever a vendor's package raises refuses it
        return Refused(candidate, error)
    try:
        check(candidate, engine)
        frame = example()
        outputs, first_ns = timed(engine, frame.inputs)
        parity = judge(frame, outputs)
        steady_ns = min(timed(engine, frame.inputs)[1] for _ in range(_TIMED))
    except Exception as error:  # noqa: BLE001 - likewise
        engine.kill()
        return Refused(candidate, error)
    return Proven(candidate, engine, first_ns, steady_ns, parity)


def timed(engine: Engine, inputs: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], int]:
    """The outputs of an inference, and how long it took in nanoseconds.

    Args:
        engine: runs it.
        inputs: of the model.
    """
    started = time.perf_counter_ns()
    outputs = engine.run(inputs)
    return outputs, time.perf_counter_ns() - started


class Trials:
    """Candidates being tried in a thread, one after the other, for frames of one size.

    Everything but `add` and `settle` returns at once. A candidate that hangs is ended when its time is up, or by
    `cancel`.

    Args:
        open_engine: see `prove`; the event ends what it waits for.
        check: see `prove`.
        judge: see `prove`.
    """

    def __init__(
        self,
        open_engine: Callable[[Candidate, threading.Event], ProcessEngine],
        check: Callable[[Candidate, Engine], object],
        judge: Callable[[Example, Sequence[NDArray[Any]]], ParityCheck],
    ) -> None:
        self._open, self._check, self._judge = open_engine, check, judge
        self._changed = threading.Condition()  # of all below
        self._waiting: deque[Candidate] = deque()
        self._outcomes: deque[Proven | Refused] = deque()
        self._example: Example | None = None
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Tries candidates, after those that are being tried.

        Args:
            candidates: the first one first.
        """
        with self._changed:
            self._waiting += candidates
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="edge_isp NPU trial", daemon=True)
                self._thread.start()

    def offer(self, inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]]) -> None:
        """A frame that the CPU has run; copied, where candidates still wait for one.

        Args:
            inputs: of the model. An empty frame, on which any two engines would agree, is not used.
            outputs: of the CPU.
        """
        with self._changed:
            if self._thread is None or self._example is not None or not any(np.ptp(array) for array in inputs):
                return
            self._example = Example([array.copy() for array in inputs], [array.copy() for array in outputs])
            self._changed.notify_all()

    def outcomes(self) -> list[Proven | Refused]:
        """What has become of candidates since the last call, in order."""
        if not self._outcomes:  # by far the most frequent
            return []
        with self._changed:
            found = list(self._outcomes)
            self._outcomes.clear()
        return found

    def settle(self, limit_s: float | None = None) -> bool:
        """Waits until no candidate is being tried.

        Args:
            limit_s: seconds; None for no limit.

        Returns:
            Whether there is none.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, limit_s)

    def cancel(self) -> None:
        """Ends all trials; their candidates, and those whose outcome nobody has taken, are ended too."""
        self._cancelled.set()
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()
        for outcome in self.outcomes():
            if isinstance(outcome, Proven):
                outcome.engine.kill()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._example, self._thread = None, None
                    self._changed.notify_all()
                    return
                candidate = self._waiting.popleft()
            outcome = prove(
                candidate, lambda c: self._open(c, self._cancelled), self._check, self._wait_for_example, self._judge
            )
            with self._changed:
                if not self._cancelled.is_set():
                    self._outcomes.append(outcome)
                    continue
            if isinstance(outcome, Proven):
                outcome.engine.kill()

    def _wait_for_example(self) -> Example:
        with self._changed:
            self._changed.wait_for(lambda: self._example is not None or self._cancelled.is_set())
            if self._example is None:
                raise InterruptedError("the trial was cancelled")
            return self._example
