"""Detections of methods from RAW to boxes, on simulated RAW of labelled images; every detection is kept in a file.

A way is a network on RAW (in PyTorch, or a model as it runs on the board), or a teacher on somebody's picture of the
RAW. All see the same codes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from edge_isp.calibration.simulation import SensorModel
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.evaluation import exposures as evaluate_isp
from edge_isp.evaluation.exposures import SimulatedExposure, expose
from edge_isp.kernels.reference import suppress
from edge_isp.kernels.resample import letterbox
from edge_isp.models.card import find_model
from edge_isp.tasks.detect import DetectTask
from edge_isp.tasks.encoding import upright_window
from edge_isp.training.detector.data import encode, picture
from edge_isp.training.detector.labels import Boxes
from edge_isp.training.networks.yolox import Decoded, Level, YoloxNano, decode, picture_planes
from edge_isp.training.simulation import Capture, load_photo

# As YOLOX is evaluated: nearly everything that it sees, its duplicates suppressed.
LOWEST_CONFIDENCE, SUPPRESSION_IOU, MOST_DETECTIONS = 0.01, 0.65, 100

# Longest side of an exposure in pixels: of the largest input that is measured.
_SMALLEST_FRAME = 640

Detect = Callable[[SimulatedExposure], Boxes]


@dataclass(frozen=True, slots=True)
class DetectorMethod:
    """A way from RAW to boxes.

    Attributes:
        name: tells it from the others.
        made_with: what else decides its detections (the weights' SHA-256): where it has changed, they no longer hold.
        open: prepares it for a sensor; inside, exposures become boxes.
    """

    name: str
    made_with: str
    open: Callable[[SensorModel], AbstractContextManager[Detect]]


def student_method(
    name: str, made_with: str, run: Callable[[Tensor], Sequence[Level]], size: int = 416
) -> DetectorMethod:
    """A network on RAW, in PyTorch.

    Args:
        run: (1, 4, size / 2, size / 2) to the logits of its levels.
    """

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Detect]:
        def detect(shot: SimulatedExposure) -> Boxes:
            profile, frame = sensor.profile, shot.frame()
            gains = profile.normalised_gains(shot.capture.colour_temperature_k)
            window = upright_window(frame.format)
            codes = shot.codes[window.first_row :][: window.layout.height]
            codes = np.ascontiguousarray(codes[:, ::-1] if window.flip_horizontal else codes)
            with torch.inference_mode():
                planes = torch.from_numpy(encode(codes, profile, gains, size))
                found = boxes_of(decode(run(planes[None])), codes.shape, size)
            xyxy = found.xyxy + np.array([0, window.first_row, 0, window.first_row])
            if window.flip_horizontal:
                xyxy[:, [0, 2]] = codes.shape[1] - xyxy[:, [2, 0]]
            return replace(found, xyxy=xyxy)

        yield detect

    return DetectorMethod(name, made_with, opened)


def model_method(model: str, size: int = 416) -> DetectorMethod:
    """A detector through the kernels and the engine that run on the board; see `models.card.find_model` for its name.

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

            def detect(shot: SimulatedExposure) -> Boxes:
                frame = shot.frame()
                tensor = np.empty(task.input_shape(frame.format), np.int8)
                engine.resize(tensor.shape)
                task.encode(frame, tensor)
                found = task.decode(engine.run([tensor]), frame, tensor)
                return Boxes(
                    found.xyxy.astype(np.float64), found.class_id.astype(np.int64), found.confidence.astype(np.float64)
                )

            yield detect

    return DetectorMethod(f"{card.name}, int8", card.sha256[:12], opened)


def clean_method(teacher: YoloxNano, made_with: str, size: int = 416) -> DetectorMethod:
    """The teacher on the image itself."""

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Detect]:
        yield lambda shot: _detect_on(teacher, shot.photo, size)

    return DetectorMethod("teacher on the clean picture", made_with, opened)


def picture_method(way: evaluate_isp.Method, teacher: YoloxNano, made_with: str, size: int = 416) -> DetectorMethod:
    """The teacher on a picture that some way makes of the RAW."""

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Detect]:
        with way.open(sensor) as develop:
            yield lambda shot: _detect_on(teacher, develop(shot), size)

    return DetectorMethod(f"{way.name}, then the teacher", made_with, opened)


def _detect_on(teacher: YoloxNano, rgb: NDArray[np.uint8], size: int) -> Boxes:
    with torch.inference_mode():
        planes = picture_planes(torch.from_numpy(picture(rgb, size))[None])
        return boxes_of(decode(teacher(planes)), rgb.shape[:2], size)


