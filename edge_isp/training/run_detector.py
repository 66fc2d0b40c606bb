"""`edge-isp train detector`: from images without labels and a teacher to a detector on RAW and its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from edge_isp.calibration.forward import SensorModel
from edge_isp.calibration.profile import load_profile
from edge_isp.training import loop
from edge_isp.training.data import Capture, find_photos, sensors_of_generic_weights
from edge_isp.training.detector_data import NO_OBJECTS, DetectorPairs, Pair, View, load_image, pair, stack
from edge_isp.training.distillation import Distillation, Labels
from edge_isp.training.labels import load_labels
from edge_isp.training.networks.yolox import fold, load_teacher
from edge_isp.training.progress import shown
from edge_isp.training.recordings import load_recordings

NAME = "raw-detector-generic"

# What it is validated on, and the size of its input there.
_VALIDATION_PROFILE = "imx219"
_VALIDATION_SIZE = 416


@dataclass(frozen=True, slots=True)
class DetectorRun:
    """What `edge-isp train detector` is asked to do; see its options."""

    teacher: Path
    images: tuple[Path, ...]
    recordings: Path | None
    labels: Path | None
    out: Path
    steps: int
    learning_rate: float
    validation: int
    seed: int


def run_training(run: DetectorRun, console: Console) -> Path:
    """Distils a detector; returns the path of its weights.

    Raises:
        ModelError: the teacher is not YOLOX-Nano.
        FormatError, MissingDependencyError: see `load_recordings`.
    """
    torch.manual_seed(run.seed)
    teacher = load_teacher(run.teacher).requires_grad_(False)
    paths = [path for folder in run.images for path in find_photos(folder)]
    first = find_photos(run.images[0])
    held_out = first[len(first) - run.validation :]
    learnt = [path for path in paths if path not in held_out]
    sensors = sensors_of_generic_weights(seed=run.seed)
    validation = validation_pairs(_views(held_out, run.labels))
    objective: Distillation | Labels
    if run.labels is None:
        recordings = load_recordings(run.recordings) if run.recordings else []
        pairs = DetectorPairs(_views(learnt, None), sensors, seed=run.seed, recordings=recordings)
        objective = Distillation(teacher, pairs, validation)
    else:
        objective = Labels(DetectorPairs(_views(learnt, run.labels), sensors, seed=run.seed), validation)
    schedule = loop.Schedule(steps=run.steps, learning_rate=run.learning_rate, seed=run.seed)
    student = _trained(console, "float", fold(teacher), objective, schedule, run.out / "float")
    path = run.out / f"{NAME}-float.pt"
    torch.save(student.state_dict(), path)
    return path


def _views(paths: Sequence[Path], labels: Path | None) -> list[View]:
    """Whole images, with their objects where there are labels."""
    if labels is None:
        return [View(load_image(path), NO_OBJECTS) for path in paths]
    known = load_labels(paths, labels)
    objects = {name: np.concatenate([found.class_id[:, None], found.xyxy], 1) for name, found in known.items()}
    return [View(load_image(path), objects[path.stem].astype(np.float32)) for path in paths]


def validation_pairs(views: Sequence[View]) -> dict[str, Pair]:
    """Images at analogue gains 1, 4 and 16 under daylight, always the same noise, as one batch each."""
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


def _trained(
    console: Console,
    what: str,
    network: nn.Module,
    objective: Distillation | Labels,
    schedule: loop.Schedule,
    folder: Path,
) -> nn.Module:
    with shown(console, what, "") as report:
        return loop.train(network, objective, schedule, folder, report).cpu()
