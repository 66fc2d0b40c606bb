"""A model as it is used for the frames that come: its card, its task and its engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import Engine, EngineEvent, EngineReport
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.engines.parity import ParityLimits
from edge_isp.engines.tiled import TiledEngine
from edge_isp.errors import EdgeIspError, EngineError, ModelError
from edge_isp.frame import RawFrame
from edge_isp.models.card import ModelCard, find_model
from edge_isp.pipeline.options import ModelOptions
from edge_isp.pipeline.tiling import Tiling
from edge_isp.plugins import load
from edge_isp.tasks.detect import DetectTask
from edge_isp.tasks.isp import IspTask
from edge_isp.tasks.protocol import Task

_log = logging.getLogger(__name__)

_ENGINES = {".tflite": "litert", ".onnx": "onnxruntime"}


class Model:
    """Finds the card of a model for each frame's sensor, and makes its task.

    Args:
        options: name the model, and say what its task does.

    Attributes:
        name: of the model.
        profile: of the sensor, where it was given.
        card: the model's for an unknown sensor.

    Raises:
        ModelError: there is no such model, or it is not what its card says.
    """

    def __init__(self, options: ModelOptions) -> None:
        self.name, self.profile = options.model, options.profile
        self._options = options
        # A wrong name or task is an error before the first frame.
        self.card = find_model(self.name, None)
        self.card.verify_file()
        options.task(self.card)
        Tiling(self.card, tile=options.tile, budget_bytes=options.memory_budget_bytes)
        self._cards: dict[str | None, ModelCard] = {}  # by sensor
        self._tasks: dict[str, Task] = {}  # by the card's name
        self._lock = threading.Lock()  # of options and tasks

    def prepare(self, frame: RawFrame) -> tuple[ModelCard, Task]:
        """The card and the task for a frame.

        Args:
            frame: whose sensor decides.
        """
        card = self._card_for(frame)
        if card.name not in self._tasks:
            card.verify_file()
            with self._lock:
                self._tasks[card.name] = self._options.task(card)
        return card, self._tasks[card.name]

    def set_tone(self, tone: str) -> None:
        """See `Pipeline.set_tone`."""
        with self._lock:
            self._options = replace(self._options, tone=tone)
            for task in self._tasks.values():
                if isinstance(task, IspTask):
                    task.tone = tone

    def _card_for(self, frame: RawFrame) -> ModelCard:
        """The card of the model for the frame's sensor."""
        if frame.sensor not in self._cards:
            card = self._cards[frame.sensor] = find_model(self.name, frame.sensor)
            if card.sensor != frame.sensor and card.colour == "end-to-end":
                _log.warning(
                    "%s: %s was trained on sensor %s, not on %s: colours will be off",
                    frame.source,
                    card.name,
                    card.sensor,
                    f"'{frame.sensor}'" if frame.sensor else "the frames' sensor, which is not named",
                )
            elif card.sensor != frame.sensor:
                _log.info("%s: sensor '%s' uses the weights of %s", frame.source, frame.sensor or "", card.name)
        return self._cards[frame.sensor]


