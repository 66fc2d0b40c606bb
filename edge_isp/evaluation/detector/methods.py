"""A detector from RAW to boxes, as it runs on the board. Does without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from edge_isp.calibration.simulation import SensorModel
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.evaluation.exposures import SimulatedExposure
from edge_isp.evaluation.store import SHA256_DIGITS, Method
from edge_isp.models.card import find_model
from edge_isp.tasks.detect import DetectTask
from edge_isp.training.detector.labels import Boxes

# As YOLOX is evaluated: nearly everything that it sees, its duplicates suppressed.
LOWEST_CONFIDENCE, SUPPRESSION_IOU, MOST_DETECTIONS = 0.01, 0.65, 100

Detect = Callable[[SimulatedExposure], Boxes]


def model_method(model: str, size: int = 416) -> Method[Boxes]:
    """A detector through the kernels and the engine that run on the board.

    Args:
        model: its name or path, see `models.card.find_model`.
        size: of its input in pixels.

    Raises:
        ModelError: there is no such model, or it is not what its card says.
    """
    card = find_model(model, None)
    card.verify_file()

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Detect]:
        task = DetectTask(
            card,
            input_size=size,
            confidence=LOWEST_CONFIDENCE,
            iou_threshold=SUPPRESSION_IOU,
            max_detections=MOST_DETECTIONS,
        )
        with LiteRtEngine(card.path) as engine:
            task.verify(engine.inputs, engine.outputs)

            def detect(exposure: SimulatedExposure) -> Boxes:
                frame = exposure.frame()
                tensor = np.empty(task.input_shape(frame.format), np.int8)
                engine.resize(tensor.shape)
                task.encode(frame, tensor)
                found = task.decode(engine.run([tensor]), frame, tensor)
                return Boxes(
                    found.xyxy.astype(np.float64), found.class_id.astype(np.int64), found.confidence.astype(np.float64)
                )

            yield detect

    return Method(f"{card.name}, int8", lambda sensor, capture: card.sha256[:SHA256_DIGITS], opened)
