"""`edge-isp train detector`: from images without labels and a teacher to a detector on RAW and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.errors import DatasetError
from edge_isp.training.detector.card import write_detector_model
from edge_isp.training.detector.data import NO_OBJECTS, DetectorPairs, Pair, View, pair, stack
from edge_isp.training.detector.distillation import Distillation, Labels
from edge_isp.training.detector.equalise_stem import equalise_stem
from edge_isp.training.detector.labels import load_labels
from edge_isp.training.detector.recordings import load_recordings
from edge_isp.training.finish import Quality, Stages, finish
from edge_isp.training.graph import trace
from edge_isp.training.networks.yolox import CLASS_NAMES, YoloxNano, fold, load_teacher
from edge_isp.training.quantisation.arithmetic import QuantisedGraph
from edge_isp.training.quantisation.silu import quantise_silu_network
from edge_isp.training.simulation.samples import Capture, find_photos, load_photo, sensors_of_generic_weights
from edge_isp.training.trainer import Schedule
from edge_isp.training.weights import start_from

NAME = "raw-detector-generic"

_CALIBRATION_BATCHES = 16
_AWARE_LEARNING_RATE = 1e-4

# What it is validated on, and the size of its input there.
_VALIDATION_PROFILE = "imx219"
_VALIDATION_SIZE = 416


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRun:
    """What `edge-isp train detector` is asked to do; see its options."""

    teacher: Path
    images: tuple[Path, ...]
    recordings: Path | None
    labels: Path | None
    init: Path | None
    out: Path
    steps: int
    quantised_steps: int
    learning_rate: float
    validation: int
    seed: int


def run_training(run: DetectorRun, console: Console) -> Path:
    """Distils a detector, in float, then quantised; returns the model's path. See `finish` for the files.

    Args:
        run: what to do.
        console: where progress is shown.

    Raises:
        DatasetError: there are no images to learn from, or labels are malformed.
        ModelError: the teacher is not YOLOX-Nano, or the weights to start from are not a student's.
        FormatError, MissingDependencyError: see `load_recordings`.
    """
    torch.manual_seed(run.seed)
    teacher = load_teacher(run.teacher).requires_grad_(False)
    sensors = sensors_of_generic_weights(seed=run.seed)
    objective = _objective(run, teacher, sensors)
    views = objective.pairs.images
    student = fold(teacher)
    if run.init is None:
        equalise_stem(student, _calibration(views, sensors))
    else:
        start_from(student, run.init)

    def write(quantised: QuantisedGraph, training: Mapping[str, object], losses: Quality) -> Path:
        return write_detector_model(
            quantised,
            run.out,
            name=NAME,
            sensor="generic",
            classes=CLASS_NAMES,
            training=training,
            quality={
                f"{arithmetic}_{gain}_loss": round(loss, 4)
                for arithmetic, by_gain in losses.items()
                for gain, loss in by_gain.items()
            },
        )

    aware = Schedule(steps=run.quantised_steps, learning_rate=_AWARE_LEARNING_RATE, warm_up=20, seed=run.seed + 1)
    stages = Stages(
        name=NAME,
        objective=lambda schedule: objective,
        schedule=Schedule(steps=run.steps, learning_rate=run.learning_rate, seed=run.seed),
        aware_schedule=aware if run.quantised_steps else None,
        quantise=lambda trained: quantised_after_training(trained, views, sensors),
        write_model=write,
        facts={
            "teacher": run.teacher.name,
            **({"initial_weights": run.init.name} if run.init is not None else {}),
            "learnt_from": "labels" if run.labels else "teacher",
            "images": len(views),
            "recordings": len(objective.pairs.recordings),
        },
    )
    return finish(student, stages, run.out, console)


def _objective(run: DetectorRun, teacher: YoloxNano, sensors: Sequence[SensorModel]) -> Distillation | Labels:
    """What the student is trained for, on all images but those that are kept for validation."""
    paths = [path for folder in run.images for path in find_photos(folder)]
    first = find_photos(run.images[0])
    held_out = first[len(first) - run.validation :] if run.validation else []
    learnt = [path for path in paths if path not in held_out]
    if not learnt:
        raise DatasetError(f"{run.images[0]}: all {len(first)} images are kept for validation: none is left to learn")
    validation = validation_pairs(_views(held_out, run.labels))
    if run.labels is not None:
        return Labels(DetectorPairs(_views(learnt, run.labels), sensors, seed=run.seed), validation)
    recordings = load_recordings(run.recordings) if run.recordings else []
    pairs = DetectorPairs(_views(learnt, None), sensors, seed=run.seed, recordings=recordings)
    return Distillation(teacher, pairs, validation)


def quantised_after_training(
    student: nn.Module, views: Sequence[View], sensors: Sequence[SensorModel]
) -> QuantisedGraph:
    """Quantises a student on simulated RAW of images.

    Args:
        student: a trained `YoloxNano`.
        views: whole images.
        sensors: that they are seen through.
    """
    samples = _calibration(views, sensors)
    graph = trace(student.eval())
    logits = [name for i, name in enumerate(graph.outputs) if i % 3]  # all but the boxes
    return quantise_silu_network(graph, samples, logits=logits)


def _calibration(views: Sequence[View], sensors: Sequence[SensorModel]) -> list[Tensor]:
    """Mosaics whose ranges count."""
    pairs = DetectorPairs(views, sensors, seed=77)
    return [torch.from_numpy(pairs.make(i).mosaic) for i in range(_CALIBRATION_BATCHES)]


def _views(paths: Sequence[Path], labels: Path | None) -> list[View]:
    """Whole images, with their objects where there are labels."""
    if labels is None:
        return [View(load_photo(path), NO_OBJECTS) for path in paths]
    known = load_labels(paths, labels, CLASS_NAMES)
    objects = {name: np.concatenate([found.class_id[:, None], found.xyxy], 1) for name, found in known.items()}
    return [View(load_photo(path), objects[path.stem].astype(np.float32)) for path in paths]


def validation_pairs(views: Sequence[View]) -> dict[str, Pair]:
    """Images at analogue gains 1, 4 and 16 under daylight, always the same noise, as one batch each.

    Args:
        views: whole images.
    """
    sensor = SensorModel(load_profile(_VALIDATION_PROFILE))
    out = {}
    for gain in (1.0, 4.0, 16.0) if views else ():
        capture = Capture(colour_temperature_k=5700, exposure=1.0, analogue_gain=gain)
        made = [
            pair(view, sensor, capture, np.random.default_rng([1000, i]), _VALIDATION_SIZE)
            for i, view in enumerate(views)
        ]
        out[f"gain{gain:.0f}"] = stack(made)
    return out
