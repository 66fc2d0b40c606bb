"""Weights from RAW to boxes, in PyTorch: students, and their teacher on the pictures that some method makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edge_isp.calibration.simulation import SensorModel
from edge_isp.evaluation.detector.methods import LOWEST_CONFIDENCE, MOST_DETECTIONS, SUPPRESSION_IOU, Detect
from edge_isp.evaluation.exposures import SimulatedExposure
from edge_isp.evaluation.isp.methods import Rgb
from edge_isp.evaluation.store import Method
from edge_isp.kernels.reference import suppress
from edge_isp.kernels.resample import letterbox
from edge_isp.tasks.encoding import upright_window
from edge_isp.training.detector.data import encode, picture
from edge_isp.training.detector.labels import Boxes
from edge_isp.training.networks.yolox import Decoded, Level, YoloxNano, decode, picture_planes
from edge_isp.training.simulation.samples import Capture


def student_method(
    name: str, made_with: str, run: Callable[[Tensor], Sequence[Level]], size: int = 416
) -> Method[Boxes]:
    """A network on RAW, in PyTorch.

    Args:
        name: of the method.
        made_with: the weights' SHA-256.
        run: (1, 4, size / 2, size / 2) to the logits of its levels.
        size: of its input in pixels.
    """

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Detect]:
        def detect(exposure: SimulatedExposure) -> Boxes:
            profile, frame = sensor.profile, exposure.frame()
            gains = profile.normalised_gains(exposure.capture.colour_temperature_k)
            window = upright_window(frame.format)
            row, column = window.first_row, window.first_column
            height, width = (2 * n for n in window.cells)
            codes = np.ascontiguousarray(exposure.codes[row : row + height, column : column + width])
            with torch.inference_mode():
                planes = torch.from_numpy(encode(codes, profile, gains, size))
                found = boxes_of(decode(run(planes[None])), codes.shape, size)
            return replace(found, xyxy=found.xyxy + np.array([column, row, column, row]))

        yield detect

    return Method(name, lambda sensor, capture: made_with, opened)


def clean_method(teacher: YoloxNano, made_with: str, size: int = 416) -> Method[Boxes]:
    """The teacher on the image itself.

    Args:
        teacher: reads pictures.
        made_with: its weights' SHA-256.
        size: of its input in pixels.
    """

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Detect]:
        yield lambda exposure: _detect_on(teacher, exposure.photo, size)

    return Method("teacher on the clean picture", lambda sensor, capture: made_with, opened)


def picture_method(method: Method[Rgb], teacher: YoloxNano, made_with: str, size: int = 416) -> Method[Boxes]:
    """The teacher on a picture that some method makes of the RAW.

    Args:
        method: makes the pictures.
        teacher: reads them.
        made_with: its weights' SHA-256.
        size: of its input in pixels.
    """

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Detect]:
        with method.open(sensor) as develop:
            yield lambda exposure: _detect_on(teacher, develop(exposure), size)

    def decided_by(sensor: SensorModel, capture: Capture) -> str:
        return f"{made_with} {method.made_with(sensor, capture)}"

    return Method(f"{method.name}, then the teacher", decided_by, opened)


def _detect_on(teacher: YoloxNano, rgb: Rgb, size: int) -> Boxes:
    with torch.inference_mode():
        planes = picture_planes(torch.from_numpy(picture(rgb, size))[None])
        return boxes_of(decode(teacher(planes)), rgb.shape[:2], size)


def boxes_of(decoded: Decoded, shape: tuple[int, ...], size: int) -> Boxes:
    """What a network sees, duplicates suppressed, in the pixels of an image.

    Args:
        decoded: of one image.
        shape: of the image: height, width.
        size: of the network's input in pixels.
    """
    best, class_id = decoded.classes[0].max(1)
    confidence = (best * decoded.objectness[0]).numpy()
    seen = confidence >= LOWEST_CONFIDENCE
    xyxy, confidence, class_ids = decoded.boxes[0].numpy()[seen], confidence[seen], class_id.numpy()[seen]
    kept = suppress(
        xyxy,
        confidence,
        class_ids.astype(np.int32),
        iou_threshold=SUPPRESSION_IOU,
        max_detections=MOST_DETECTIONS,
    )
    top, left, height, width = (2 * n for n in letterbox((shape[0] // 2, shape[1] // 2), (size // 2, size // 2)))
    scale = np.array([shape[1] / width, shape[0] / height] * 2)
    inside = (xyxy[kept].astype(np.float64) - (left, top, left, top)) * scale
    within = np.clip(inside, 0, [shape[1], shape[0]] * 2)
    return Boxes(within, class_ids[kept].astype(np.int64), confidence[kept].astype(np.float64))
