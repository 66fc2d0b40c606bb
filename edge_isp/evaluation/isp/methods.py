"""A model from RAW to a picture, as it runs on the board. Does without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.simulation import SensorModel
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.evaluation.exposures import SimulatedExposure
from edge_isp.evaluation.store import SHA256_DIGITS, Method
from edge_isp.models.card import find_model
from edge_isp.tasks.isp import IspTask
from edge_isp.training.simulation.samples import Capture

# uint8 (height, width, 3), sRGB.
Rgb = NDArray[np.uint8]
Develop = Callable[[SimulatedExposure], Rgb]


def model_method(model: str) -> Method[Rgb]:
    """A model through the kernels and the engine that run on the board.

    Args:
        model: its name or path, see `models.card.find_model`.
    """

    def made_with(sensor: SensorModel, capture: Capture) -> str:
        card = find_model(model, sensor.profile.name)
        return f"{card.name} {card.sha256[:SHA256_DIGITS]}"

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Develop]:
        card = find_model(model, sensor.profile.name)
        card.verify_file()
        # Pictures are compared with the photograph that was exposed: sRGB.
        task = IspTask(card, profile=sensor.profile, tone="srgb")
        with LiteRtEngine(card.path) as engine:
            task.verify(engine.inputs, engine.outputs)

            def develop(exposure: SimulatedExposure) -> Rgb:
                frame = exposure.frame()
                tensor = np.empty(task.input_shape(frame.format), np.int8)
                engine.resize(tensor.shape)
                task.encode(frame, tensor)
                return task.decode(engine.run([tensor]), frame, tensor).rgb

            yield develop

    name = Path(model).stem if model.endswith((".tflite", ".toml")) else model
    return Method(f"{name}, int8", made_with, opened)