class Runner:
    """The engine that runs a model's card; opened, resized and run in one thread.

    Args:
        model: whose card says which engine its file takes.
        options: engine, threads and delegation.
        on_event: see `FallbackEngine`.

    Attributes:
        live: whether frames come at their own pace, see `FallbackEngine`; for models that are loaded from now on.
        card: of the model that was loaded last; None before the first frame.
        shape: of the input tensor that the engine is ready for; () before the first frame.

    Raises:
        ModelError: no engine is known for the model's file.
        PluginError: there is no such engine.
    """

    def __init__(
        self, model: Model, options: ModelOptions, on_event: Callable[[EngineEvent], object] | None = None
    ) -> None:
        self.live, self._on_event = False, on_event
        self._engine_name = options.engine or _engine_for(model.card)
        self._delegation = options.delegation or Delegation()
        if self._delegation.python is None:
            load("engines", self._engine_name)
        self._threads = options.threads
        self._tile, self._memory_budget_bytes = options.tile, options.memory_budget_bytes
        self._engine: Engine | None = None
        self._fallback: FallbackEngine | None = None  # within it
        self.card: ModelCard | None = None
        self.shape: tuple[int, ...] = ()

    @property
    def report(self) -> EngineReport | None:
        """What runs the model; None before the first frame."""
        return self._engine.report if self._engine else None

    @property
    def delegate(self) -> str:
        """What ran the last frame; "" before the first."""
        return self._engine.report.delegate if self._engine else ""

    def prepare(self, card: ModelCard, task: Task, shape: tuple[int, ...], *, warm_up: bool = True) -> None:
        """Loads a model for inputs of a shape and warms it up; does nothing if that is already done.

        Args:
            card: the model's.
            task: verifies the loaded model.
            shape: of the input tensor.
            warm_up: whether to run one inference, the result of which is not used.

        Raises:
            ModelError: it is not what its card says.
            EngineError: it cannot be loaded, resized or warmed up; the next call tries again.
        """
        with _engine_errors(card.path):
            self._prepare(card, task, shape, warm_up)

    def _prepare(self, card: ModelCard, task: Task, shape: tuple[int, ...], warm_up: bool) -> None:
        if self._engine is None or self.card is not card:
            self.close()
            tiling = Tiling(card, tile=self._tile, budget_bytes=self._memory_budget_bytes)
            engine = FallbackEngine(
                card.path,
                engine=self._engine_name,
                threads=self._threads,
                delegation=self._delegation,
                limits=ParityLimits(card.agreement.rms_lsb, card.agreement.mean_lsb),
                same_results=task.compare_results if isinstance(task, DetectTask) else None,
                radius=card.receptive_field_radius,
                multiple=card.input_multiple,
                live=self.live,
                on_event=self._on_event,
                variant=card.find_variant,
                sha256=card.checksums,
            )
            try:
                task.verify(engine.inputs, engine.outputs)
            except BaseException:
                engine.close()
                raise
            tiled = TiledEngine(
                engine,
                path=card.path,
                radius=card.receptive_field_radius or 0,
                multiple=card.input_multiple,
                tile_for=tiling.choose,
            )
            self._engine, self._fallback, self.card, self.shape = tiled, engine, card, ()
        if self.shape != shape:
            self.shape = ()  # until it is ready
            self._engine.resize(shape)
            if warm_up:
                self._engine.run([np.zeros(shape, self._engine.inputs[0].dtype)])
            self.shape = shape

    def run(self, tensor: NDArray[Any]) -> list[NDArray[Any]]:
        """One inference; see `Engine.run`.

        Args:
            tensor: of `shape` and the card's dtype.

        Raises:
            EngineError: the runtime fails, or the machine has no memory or descriptors left for it.
        """
        assert self._engine is not None
        assert self.card is not None
        with _engine_errors(self.card.path):
            return self._engine.run([tensor])

    def settle(self) -> None:
        """Waits until the NPUs have been tried; see `FallbackEngine.settle`. May be called from any thread."""
        if self._fallback is not None:
            self._fallback.settle()

    def close(self) -> None:
        """Closes the engine. Idempotent."""
        engine, self._engine, self._fallback = self._engine, None, None
        if engine is not None:
            engine.close()


@contextmanager
def _engine_errors(path: Path) -> Iterator[None]:
    """What a runtime or a driver raises, or a machine without memory, descriptors or processes left, is an error of the
    engine: it may be over with the next frame."""
    try:
        yield
    except EdgeIspError:
        raise
    except Exception as error:
        raise EngineError(f"{path}: {type(error).__name__}: {str(error) or 'no message'}") from error


def _engine_for(card: ModelCard) -> str:
    """Name of the engine that runs a model's file."""
    suffix = card.path.suffix
    if suffix not in _ENGINES:
        raise ModelError(
            f"{card.path}: no engine is known for '{suffix}', only for {', '.join(_ENGINES)}: name the engine to use"
        )
    return _ENGINES[suffix]
