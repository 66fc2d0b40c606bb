"""`edge-isp evaluate detector`: detections of every way with progress shown, and the tables of COCO's figures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.evaluation.detector.methods import (
    DetectorMethod,
    Plan,
    Store,
    clean_method,
    model_method,
    picture_method,
    student_method,
)
from edge_isp.evaluation.detector.metrics import agreement, bootstrap, mean_average_precision
from edge_isp.evaluation.isp.classical import STRENGTHS, classical_methods
from edge_isp.evaluation.isp.methods import model_method as isp_method
from edge_isp.evaluation.isp.run import progress
from edge_isp.models.card import find_model
from edge_isp.training.detector.labels import Boxes, load_labels
from edge_isp.training.networks.yolox import YoloxNano, fold, load_teacher
from edge_isp.training.simulation import Capture, find_photos
from edge_isp.training.weights import start_from

# The best of the classical methods, on the photographs of its tests.
_CLASSICAL = "Menon on roots, NLM"

_DAYLIGHT_K = 5700.0
_SHA256_DIGITS = 12


@dataclass(frozen=True, slots=True)
class DetectorEvaluation:
    """What `edge-isp evaluate detector` is asked to do; see its options."""

    images: Path
    labels: Path
    teacher: Path
    models: tuple[str, ...]
    weights: tuple[Path, ...]
    pictures: tuple[str, ...]
    classical: bool
    sensors: tuple[str, ...]
    exposures: tuple[tuple[float, float], ...]
    against: str | None
    json: Path | None


def run_evaluation(asked: DetectorEvaluation, console: Console) -> None:
    """Makes the detections that the file lacks and prints a table an exposure.

    Raises:
        typer.BadParameter: the file is another's, there are no images, or no way is called `against`.
        ModelError, ProfileError: a teacher, weights, a model or a sensor cannot be loaded.
    """
    sensors = [SensorModel(load_profile(name)) for name in asked.sensors]
    captures = [Capture(_DAYLIGHT_K, exposure, gain) for gain, exposure in asked.exposures]
    methods = _ways(asked)
    reference = next((way for way in methods if way.name == asked.against), None)
    if asked.against is not None and reference is None:
        raise typer.BadParameter(f"no way is called '{asked.against}'; there are: {', '.join(w.name for w in methods)}")
    try:
        plan = Plan(methods, sensors, captures, find_photos(asked.images))
        truth = load_labels(plan.images, asked.labels)
        store = Store(asked.json)
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error
    with progress(console, "images", plan.missing(store)) as report:
        plan.measure(store, report)
    for capture in captures:
        console.print(_table(plan, store, truth, capture, reference))


def _ways(asked: DetectorEvaluation) -> list[DetectorMethod]:
    teacher, digest = load_teacher(asked.teacher), _digest(asked.teacher)
    methods = [clean_method(teacher, digest)]
    if asked.classical:
        found = next(way for way in classical_methods(STRENGTHS) if way.name == _CLASSICAL)
        methods.append(picture_method(found, teacher, digest))
    for model in asked.pictures:
        sha256 = find_model(model, None).sha256[:_SHA256_DIGITS]
        methods.append(picture_method(isp_method(model), teacher, f"{digest} {sha256}"))
    methods.append(student_method("folded teacher on RAW, untrained", digest, fold(teacher).eval()))
    for path in asked.weights:
        methods.append(student_method(f"{path.stem} on RAW", _digest(path), _student(path)))
    return methods + [model_method(model) for model in asked.models]


def _student(path: Path) -> YoloxNano:
    student = YoloxNano()
    start_from(student, path)
    return student.eval()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_SHA256_DIGITS]


def _table(
    plan: Plan, store: Store, truth: dict[str, Boxes], capture: Capture, reference: DetectorMethod | None
) -> Table:
    """A row a way, a column a sensor."""
    table = Table(
        title=f"{len(plan.images)} images, analogue gain {capture.analogue_gain:g}, exposure {capture.exposure:g}: "
        "AP, AP50, AR100 in percent; recall, precision, IoU against the first way; difference in AP, 95 %",
        title_justify="left",
        show_lines=True,
    )
    table.add_column("")
    for sensor in plan.sensors:
        table.add_column(sensor.profile.name, justify="right")
    for way in plan.methods:
        table.add_row(
            way.name, *(_cell(plan, store, truth, way, sensor, capture, reference) for sensor in plan.sensors)
        )
    return table


def _cell(
    plan: Plan,
    store: Store,
    truth: dict[str, Boxes],
    way: DetectorMethod,
    sensor: SensorModel,
    capture: Capture,
    reference: DetectorMethod | None,
) -> str:
    found = plan.found(store, way, sensor, capture)
    quality = mean_average_precision(truth, found)
    lines = [f"{quality.ap:.1f} {quality.ap50:.1f} {quality.ar100:.1f}"]
    if way is not plan.methods[0]:
        like = agreement(plan.found(store, plan.methods[0], sensor, capture), found)
        lines.append(f"{like.recall:.2f} {like.precision:.2f} {like.overlap:.2f}")
    if reference is not None and way is not reference:
        low, high = bootstrap(truth, found, plan.found(store, reference, sensor, capture))
        lines.append(f"{low:+.1f} to {high:+.1f}")
    return "\n".join(lines)


def parse_exposures(text: str) -> tuple[tuple[float, float], ...]:
    """ "GAIN" or "GAIN@EXPOSURE", separated by commas ("1,16@0.125").

    Raises:
        ValueError: it is something else.
    """
    out = []
    for part in text.split(","):
        gain, _, exposure = part.partition("@")
        out.append((float(gain), float(exposure or 1)))
    return tuple(out)
