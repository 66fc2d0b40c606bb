"""`edge-isp train detector`: from images without labels and a teacher to a detector on RAW and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.errors import DatasetError, ModelError
from edge_isp.training.detector.card import write_detector_model
from edge_isp.training.detector.class_names import find_class_names, load_class_names
from edge_isp.training.detector.data import NO_OBJECTS, DetectorPairs, Pair, View, pair, stack
from edge_isp.training.detector.distillation import Distillation, Labels
from edge_isp.training.detector.equalise_stem import equalise_stem
from edge_isp.training.detector.labels import load_labels, plain_name, read_labels
from edge_isp.training.detector.recordings import Recording, load_recordings
from edge_isp.training.finish import Quality, Stages, finish
from edge_isp.training.graph import trace
from edge_isp.training.networks.yolox import (
    CLASS_NAMES,
    YoloxNano,
    class_count,
    class_layers,
    fold,
    load_teacher,
    with_classes,
)
from edge_isp.training.progress import shown
from edge_isp.training.quantisation.arithmetic import QuantisedGraph
from edge_isp.training.quantisation.silu import quantise_silu_network
from edge_isp.training.simulation.samples import Capture, find_photos, load_photo, sensors_of_generic_weights
from edge_isp.training.trainer import Schedule, train
from edge_isp.training.weights import read_state, start_from

_Item = TypeVar("_Item")

NAME = "raw-detector-generic"
# Of a model for classes of one's own, and of one for a camera of one's own.
CUSTOM_NAME, ADAPTED_NAME = "raw-detector-custom", "raw-detector-adapted"

_CALIBRATION_BATCHES = 16
_AWARE_LEARNING_RATE = 1e-4
# A run for one's own classes or camera is short, as the warm-up of its learning rate has to be.
_WARM_UP_SHARE = 0.1

# What is kept for validation where nothing is asked for: this share, and no more than this many.
_VALIDATION_SHARE, _MOST_VALIDATION = 1 / 4, 28

# What it is validated on, and the size of its input there.
_VALIDATION_PROFILE = "imx219"
_VALIDATION_SIZE = 416


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRun:
    """What `edge-isp train detector` is asked to do; see its options."""

    teacher: Path | None
    images: tuple[Path, ...]
    recordings: tuple[Path, ...]
    labels: Path | None
    class_names: Path | None
    init: Path | None
    out: Path
    steps: int
    quantised_steps: int
    learning_rate: float
    validation: int | None
    seed: int

    @property
    def name(self) -> str:
        """Of the model."""
        if self.labels is not None:
            return CUSTOM_NAME
        return NAME if self.images else ADAPTED_NAME


@dataclass(frozen=True, slots=True)
class _Data:
    """What is learnt from, and what is kept for validation."""

    views: list[View]
    recordings: list[Recording]
    validation: dict[str, Pair]

    def counts(self, class_names: Sequence[str]) -> dict[str, int]:
        """How many labelled objects of each class are learnt from."""
        objects = [view.objects for view in self.views] + [recording.objects for recording in self.recordings]
        found = np.bincount(np.concatenate(objects)[:, 0].astype(np.int64), minlength=len(class_names))
        return dict(zip(class_names, found.tolist(), strict=True))


def run_training(run: DetectorRun, console: Console) -> Path:
    """Trains a detector, in float, then quantised; returns the model's path. See `finish` for the files.

    Args:
        run: what to do.
        console: where progress is shown.

    Raises:
        DatasetError: there is nothing to learn from, or labels are malformed.
        ModelError: the teacher is not YOLOX-Nano, or the weights to start from are not a student's, or there are none.
        FormatError, MissingDependencyError: see `load_recordings`.
    """
    if run.teacher is None and (run.labels is None or run.init is None):
        needed = (
            "--teacher FILE, or --labels PATH to learn from" if run.labels is None else "--init FILE or --teacher FILE"
        )
        raise ModelError(f"there is no network to {'learn' if run.labels is None else 'start'} from: give {needed}")
    if not run.images and not run.recordings:
        raise DatasetError("there is nothing to learn from: give --images DIR or --recordings PATH")
    torch.manual_seed(run.seed)
    class_names = _class_names(run)
    teacher = None if run.teacher is None else load_teacher(run.teacher).requires_grad_(False)
    data = _data(run, class_names)
    counts = data.counts(class_names)
    if run.labels is not None and not any(counts.values()):
        raise DatasetError(f"{run.labels}: there is no labelled object in the images that are learnt from")
    sensors = sensors_of_generic_weights(seed=run.seed)
    calibration = DetectorPairs(data.views, sensors, seed=77, recordings=data.recordings)
    student, new = _student(run, teacher, class_names, calibration)
    pairs = DetectorPairs(data.views, sensors, seed=run.seed, recordings=data.recordings)
    schedule = Schedule(
        steps=run.steps,
        learning_rate=run.learning_rate,
        warm_up=min(100, max(1, round(_WARM_UP_SHARE * run.steps))),
        seed=run.seed,
    )
    objective: Distillation | Labels
    if run.labels is None:
        assert teacher is not None
        objective = Distillation(teacher, pairs, data.validation)
    elif teacher is None:
        objective = Labels(pairs, data.validation, len(class_names), new=new)
    else:
        labels = Labels(pairs, data.validation, len(class_names))
        # COCO's classes it knows better than a few labels do.
        teacher = (
            teacher if _are_coco(class_names) else _taught_classes(teacher, student, labels, schedule, run, console)
        )
        objective = replace(labels, teacher=teacher)

    def write(quantised: QuantisedGraph, training: Mapping[str, object], losses: Quality) -> Path:
        return write_detector_model(
            quantised,
            run.out,
            name=run.name,
            sensor="generic",
            classes=class_names,
            training=training,
            quality={
                f"{arithmetic}_{group}_loss": round(loss, 4)
                for arithmetic, by_group in losses.items()
                for group, loss in by_group.items()
            },
        )

    stages = Stages(
        name=run.name,
        objective=lambda schedule: objective,
        schedule=schedule,
        aware_schedule=Schedule(
            steps=run.quantised_steps, learning_rate=_AWARE_LEARNING_RATE, warm_up=20, seed=run.seed + 1
        )
        if run.quantised_steps
        else None,
        quantise=lambda trained: quantised_after_training(trained, calibration),
        write_model=write,
        facts={
            **({"teacher": run.teacher.name} if run.teacher is not None else {}),
            **({"initial_weights": run.init.name} if run.init is not None else {}),
            "learnt_from": " and ".join(
                source for source, there in (("labels", run.labels), ("teacher", run.teacher)) if there is not None
            ),
            "images": len(data.views),
            "recordings": len(data.recordings),
            **({"objects": counts} if run.labels is not None else {}),
        },
    )
    return finish(student, stages, run.out, console)


def _class_names(run: DetectorRun) -> tuple[str, ...]:
    if run.labels is None:
        return CLASS_NAMES
    return load_class_names(run.class_names) if run.class_names is not None else find_class_names(run.labels)


def _student(
    run: DetectorRun, teacher: YoloxNano | None, class_names: Sequence[str], calibration: DetectorPairs
) -> tuple[YoloxNano, tuple[nn.Parameter, ...]]:
    """The network before it learns, and those of its parameters that begin as random numbers."""
    if run.init is not None:
        student = YoloxNano(classes=class_count(read_state(run.init)))
        start_from(student, run.init)
    else:
        assert teacher is not None
        student = fold(teacher)
        equalise_stem(student, _mosaics(calibration))
    known = len(class_layers(student)[0].weight)
    # Weights do not say what their classes are called: other than COCO's 80 are taken for those of the labels.
    if known == len(class_names) and (known != len(CLASS_NAMES) or _are_coco(class_names)):
        return student, ()
    student = with_classes(student, len(class_names))
    return student, tuple(parameter for layer in class_layers(student) for parameter in layer.parameters())


def _taught_classes(
    teacher: YoloxNano, student: YoloxNano, labels: Labels, schedule: Schedule, run: DetectorRun, console: Console
) -> YoloxNano:
    """A teacher that knows the classes of the labels: it learns them from the clean pictures, where that is easiest.

    The student takes over the teacher's last layers for the classes: the features that they read are to become alike.
    """
    teacher = with_classes(teacher, labels.class_count)
    new = tuple(parameter for layer in class_layers(teacher) for parameter in layer.parameters())
    # Its pictures are the same at every gain.
    validation = dict(list(labels.validation.items())[:1])
    objective = replace(labels, validation=validation, pictures=True, new=new)
    with shown(console, "teacher", objective.unit) as report:
        trained = train(teacher.requires_grad_(True), objective, schedule, run.out / "teacher", report).cpu()
    assert isinstance(trained, YoloxNano)
    for own, taught in zip(class_layers(student), class_layers(trained), strict=True):
        own.load_state_dict(taught.state_dict())
    return trained.requires_grad_(False)


def _are_coco(class_names: Sequence[str]) -> bool:
    return [plain_name(name) for name in class_names] == [plain_name(name) for name in CLASS_NAMES]


def _data(run: DetectorRun, class_names: Sequence[str]) -> _Data:
    """All images and recordings; the last ones are kept for validation."""
    paths = [path for folder in run.images for path in find_photos(folder)]
    first = find_photos(run.images[0]) if run.images else []
    held_out = _last(run, first, f"{run.images[0]}: all {len(first)} images") if run.images else []
    learnt = [path for path in paths if path not in held_out]
    labels = None if run.labels is None else read_labels(run.labels, class_names)
    recordings = load_recordings(run.recordings, labels) if run.recordings else []
    validation = validation_pairs(_views(held_out, run.labels, class_names))
    if not run.images:
        held = _last(run, recordings, f"all {len(recordings)} frames")
        recordings = recordings[: len(recordings) - len(held)]
        validation = {"recordings": stack([recording.whole(_VALIDATION_SIZE) for recording in held])} if held else {}
    return _Data(_views(learnt, run.labels, class_names), recordings, validation)


def _last(run: DetectorRun, found: Sequence[_Item], all_of_them: str) -> list[_Item]:
    """What is kept for validation of images or frames."""
    count = run.validation
    if count is None:
        count = min(_MOST_VALIDATION, int(_VALIDATION_SHARE * len(found)))
    if count >= len(found):
        raise DatasetError(f"{all_of_them} are kept for validation: none is left to learn")
    return list(found[len(found) - count :])


def quantised_after_training(student: nn.Module, calibration: DetectorPairs) -> QuantisedGraph:
    """Quantises a student.

    Args:
        student: a trained `YoloxNano`.
        calibration: pairs whose mosaics' ranges count.
    """
    graph = trace(student.eval())
    logits = [name for i, name in enumerate(graph.outputs) if i % 3]  # all but the boxes
    return quantise_silu_network(graph, _mosaics(calibration), logits=logits)


def _mosaics(calibration: DetectorPairs) -> list[Tensor]:
    return [torch.from_numpy(calibration.make(i).mosaic) for i in range(_CALIBRATION_BATCHES)]


def _views(paths: Sequence[Path], labels: Path | None, class_names: Sequence[str]) -> list[View]:
    """Whole images, with their objects where there are labels."""
    if labels is None:
        return [View(load_photo(path), NO_OBJECTS) for path in paths]
    known = load_labels(paths, labels, class_names)
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
