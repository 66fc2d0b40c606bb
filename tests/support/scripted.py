"""Fakes for tests of the pipeline: a camera, an engine and a clock that do what a test tells them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp import plugins
from edge_isp.cameras.base import Controls
from edge_isp.engines.base import EngineReport, TensorInfo
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.models.card import find_model

LAYOUT = RawFormat(16, 16, Cfa.RGGB, 10, Packing.CSI2P)
PERIOD_NS = 33_333_333


class SimulatedClock:
    """Time passes when it is waited for, and when `advance` says so."""

    def __init__(self) -> None:
        self._now_ns = 1_000_000_000
        self._lock = threading.Lock()
        self.waits_s: list[float] = []

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, nanoseconds: int) -> None:
        with self._lock:
            self._now_ns += nanoseconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits_s.append(seconds)
        self.advance(round(seconds * 1e9))
        return event.is_set()


@dataclass(frozen=True)
class ScriptedFrame:
    """A frame of a scripted camera.

    Attributes:
        number: its sequence number.
        status: what is wrong with it.
        changes: fields of `RawFrame` that are not the usual ones.
        release_error: raised when it is released, after it is noted as given back.
    """

    number: int
    status: FrameStatus = FrameStatus.OK
    changes: dict[str, Any] = field(default_factory=dict)
    release_error: BaseException | None = None


# What a camera does at a call of `read`: deliver the frame of a number, fail, or anything else.
Action = int | tuple[int, FrameStatus] | ScriptedFrame | BaseException | Callable[[], object] | None


class ScriptedCamera:
    """Delivers frames by number, a frame period apart, fails, or calls a function, action by action; then it ends.

    Attributes:
        lent: frames that were not given back.
        delivered: numbers of frames that `read` returned.
        close_error: raised by `close`, after the camera is closed.
    """

    def __init__(
        self,
        script: Iterable[Action],
        clock: SimulatedClock | None = None,
        *,
        live: bool = True,
        close_error: BaseException | None = None,
    ) -> None:
        self._script: Iterator[Action] = iter(script)
        self._clock = clock or SimulatedClock()
        self.live = live
        self.lent: set[int] = set()
        self.delivered: list[int] = []
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self.close_error = close_error

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        for action in self._script:
            if self.closed.is_set():
                return None
            if isinstance(action, BaseException):
                raise action
            if callable(action):
                action()
                continue
            if action is None:
                return None
            self._clock.advance(PERIOD_NS)
            if isinstance(action, ScriptedFrame):
                return self._changed(action)
            return self._frame(*action) if isinstance(action, tuple) else self._frame(action, FrameStatus.OK)
        return None

    def _frame(self, number: int, status: FrameStatus) -> RawFrame:
        with self._lock:
            assert number not in self.lent
            self.lent.add(number)
            self.delivered.append(number)
        return RawFrame(
            data=np.zeros((LAYOUT.height, LAYOUT.stride), np.uint8),
            format=LAYOUT,
            source="scripted",
            sequence=number,
            timestamp_ns=self._clock.now_ns(),
            black_level=(64.0,) * 4,
            white_level=1023,
            sensor="imx219",
            analogue_gain=1.0,
            colour_gains=(1.8, 1.4),
            colour_temperature_k=5500,
            status=status,
            on_release=lambda: self._back(number),
        )

    def _changed(self, scripted: ScriptedFrame) -> RawFrame:
        frame = self._frame(scripted.number, scripted.status)
        give_back, error = frame.on_release, scripted.release_error
        assert give_back is not None

        def fail() -> None:
            give_back()
            if error is not None:
                raise error

        return replace(frame, on_release=fail, **scripted.changes)

    def _back(self, number: int) -> None:
        with self._lock:
            self.lent.remove(number)

    @property
    def limits(self) -> Any:
        raise NotImplementedError

    def control(self, controls: Controls) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed.set()
        if self.close_error is not None:
            raise self.close_error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ScriptedEngine:
    """Answers with zeros, after `on_run`, which may fail or wait.

    `on_load`, `on_resize` and `on_warm_up` may fail or wait, too. `opened` and `closed` count, over all engines since
    `install`.
    """

    on_run: Callable[[int], None] = staticmethod(lambda number: None)
    on_load: Callable[[], None] = staticmethod(lambda: None)
    on_resize: Callable[[], None] = staticmethod(lambda: None)
    on_warm_up: Callable[[], None] = staticmethod(lambda: None)
    runs = opened = closed = 0

    def __init__(self, path: str | Path, *, threads: int | None = None, sha256: str | None = None) -> None:
        type(self).on_load()
        card = find_model(str(path), None)
        self.inputs = (self._info(card.input, card.input.shape),)
        self.outputs = (self._info(card.outputs[0], card.outputs[0].shape),)
        self.report = EngineReport("scripted", "none", threads or 1)
        self._warm = self._closed = False
        type(self).opened += 1

    @staticmethod
    def _info(tensor: Any, shape: tuple[int, ...]) -> TensorInfo:
        return TensorInfo("tensor", shape, tensor.dtype, tensor.scale, tensor.zero_point)

    def resize(self, shape: tuple[int, ...]) -> None:
        type(self).on_resize()
        info = self.inputs[0]
        self.inputs = (TensorInfo(info.name, shape, info.dtype, info.scale, info.zero_point),)
        self._warm = False

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        assert not self._closed
        if self._warm:  # the first one only warms up
            number, type(self).runs = type(self).runs, type(self).runs + 1
            type(self).on_run(number)
        else:
            type(self).on_warm_up()
        self._warm = True
        _, height, width, _ = inputs[0].shape
        return [np.zeros((1, height, width, self.outputs[0].shape[-1]), np.int8)]

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            type(self).closed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hang_at(run: int, reached: threading.Event, go_on: threading.Event) -> Callable[[int], None]:
    """A `ScriptedEngine.on_run` that waits at one of the runs."""

    def on_run(number: int) -> None:
        if number == run:
            reached.set()
            go_on.wait()

    return on_run


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedEngine]:
    """The engine "scripted", with fresh counters."""

    class Engine(ScriptedEngine):
        pass

    monkeypatch.setattr("tests.support.scripted.CurrentEngine", Engine, raising=False)
    spec = plugins.Spec("tests.support.scripted:CurrentEngine")
    monkeypatch.setitem(plugins.BUILT_IN["engines"], "scripted", spec)
    return Engine


def resources() -> tuple[set[str], int, set[str]]:
    """Names of threads, the number of open descriptors, and shared-memory segments."""
    threads = {thread.name for thread in threading.enumerate()}
    shared = Path("/dev/shm")
    segments = set(os.listdir(shared)) if shared.is_dir() else set()
    return threads, len(os.listdir("/proc/self/fd")), segments
