"""Simulated scenes of moving objects as a detector sees them: with noise, misses, doubts, false alarms and hiding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.results import Detections

WIDTH, HEIGHT, FPS = 1280, 720, 15
CLASSES = ("person", "car")


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame of a scene.

    Attributes:
        found: what a detector reports.
        objects: boxes of all objects of the frame, by their true number.
    """

    found: Detections
    objects: dict[int, NDArray[np.float64]]


def scene(seed: int, *, objects: int = 8, seconds: float = 20.0) -> list[SimulatedFrame]:
    """Objects that walk, turn, meet and hide each other.

    Args:
        seed: of everything random.
        objects: how many there are.
        seconds: how long.
    """
    random = np.random.default_rng(seed)
    sizes = random.uniform((50, 110), (90, 200), (objects, 2))
    centres = random.uniform((100, 150), (WIDTH - 100, HEIGHT - 150), (objects, 2))
    velocities = random.uniform(-160, 160, (objects, 2))
    frames = []
    for index in range(round(seconds * FPS)):
        velocities += random.normal(0, 120, velocities.shape) / FPS
        centres += velocities / FPS
        outside = (centres < sizes / 2) | (centres > np.array([WIDTH, HEIGHT]) - sizes / 2)
        velocities = np.where(outside, -velocities, velocities)
        centres = np.clip(centres, sizes / 2, np.array([WIDTH, HEIGHT]) - sizes / 2)
        boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
        frames.append(SimulatedFrame(_seen(index, boxes, random), dict(enumerate(boxes))))
    return frames


def detections(
    boxes: NDArray[np.floating],
    confidence: NDArray[np.floating],
    timestamp_ns: int,
    classes: list[int] | None = None,
) -> Detections:
    """Detections of a frame, the most confident first.

    Args:
        boxes: (n, 4) in pixels.
        confidence: (n,).
        timestamp_ns: of the frame.
        classes: of the boxes; None is the first class.
    """
    order = np.argsort(-confidence, kind="stable")
    class_id = np.zeros(len(boxes), np.int32) if classes is None else np.array(classes, np.int32)
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4)[order],
        confidence[order].astype(np.float32),
        class_id[order],
        CLASSES,
        "scene",
        timestamp_ns * FPS // 10**9,
        timestamp_ns,
        size=(WIDTH, HEIGHT),
    )


def _seen(index: int, boxes: NDArray[np.float64], random: np.random.Generator) -> Detections:
    """Later objects hide earlier ones; the more of an object is hidden, the less certain it is."""
    seen, confidence = [], []
    for number, box in enumerate(boxes):
        hidden = max((_hidden(box, other) for other in boxes[number + 1 :]), default=0.0)
        certain = float(np.clip(0.85 - 0.9 * hidden + random.normal(0, 0.08), 0, 0.99))
        if certain < 0.1 or random.random() < 0.04:
            continue
        seen.append(box + random.normal(0, 0.03, 4) * np.tile(box[2:] - box[:2], 2))
        confidence.append(certain)
    for _ in range(random.poisson(0.15)):
        corner, size = random.uniform((0, 0), (WIDTH - 150, HEIGHT - 200)), random.uniform(50, 150, 2)
        seen.append(np.concatenate([corner, corner + size]))
        confidence.append(random.uniform(0.1, 0.5))
    return detections(np.array(seen).reshape(-1, 4), np.array(confidence), round((index + 1) * 1e9 / FPS))


def _hidden(box: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    sides = np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None)
    return float(sides.prod() / (box[2:] - box[:2]).prod())
