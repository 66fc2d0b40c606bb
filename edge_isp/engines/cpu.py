"""A model on the CPU: the reference that delegates are compared with, and the last candidate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_isp.engines.base import ClosingEngine, Engine, EngineReport, TensorInfo
from edge_isp.engines.launch import Launcher
from edge_isp.errors import EngineError

# The engines that run TensorFlow Lite's interpreter, which has kernels of its own beside XNNPACK's.
TFLITE_ENGINES = ("litert", "tflite-runtime")


class CpuEngine(ClosingEngine):
    """An engine without a delegate; where XNNPACK fails, the runtime's own kernels take over.

    Args:
        path: of the model's file.
        engine: the name of the engine.
        launcher: opens it.
        notify: is called with the kind of an event ("refused" or "dropped"), the executor that failed, and the reason.

    Raises:
        EngineError: the engine cannot run the model.
        PluginError: there is no such engine.
    """

    def __init__(self, path: Path, engine: str, launcher: Launcher, notify: Callable[[str, str, str], None]) -> None:
        self._path, self._name, self._launcher, self._notify = path, engine, launcher, notify
        # What is left to try, the best first; the first entry is what runs.
        self._settings: list[dict[str, Any]] = [{}, {"xnnpack": False}] if engine in TFLITE_ENGINES else [{}]
        self._engine = self._open(None)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """See `Engine.inputs`."""
        return self._engine.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """See `Engine.outputs`."""
        return self._engine.outputs

    @property
    def report(self) -> EngineReport:
        """See `Engine.report`."""
        return self._engine.report

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`. XNNPACK may refuse a size that the runtime's own kernels take."""
        try:
            self._engine.resize(shape)
        except EngineError as error:
            if len(self._settings) == 1:
                raise
            engine = self._launch(self._settings[1])
            try:
                engine.resize(shape)
            except EngineError:
                engine.close()
                raise error from None  # of the better one, which still stands
            self._engine.close()
            self._engine = engine
            self._settings.pop(0)
            self._notify("refused", "XNNPACK", str(error))

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        while True:
            try:
                return self._engine.run(inputs)
            except EngineError as error:
                if len(self._settings) == 1:
                    raise
                self._notify("dropped", self.report.delegate, str(error))
                self._settings.pop(0)
                shape = self.inputs[0].shape
                self._engine.close()
                self._engine = self._open(shape)

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()

    def _open(self, shape: tuple[int, ...] | None) -> Engine:
        """The engine with the first settings that work; those before them are forgotten."""
        failures: list[EngineError] = []
        while self._settings:
            try:
                engine = self._launch(self._settings[0])
                if shape is not None:
                    engine.resize(shape)
            except EngineError as error:
                failures.append(error)
                self._settings.pop(0)
                continue
            if failures:
                self._notify("refused", "XNNPACK", str(failures[0]))
            return engine
        raise failures[0]

    def _launch(self, settings: dict[str, Any]) -> Engine:
        return self._launcher.open(self._name, self._path, **settings)
