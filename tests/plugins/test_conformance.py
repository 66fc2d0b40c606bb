"""The conformance checks of engines and delegates find what is deliberately wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.engines import delegates
from edge_isp.engines.base import DescribedEngine, EngineReport, TensorInfo, check_inputs
from edge_isp.engines.delegates import DelegateSpec
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.process import ProcessEngine
from edge_isp.errors import EngineError
from edge_isp.models.card import find_model
from edge_isp.testing import check_delegate, check_engine

MODEL = find_model("rfdcsanet-s", None).path
SMALLER = (1, 12, 16, 20)


@pytest.mark.parametrize(
    "open_engine",
    [lambda: LiteRtEngine(MODEL, threads=1), lambda: ProcessEngine(MODEL, engine="litert", threads=1)],
    ids=["litert", "process"],
)
def test_our_engines_conform(open_engine: Callable[[], Any]) -> None:
    check_engine(open_engine, resized=SMALLER)


class Doubling(DescribedEngine):
    """An engine without fault: it doubles what it gets."""

    path = MODEL

    def __init__(self) -> None:
        self.closed = False
        self._set((1, 4, 4, 2))

    def _set(self, shape: tuple[int, ...]) -> None:
        self._inputs = (TensorInfo("in", shape, "int8", 0.1, 0),)
        self._outputs = (TensorInfo("out", shape, "int16", 0.1, 0),)
        self._report = EngineReport("doubling 1.0", "none", 1)

    def resize(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4 or min(shape) < 1:
            raise EngineError("no such size")
        self._set(shape)

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        if self.closed:
            raise EngineError("closed")
        check_inputs(self.path, inputs, self._inputs)
        return self.infer(inputs)

    def infer(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        return [2 * inputs[0].astype(np.int16)]

    def close(self) -> None:
        self.closed = True


class WritesItsInput(Doubling):
    def infer(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        outputs = super().infer(inputs)
        inputs[0][...] = 0
        return outputs


class KeepsItsOutput(Doubling):
    buffer = np.zeros((1, 4, 4, 2), np.int16)

    def infer(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        self.buffer[...] = 2 * inputs[0].astype(np.int16)
        return [self.buffer]


class Frozen(Doubling):
    def infer(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        return [np.zeros(inputs[0].shape, np.int16)]


class Random(Doubling):
    rng = np.random.default_rng(0)

    def infer(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        return [self.rng.integers(0, 9, inputs[0].shape).astype(np.int16)]


class WrongDtype(Doubling):
    def infer(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        return [2 * inputs[0]]


class TakesAnything(Doubling):
    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        return self.infer(inputs or [np.zeros((1, 4, 4, 2), np.int8)])


class ForeignError(Doubling):
    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        if [array.shape for array in inputs] != [info.shape for info in self._inputs]:
            raise ValueError("dimension mismatch")
        return super().run(inputs)


class AnySize(Doubling):
    def resize(self, shape: tuple[int, ...]) -> None:
        self._set(shape)


class SizeStays(Doubling):
    def resize(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4 or min(shape) < 1:
            raise EngineError("no such size")


class RunsWhenClosed(Doubling):
    def close(self) -> None:
        pass


class CannotCloseTwice(Doubling):
    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


class NoScale(Doubling):
    def _set(self, shape: tuple[int, ...]) -> None:
        super()._set(shape)
        self._inputs = (replace(self._inputs[0], scale=0.0),)


class Nameless(Doubling):
    def _set(self, shape: tuple[int, ...]) -> None:
        super()._set(shape)
        self._report = EngineReport("", "none", 1)


def test_an_engine_without_fault_passes() -> None:
    check_engine(Doubling, resized=(1, 6, 8, 2))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (WritesItsInput, "wrote to its input"),
        (KeepsItsOutput, "outputs must belong to the caller"),
        (Frozen, "two different inputs gave the same outputs"),
        (Random, "the same input gave different outputs"),
        (WrongDtype, "output 'out' must be int16"),
        (TakesAnything, "must raise EngineError, but nothing was raised"),
        (ForeignError, "must raise EngineError, found ValueError"),
        (AnySize, r"resize to \(\) must raise EngineError"),
        (SizeStays, r"inputs\[0\].shape must be"),
        (RunsWhenClosed, "run after close must raise EngineError"),
        (NoScale, "scale of 'in'"),
        (Nameless, "report.engine must name"),
    ],
)
def test_broken_engines_are_found(broken: type[Doubling], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_engine(broken, resized=(1, 6, 8, 2))


def test_an_engine_that_cannot_be_closed_twice_is_found() -> None:
    with pytest.raises(RuntimeError, match="closed already"):
        check_engine(CannotCloseTwice)


GOOD = DelegateSpec("tests-npu", "An NPU of the tests", "litert", {"*": "tflite"}, libraries=("libnothing.so",))


def test_a_good_specification_passes_without_its_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, GOOD)
    assert check_delegate(GOOD) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"name": "My NPU"}, "must be lower case"),
        ({"name": "my npu"}, "must not have spaces"),
        ({"name": "auto"}, "has a meaning of its own"),
        ({"title": ""}, "title must name the hardware"),
        ({"engine": "litter"}, "engine must be one of"),
        ({"models": {}}, "models must say"),
        ({"models": {"*": ""}}, "must not have empty entries"),
        ({"libraries": ()}, "must say how the delegate is found"),
    ],
)
def test_incomplete_specifications_are_found(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(GOOD, **changes)
    announce(monkeypatch, broken)
    with pytest.raises(AssertionError, match=message):
        check_delegate(broken)


def test_a_delegate_without_an_entry_point_is_found() -> None:
    with pytest.raises(AssertionError, match="needs an entry point in the group edge_isp.delegates"):
        check_delegate(GOOD)


def announce(monkeypatch: pytest.MonkeyPatch, spec: DelegateSpec) -> None:
    """Makes a specification known as another package's entry point does."""
    entry = EntryPoint("npu", "tests.plugins.test_conformance:ANNOUNCED", "edge_isp.delegates")
    monkeypatch.setattr("tests.plugins.test_conformance.ANNOUNCED", spec)
    monkeypatch.setattr(delegates, "entry_points", lambda group: [entry] if group == "edge_isp.delegates" else [])


ANNOUNCED: DelegateSpec | None = None