def boxes_of(decoded: Decoded, shape: tuple[int, ...], size: int) -> Boxes:
    """What a network sees, duplicates suppressed, in the pixels of an image of `shape` (height, width)."""
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


# Method, sensor, colour temperature in kelvin, exposure, analogue gain, image.
Key = tuple[str, str, float, float, float, str]


class Store:
    """Detections in a file of JSON lines, found there again by the next run; the last line of a key holds.

    Args:
        path: of the file; None to keep them in memory alone.

    Raises:
        ValueError: the file is there and holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._entries: dict[Key, dict[str, Any]] = {}
        if path is not None and path.exists():
            try:
                for line in path.read_text(encoding="utf-8").splitlines():
                    self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}: expected detections that 'edge-isp evaluate detector' wrote, found something else "
                    f"({error!r}); remove it or name another file"
                ) from error

    def find(self, way: DetectorMethod, sensor: SensorModel, capture: Capture, image: str) -> Boxes | None:
        """What a way saw; None where that is not known or no longer holds."""
        entry = self._entries.get(_key(way, sensor, capture, image))
        if entry is None or entry["made_with"] != way.made_with:
            return None
        return Boxes(
            np.array(entry["xyxy"], np.float64).reshape(-1, 4),
            np.array(entry["class_id"], np.int64),
            np.array(entry["confidence"], np.float64),
        )

    def add(
        self, way: DetectorMethod, sensor: SensorModel, capture: Capture, image: str, found: Boxes, seconds: float
    ) -> None:
        """Takes detections in and writes them."""
        entry = {
            "key": _key(way, sensor, capture, image),
            "made_with": way.made_with,
            "seconds": round(seconds, 5),
            "class_id": found.class_id.tolist(),
            "confidence": np.round(found.confidence, 5).tolist(),
            "xyxy": np.round(found.xyxy, 2).tolist(),
        }
        self._take(entry)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def _take(self, entry: dict[str, Any]) -> None:
        way, sensor, temperature, exposure, gain, image = entry["key"]
        self._entries[(way, sensor, temperature, exposure, gain, image)] = entry


def _key(way: DetectorMethod, sensor: SensorModel, capture: Capture, image: str) -> Key:
    name = sensor.profile.name
    return way.name, name, capture.colour_temperature_k, capture.exposure, capture.analogue_gain, image


@dataclass(frozen=True, slots=True)
class Plan:
    """Which detections to make: of every image, by every way, on every sensor, under all circumstances."""

    methods: Sequence[DetectorMethod]
    sensors: Sequence[SensorModel]
    captures: Sequence[Capture]
    images: Sequence[Path]

    def missing(self, store: Store) -> int:
        """How many the store lacks."""
        return sum(1 for _ in self._missing(store))

    def _missing(self, store: Store) -> Iterator[tuple[DetectorMethod, SensorModel, Capture, Path]]:
        for way in self.methods:
            for sensor in self.sensors:
                for capture in self.captures:
                    for image in self.images:
                        if store.find(way, sensor, capture, image.stem) is None:
                            yield way, sensor, capture, image

    def measure(self, store: Store, report: Callable[[str], None] = lambda what: None) -> None:
        """Makes what the store lacks.

        Args:
            report: called after each image, with what is being measured.
        """
        for way in self.methods:
            for sensor in self.sensors:
                lacking = [(c, i) for w, s, c, i in self._missing(store) if w is way and s is sensor]
                if not lacking:
                    continue
                with way.open(sensor) as detect:
                    for capture, image in lacking:
                        shot, enlarged = _shoot(image, sensor, capture)
                        started = time.perf_counter()
                        found = detect(shot)
                        found = replace(found, xyxy=found.xyxy / enlarged)
                        store.add(way, sensor, capture, image.stem, found, time.perf_counter() - started)
                        report(f"{way.name}, {sensor.profile.name}, gain {capture.analogue_gain:g}")

    def found(self, store: Store, way: DetectorMethod, sensor: SensorModel, capture: Capture) -> Mapping[str, Boxes]:
        """What a way saw in each image, by stem."""
        out = {}
        for image in self.images:
            boxes = store.find(way, sensor, capture, image.stem)
            assert boxes is not None, "measured before"
            out[image.stem] = boxes
        return out


def _shoot(image: Path, sensor: SensorModel, capture: Capture) -> tuple[SimulatedExposure, float]:
    """Exposes a sensor to an image, enlarged where it is smaller than a network's input: no sensor is so small."""
    photo = load_photo(image, 1)
    factor = max(1.0, _SMALLEST_FRAME / max(photo.shape[:2]))
    if factor > 1:
        height, width = (round(n * factor / 2) * 2 for n in photo.shape[:2])
        photo = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))
    return expose(photo, image.stem, sensor, capture), factor
