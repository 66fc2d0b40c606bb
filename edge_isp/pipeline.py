"""The loop: frames from a camera, through a model, to results, with the time that each stage took."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import SensorProfile
from edge_isp.cameras.base import Camera
from edge_isp.engines.base import Engine, EngineReport
from edge_isp.errors import ModelError
from edge_isp.exposure import AutoExposure
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.kernels.warmup import compile_pipeline_kernels
from edge_isp.models.card import ModelCard, find_model
from edge_isp.plugins import load
from edge_isp.results import Detections, Picture
from edge_isp.tasks.base import Task, task_for

_log = logging.getLogger(__name__)

_ENGINES = {".tflite": "litert", ".onnx": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of one frame.

    Attributes:
        result: a picture, or what a detector found.
        stages_ns: nanoseconds spent in "read" (waiting for the camera included), "meter" (with auto-exposure only),
            "encode", "infer" and "decode", in this order.
        status: of the frame, see `FrameStatus`.
        model: name of the model that made it.
    """

    result: Picture | Detections
    stages_ns: dict[str, int]
    status: FrameStatus
    model: str

    @property
    def picture(self) -> Picture:
        """The result of a model that makes pictures.

        Raises:
            TypeError: it is a detector.
        """
        if not isinstance(self.result, Picture):
            raise TypeError(f"{self.model} makes no pictures, it detects: see `detections`")
        return self.result

    @property
    def detections(self) -> Detections:
        """The result of a detector.

        Raises:
            TypeError: it is a model that makes pictures.
        """
        if not isinstance(self.result, Detections):
            raise TypeError(f"{self.model} detects nothing, it makes pictures: see `picture`")
        return self.result


@dataclass(slots=True)
class _Prepared:
    """A model made ready for frames of one sensor and format."""

    card: ModelCard
    task: Task
    engine: Engine
    tensor: NDArray[np.int8]


class Pipeline:
    """Iterates over a camera's frames and yields what a model makes of each; a context manager.

    The kernels are compiled, or loaded from their cache, when the pipeline opens. The model is loaded when the first
    frame of a sensor and size arrives; that counts in no stage.

    Args:
        camera: closed together with the pipeline.
        model: see `find_model`.
        engine: name of the engine; by default the one for the model's file (LiteRT for `.tflite`, ONNX Runtime for
            `.onnx`).
        threads: of the engine; by default one a core.
        profile: of the sensor; by default the shipped one of the frames' sensor.
        correct_shading: undo the lens shading that the profile knows; frames must show the whole sensor.
        make_task: makes the task for a model's card, such as `lambda card: DetectTask(card, input_size=320)`; by
            default the card's own, with profile and lens shading as given here (see `tasks.base.task_for`).
        auto_exposure: sets the camera's exposure and gain, and the white balance of frames that have none.

    Raises:
        CameraError: auto-exposure is asked of a camera that has nothing to set, when its first frame arrives.
        ModelError: there is no such model, or it is not what its card says.
        PluginError: there is no such engine.
    """

    def __init__(
        self,
        camera: Camera,
        *,
        model: str = "rfdcsanet-s",
        engine: str | None = None,
        threads: int | None = None,
        profile: SensorProfile | None = None,
        correct_shading: bool = False,
        make_task: Callable[[ModelCard], Task] | None = None,
        auto_exposure: AutoExposure | None = None,
    ) -> None:
        self.camera = camera
        self._auto_exposure = auto_exposure
        self._model, self._threads = model, threads
        self._make_task = make_task or partial(task_for, profile=profile, correct_shading=correct_shading)
        # A wrong name is an error before the first frame.
        card = find_model(model, None)
        card.verify_file()
        self._engine_class = load("engines", engine or _engine_for(card))
        self._make_task(card)
        compile_pipeline_kernels(card.task)
        self._cards: dict[str | None, ModelCard] = {}  # by sensor
        self._prepared: _Prepared | None = None

    @property
    def report(self) -> EngineReport | None:
        """What runs the model; None before the first frame."""
        return self._prepared.engine.report if self._prepared else None

    def __iter__(self) -> Iterator[Processed]:
        while True:
            started = time.perf_counter_ns()
            frame = self.camera.read()
            read_ns = time.perf_counter_ns() - started
            if frame is None:
                return
            with frame:
                before_ns = {"read": read_ns}
                if self._auto_exposure is not None:
                    started = time.perf_counter_ns()
                    frame = self._auto_exposure.adjust(frame, self.camera)
                    before_ns["meter"] = time.perf_counter_ns() - started
                prepared = self._prepare(frame)
                done = self._process(frame, prepared, before_ns)
            yield done

    def close(self) -> None:
        """Closes the engine and the camera. Doing so twice does no harm."""
        self._close_engine()
        self.camera.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, frame: RawFrame) -> _Prepared:
        card = self._card_for(frame)
        prepared = self._prepared
        if prepared is None or prepared.card.path != card.path:
            self._close_engine()
            prepared = self._prepared = self._open(card)
        shape = prepared.task.input_shape(frame.format)
        if prepared.tensor.shape != shape:
            prepared.engine.resize(shape)
            prepared.tensor = np.zeros(shape, np.int8)
            self._process(frame, prepared, {})  # warms up
        return prepared

    def _card_for(self, frame: RawFrame) -> ModelCard:
        """The card of the model for the frame's sensor; says so where the sensor has none of its own."""
        if frame.sensor not in self._cards:
            card = self._cards[frame.sensor] = find_model(self._model, frame.sensor)
            if card.sensor != frame.sensor:
                _log.warning(
                    "%s: sensor %s has no weights of its own; it runs on %s%s",
                    frame.source,
                    f"'{frame.sensor}'" if frame.sensor else "is not named and",
                    card.name,
                    f", trained on {card.sensor}: colours will be off" if card.colour == "end-to-end" else "",
                )
        return self._cards[frame.sensor]

    def _open(self, card: ModelCard) -> _Prepared:
        card.verify_file()
        task = self._make_task(card)
        engine: Engine = self._engine_class(card.path, threads=self._threads)
        try:
            task.verify(engine.inputs, engine.outputs)
        except ModelError:
            engine.close()
            raise
        return _Prepared(card, task, engine, np.empty((0,), np.int8))

    def _close_engine(self) -> None:
        if self._prepared is not None:
            self._prepared.engine.close()
            self._prepared = None

    @staticmethod
    def _process(frame: RawFrame, prepared: _Prepared, before_ns: dict[str, int]) -> Processed:
        begun = time.perf_counter_ns()
        prepared.task.encode(frame, prepared.tensor)
        encoded = time.perf_counter_ns()
        outputs: list[NDArray[Any]] = prepared.engine.run([prepared.tensor])
        inferred = time.perf_counter_ns()
        result = prepared.task.decode(outputs, frame, prepared.tensor)
        stages_ns = {
            **before_ns,
            "encode": encoded - begun,
            "infer": inferred - encoded,
            "decode": time.perf_counter_ns() - inferred,
        }
        return Processed(result, stages_ns, frame.status, prepared.card.name)


def _engine_for(card: ModelCard) -> str:
    """Name of the engine that runs a model's file."""
    suffix = card.path.suffix
    if suffix not in _ENGINES:
        raise ModelError(
            f"{card.path}: no engine is known for '{suffix}', only for {', '.join(_ENGINES)}; name the one to use"
        )
    return _ENGINES[suffix]
