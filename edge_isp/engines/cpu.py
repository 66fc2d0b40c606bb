"""A model on the CPU: the reference that delegates are compared with, and the last candidate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_isp.engines.base import ClosingEngine, Engine, EngineReport, TensorInfo
from edge_isp.engines.launch import Launcher
from edge_isp.engines.process import ProcessEngine
from edge_isp.errors import EngineError

# The engines that run TensorFlow Lite's interpreter, which has kernels of its own beside XNNPACK's.
TFLITE_ENGINES = ("litert", "tflite-runtime")
_LOAD_A_SIZE = (*TFLITE_ENGINES, "onnxruntime")


class CpuEngine(ClosingEngine):
    """An engine without a delegate; where XNNPACK fails, the runtime's own kernels take over.

    Args:
        path: of the model's file.
        engine: the name of the engine.
        launcher: opens it.
        time_limit_s: seconds for one inference, in a process of its own; None for no limit.
        shape: of the first input; None for the file's.
        notify: is called with the kind of an event ("refused" or "dropped"), the executor that failed, and the reason.

    Raises:
        EngineError: the engine cannot run the model.
        PluginError: there is no such engine.
    """

    def __init__(
        self,
        path: Path,
        engine: str,
        launcher: Launcher,
        notify: Callable[[str, str, str], None],
        *,
        time_limit_s: float | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self._time_limit_s = time_limit_s
        self._path, self._name, self._launcher, self._notify = path, engine, launcher, notify
        # What is left to try, the best first; the first entry is what runs.
        self._settings: list[dict[str, Any]] = [{}, {"xnnpack": False}] if engine in TFLITE_ENGINES else [{}]
        self._engine = self._open(shape)

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
        """See `Engine.run`. A process that has ended is started again, once for each frame."""
        restarted = False
        while True:
            try:
                return self._engine.run(inputs)
            except EngineError as error:
                has_ended = isinstance(self._engine, ProcessEngine) and self._engine.has_ended
                if len(self._settings) == 1 and (restarted or not has_ended):
                    raise
                self._notify("dropped", self.report.delegate, str(error))
                if len(self._settings) > 1:
                    self._settings.pop(0)
                else:
                    restarted = True
                failed, self._engine = self._engine, self._open(self.inputs[0].shape)
                failed.close()

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()

    def _open(self, shape: tuple[int, ...] | None) -> Engine:
        """The engine with the first settings that work; those before them are forgotten."""
        first_error: EngineError | None = None
        while True:
            engine: Engine | None = None
            try:
                # Where a runtime can, it is loaded for the size at once, rather than for the file's first.
                at_once = {"shape": shape} if shape is not None and self._name in _LOAD_A_SIZE else {}
                engine = self._launch({**self._settings[0], **at_once})
                if shape is not None:
                    engine.resize(shape)
            except EngineError as error:
                if engine is not None:
                    engine.close()
                first_error = first_error or error
                if len(self._settings) == 1:
                    raise first_error from None
                self._settings.pop(0)
                continue
            if first_error is not None:
                self._notify("refused", "XNNPACK", str(first_error))
            return engine

    def _launch(self, settings: dict[str, Any]) -> Engine:
        return self._launcher.open(self._name, self._path, time_limit_s=self._time_limit_s, **settings)
