"""`edge-isp train detector`: from images without labels and a teacher to a detector on RAW and its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.training import trainer
from edge_isp.training.detector.data import NO_OBJECTS, DetectorPairs, Pair, View, load_image, pair, stack
from edge_isp.training.detector.distillation import Distillation, Labels
from edge_isp.training.detector.equalise_stem import equalise_stem
from edge_isp.training.detector.labels import load_labels
from edge_isp.training.detector.recordings import load_recordings
from edge_isp.training.export.card import write_detector_model
from edge_isp.training.graph import trace
from edge_isp.training.networks.yolox import CLASS_NAMES, YoloxNano, fold, load_teacher
from edge_isp.training.progress import shown
from edge_isp.training.quantisation.arithmetic import FakeQuantised, Integers, QuantisedGraph, save_quantised
from edge_isp.training.quantisation.silu import quantise_silu_network
from edge_isp.training.run_metadata import commit, hours
from edge_isp.training.simulation import Capture, find_photos, sensors_of_generic_weights
from edge_isp.training.weights import start_from

NAME = "raw-detector-generic"

_CALIBRATION_BATCHES = 16
_QUANTISED_LEARNING_RATE = 1e-4

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
    init: Path | None
    out: Path
    steps: int
    quantised_steps: int
    learning_rate: float
    validation: int
    seed: int


def run_training(run: DetectorRun, console: Console) -> Path:
    """Distils a detector, in float, then quantised; returns the model's path.

    Writes into `run.out` the model and its card, and the weights, `-float.pt` and `-int8.pt`.

    Raises:
        ModelError: the teacher is not YOLOX-Nano, or the weights to start from are not a student's.
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
    student = fold(teacher)
    if run.init is None:
        equalise_stem(student, _calibration(objective.pairs.images, sensors))
    else:
        start_from(student, run.init)
    schedule = trainer.Schedule(steps=run.steps, learning_rate=run.learning_rate, seed=run.seed)
    student = _trained(console, "float", student, objective, schedule, run.out / "float")
    assert isinstance(student, YoloxNano)
    torch.save(student.state_dict(), run.out / f"{NAME}-float.pt")
    quantised = quantised_after_training(student, objective.pairs.images, sensors)
    losses = {"float32": objective.validate(student), "ptq": objective.validate(Integers(quantised))}
    if run.quantised_steps:
        schedule = trainer.Schedule(
            steps=run.quantised_steps, learning_rate=_QUANTISED_LEARNING_RATE, warm_up=20, seed=run.seed + 1
        )
        trained = _trained(console, "int8", FakeQuantised(quantised), objective, schedule, run.out / "int8")
        assert isinstance(trained, FakeQuantised)
        aware = trained.quantised()
        losses["qat"] = objective.validate(Integers(aware))
        if sum(losses["qat"].values()) <= sum(losses["ptq"].values()):
            quantised = aware
    save_quantised(quantised, run.out / f"{NAME}-int8.pt")
    return write_detector_model(
        quantised,
        run.out,
        name=NAME,
        sensor="generic",
        classes=CLASS_NAMES,
        training={
            "teacher": run.teacher.name,
            **({"initial_weights": run.init.name} if run.init is not None else {}),
            "learnt_from": "labels" if run.labels else "teacher",
            "images": len(learnt),
            "recordings": len(objective.pairs.recordings),
            "steps": run.steps,
            "quantisation_aware_steps": run.quantised_steps,
            "learning_rate": run.learning_rate,
            "quantisation_aware_learning_rate": _QUANTISED_LEARNING_RATE,
            "seed": run.seed,
            "hours": hours(run.out),
            "commit": commit(),
        },
        quality={
            f"{arithmetic}_{gain}_loss": round(loss, 4)
            for arithmetic, by_gain in losses.items()
            for gain, loss in by_gain.items()
        },
    )


def quantised_after_training(
    student: YoloxNano, views: Sequence[View], sensors: Sequence[SensorModel]
) -> QuantisedGraph:
    """Quantises a student on simulated RAW of images."""
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
    schedule: trainer.Schedule,
    folder: Path,
) -> nn.Module:
    with shown(console, what, "") as report:
        return trainer.train(network, objective, schedule, folder, report).cpu()
