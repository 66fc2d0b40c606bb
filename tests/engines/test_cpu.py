"""The engine on the CPU: from XNNPACK to the runtime's own kernels, and not further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.engines.base import DescribedEngine, EngineReport, TensorInfo, default_threads
from edge_isp.engines.cpu import CpuEngine
from edge_isp.engines.launch import Launcher
from edge_isp.errors import EngineError

SMALL, LARGE = (1, 2, 2, 4), (1, 4, 4, 4)


class Scripted(DescribedEngine):
    """Fails where the test says so.

    Args:
        fails: what fails with XNNPACK and without it: "load", "resize", "run" or nothing.
        xnnpack: as the engine of LiteRT takes it.
    """

    def __init__(self, fails: dict[bool, set[str]], xnnpack: bool) -> None:
        self.name, self.fails, self.closed = "XNNPACK" if xnnpack else "none", fails[xnnpack], False
        self._fail("load")
        self._shape(SMALL)
        self._report = EngineReport("scripted", self.name, 1)

    def resize(self, shape: tuple[int, ...]) -> None:
        self._fail("resize")
        self._shape(shape)

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        self._fail("run")
        return inputs

    def close(self) -> None:
        self.closed = True

    def _shape(self, shape: tuple[int, ...]) -> None:
        self._inputs = self._outputs = (TensorInfo("tensor", shape, "int8", 1.0, 0),)

    def _fail(self, what: str) -> None:
        if what in self.fails:
            raise EngineError(f"{self.name} cannot {what}")


class Scene:
    """An engine on the CPU over scripted ones.

    Attributes:
        opened: the scripted engines, in the order in which they were opened.
        events: what the engine on the CPU has notified of.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails: dict[bool, set[str]] = {True: set(), False: set()}
        self.opened: list[Scripted] = []
        self.events: list[tuple[str, str, str]] = []
        monkeypatch.setattr(Launcher, "open", self._open)

    def _open(
        self,
        name: str,
        path: Path,
        *,
        xnnpack: bool = True,
        time_limit_s: float | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Scripted:
        engine = Scripted(self.fails, xnnpack)
        self.opened.append(engine)
        return engine

    def engine(self, name: str = "litert") -> CpuEngine:
        return CpuEngine(Path("model.tflite"), name, Launcher(1, None), lambda *event: self.events.append(event))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


FRAME = [np.zeros(SMALL, np.int8)]


def test_a_model_that_xnnpack_cannot_load(scene: Scene) -> None:
    scene.fails[True] = {"load"}
    assert scene.engine().report.delegate == "none"
    assert scene.events == [("refused", "XNNPACK", "XNNPACK cannot load")]


def test_a_size_that_xnnpack_refuses(scene: Scene) -> None:
    scene.fails[True] = {"resize"}
    engine = scene.engine()
    engine.resize(LARGE)
    assert (engine.report.delegate, engine.inputs[0].shape) == ("none", LARGE)
    assert [one.closed for one in scene.opened] == [True, False]
    assert scene.events == [("refused", "XNNPACK", "XNNPACK cannot resize")]


def test_a_size_that_both_refuse_leaves_the_engine_as_it_was(scene: Scene) -> None:
    scene.fails = {True: {"resize"}, False: {"resize"}}
    engine = scene.engine()
    with pytest.raises(EngineError, match="XNNPACK cannot resize"):
        engine.resize(LARGE)
    assert (engine.report.delegate, engine.inputs[0].shape, scene.events) == ("XNNPACK", SMALL, [])
    assert [one.closed for one in scene.opened] == [False, True]
    assert engine.run(FRAME) == FRAME


def test_xnnpack_fails_while_frames_stream(scene: Scene) -> None:
    engine = scene.engine()
    engine.resize(LARGE)
    scene.fails[True].add("run")
    assert engine.run(FRAME) == FRAME
    assert (engine.report.delegate, engine.inputs[0].shape) == ("none", LARGE)
    assert scene.events == [("dropped", "XNNPACK", "XNNPACK cannot run")]
    assert [one.closed for one in scene.opened] == [True, False]


@pytest.mark.parametrize("then", ["load", "resize", "run"])
def test_where_both_fail_every_frame_is_the_same_clear_error(then: str, scene: Scene) -> None:
    engine = scene.engine()
    scene.fails = {True: {"run"}, False: {then}}
    scene.opened[0].fails = {"run"}
    messages = []
    for _ in range(3):
        with pytest.raises(EngineError) as raised:
            engine.run(FRAME)
        messages.append(str(raised.value))
    assert messages[0] == f"none cannot {then}"
    assert set(messages[1:]) <= {messages[0], "XNNPACK cannot run"}
    engine.close()
    assert all(one.closed for one in scene.opened)


def test_other_runtimes_have_one_kind_of_kernels(scene: Scene) -> None:
    scene.fails[True] = {"load"}
    with pytest.raises(EngineError, match="XNNPACK cannot load"):
        scene.engine("onnxruntime")
    assert scene.events == []


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 3)])
def test_a_core_is_left_to_the_pipeline(monkeypatch: pytest.MonkeyPatch, cores: int, threads: int) -> None:
    """Of the cores that this process may use, which taskset and containers limit."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    assert default_threads(None) == threads
    assert default_threads(7) == 7
