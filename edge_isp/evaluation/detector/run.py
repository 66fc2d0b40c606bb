"""`edge-isp evaluate detector`: detections of every method with progress shown, and COCO's figures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.errors import EvaluationError, shortened
from edge_isp.evaluation.detector.methods import model_method
from edge_isp.evaluation.detector.metrics import (
    SURE,
    Agreement,
    Precision,
    agreement,
    bootstrap,
    mean_average_precision,
)
from edge_isp.evaluation.detector.weights import clean_method, picture_method, student_method
from edge_isp.evaluation.exposures import DAYLIGHT_K, SimulatedExposure, expose_image
from edge_isp.evaluation.isp.classical import STRENGTHS, classical_methods
from edge_isp.evaluation.isp.methods import model_method as isp_method
from edge_isp.evaluation.progress import progress
from edge_isp.evaluation.store import SHA256_DIGITS, Method, Plan, Store, combinations
from edge_isp.kernels.layout import CELL_PLANES
from edge_isp.training.detector.labels import Boxes, load_labels
from edge_isp.training.networks.yolox import CLASS_NAMES, YoloxNano, fold, load_teacher
from edge_isp.training.simulation.samples import Capture, find_photos
from edge_isp.training.weights import start_from

# The best of the classical methods, on the photographs of its tests.
_CLASSICAL = "Menon on roots, NLM"

# Longer side of an exposure in pixels: of the largest input that is measured. No sensor is smaller.
_SMALLEST_FRAME = 640


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorEvaluation:
    """What `edge-isp evaluate detector` is asked to do; see its options."""

    images: Path
    labels: Path
    teacher: Path
    sensors: tuple[str, ...]
    exposures: tuple[tuple[float, float], ...]
    cfas: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    weights: tuple[Path, ...] = ()
    pictures: tuple[str, ...] = ()
    classical: bool = False
    against: str | None = None
    results: Path | None = None


@dataclass(frozen=True, slots=True)
class DetectionQuality:
    """How good a method's detections in all images are, on one sensor under one capture.

    Attributes:
        method: its name.
        sensor: name of its profile.
        cfa: its colour order.
        capture: the circumstances.
        images: how many.
        precision: COCO's figures.
        found: recall and precision of the detections of at least 0.3, against the labels.
        agreement: with the plan's first method; None of that itself.
        difference: the interval of the difference in AP to the method that the others are compared with; None where
            there is none, and of that itself.
    """

    method: str
    sensor: str
    cfa: str
    capture: Capture
    images: int
    precision: Precision
    found: Agreement
    agreement: Agreement | None
    difference: tuple[float, float] | None

    def document(self) -> dict[str, Any]:
        """The figures as `--json` prints them."""
        return {
            "method": self.method,
            "sensor": self.sensor,
            "cfa": self.cfa,
            "analogue_gain": self.capture.analogue_gain,
            "exposure": self.capture.exposure,
            "images": self.images,
            **asdict(self.precision),
            "recall_at_confidence_03": 100 * self.found.recall,
            "precision_at_confidence_03": 100 * self.found.precision,
            "agreement": None if self.agreement is None else asdict(self.agreement),
            "ap_difference": self.difference,
        }


def run_evaluation(asked: DetectorEvaluation, console: Console) -> list[DetectionQuality]:
    """Makes the detections that the file of results lacks; returns how good they are.

    Args:
        asked: what to measure.
        console: where progress is shown.

    Raises:
        DatasetError: there are no images, or labels are malformed.
        EvaluationError: the file of results is another's, or no method is called `against`.
        ModelError: a teacher, weights or a model cannot be loaded.
        ProfileError: there is no such sensor profile.
    """
    sensors = _sensors(asked)
    captures = [Capture(DAYLIGHT_K, exposure, gain) for gain, exposure in asked.exposures]
    methods = _methods(asked)
    reference = next((method for method in methods if method.name == asked.against), None)
    if asked.against is not None and reference is None:
        names = ", ".join(method.name for method in methods)
        raise EvaluationError(f"no method is called '{asked.against}'; there are: {names}")
    store = Store(asked.results, "detections")
    plan = detection_plan(methods, sensors, captures, find_photos(asked.images))
    truth = load_labels(list(plan.images), asked.labels, CLASS_NAMES)
    with progress(console, "images", plan.missing(store)) as report:
        plan.measure(store, report)
    return [
        _quality(plan, store, truth, method, sensor, capture, reference)
        for capture, sensor, method in combinations(plan)
    ]


def detection_plan(
    methods: list[Method[Boxes]], sensors: list[SensorModel], captures: list[Capture], images: list[Path]
) -> Plan[Boxes]:
    """What to measure of detections; they are kept in the pixels of the test images.

    Args:
        methods: from RAW to boxes.
        sensors: that are exposed.
        captures: the circumstances.
        images: the test images.
    """
    return Plan(methods, sensors, captures, images, _expose, _kept)


def detections(
    plan: Plan[Boxes], store: Store, method: Method[Boxes], sensor: SensorModel, capture: Capture
) -> dict[str, Boxes]:
    """What a method saw in each image, by stem.

    Args:
        plan: what was measured.
        store: of its results.
        method: one of the plan's.
        sensor: one of the plan's.
        capture: one of the plan's.
    """
    return {
        stem: Boxes(
            np.array(result.values["xyxy"], np.float64).reshape(-1, 4),
            np.array(result.values["class_id"], np.int64),
            np.array(result.values["confidence"], np.float64),
        )
        for stem, result in plan.results(store, method, sensor, capture).items()
    }


def _expose(image: Path, sensor: SensorModel, capture: Capture) -> SimulatedExposure:
    return expose_image(image, sensor, capture, smallest_side=_SMALLEST_FRAME)


def _kept(found: Boxes, exposure: SimulatedExposure) -> Mapping[str, Any]:
    return {
        "class_id": found.class_id.tolist(),
        "confidence": np.round(found.confidence, 5).tolist(),
        "xyxy": np.round(found.xyxy / exposure.enlarged, 2).tolist(),
    }


def _methods(asked: DetectorEvaluation) -> list[Method[Boxes]]:
    teacher, digest = load_teacher(asked.teacher), _digest(asked.teacher)
    methods = [clean_method(teacher, digest)]
    if asked.classical:
        found = next(method for method in classical_methods(STRENGTHS) if method.name == _CLASSICAL)
        methods.append(picture_method(found, teacher, digest))
    methods += [picture_method(isp_method(model), teacher, digest) for model in asked.pictures]
    methods.append(student_method("folded teacher on RAW, untrained", digest, fold(teacher).eval()))
    for path in asked.weights:
        methods.append(student_method(f"{path.stem} on RAW", _digest(path), _student(path)))
    return methods + [model_method(model) for model in asked.models]


def _sensors(asked: DetectorEvaluation) -> list[SensorModel]:
    """Each sensor in each order of colours that is asked for."""
    for cfa in asked.cfas:
        if cfa not in CELL_PLANES:
            raise EvaluationError(f"CFA order must be one of {', '.join(CELL_PLANES)}, found '{shortened(cfa)}'")
    profiles = [load_profile(name) for name in asked.sensors]
    return [SensorModel(replace(profile, cfa=cfa)) for profile in profiles for cfa in asked.cfas or (profile.cfa,)]


def _student(path: Path) -> YoloxNano:
    student = YoloxNano()
    start_from(student, path)
    return student.eval()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:SHA256_DIGITS]


def _quality(
    plan: Plan[Boxes],
    store: Store,
    truth: dict[str, Boxes],
    method: Method[Boxes],
    sensor: SensorModel,
    capture: Capture,
    reference: Method[Boxes] | None,
) -> DetectionQuality:
    found, first = detections(plan, store, method, sensor, capture), plan.methods[0]
    difference = None
    if reference is not None and method is not reference:
        difference = bootstrap(truth, found, detections(plan, store, reference, sensor, capture))
    return DetectionQuality(
        method=method.name,
        sensor=sensor.profile.name,
        cfa=sensor.profile.cfa,
        capture=capture,
        images=len(found),
        precision=mean_average_precision(truth, found),
        found=agreement(truth, found, found_again=SURE),
        agreement=None if method is first else agreement(detections(plan, store, first, sensor, capture), found),
        difference=difference,
    )


def quality_tables(found: list[DetectionQuality], against: str | None) -> list[Table]:
    """One table for each capture and sensor: a row for each method.

    Args:
        found: how good the methods' detections are.
        against: name of the method that the others are compared with; None where there is none.
    """
    columns = ["AP", "AP50", "small", "medium", "large", "AR100", "recall", "precision", "found again", "known", "IoU"]
    columns += [f"AP - {against}"] if against else []
    tables: dict[tuple[str, str, Capture], Table] = {}
    for quality in found:
        key = (quality.sensor, quality.cfa, quality.capture)
        if key not in tables:
            title = (
                f"{quality.sensor}, {quality.cfa}, analogue gain {quality.capture.analogue_gain:g}, exposure "
                f"{quality.capture.exposure:g}: {quality.images} images; AP, AP by size, AR100, and recall and "
                f"precision at confidence 0.3 in percent; found again, known and IoU against '{found[0].method}'"
            )
            tables[key] = Table("method", title=title, title_justify="left")
            for column in columns:
                tables[key].add_column(column, justify="right")
        like, precision = quality.agreement, quality.precision
        cells = [f"{precision.ap:.1f}", f"{precision.ap50:.1f}"]
        cells += [
            "" if ap is None else f"{ap:.1f}" for ap in (precision.ap_small, precision.ap_medium, precision.ap_large)
        ]
        cells += [
            f"{100 * share:.1f}" for share in (precision.ar100 / 100, quality.found.recall, quality.found.precision)
        ]
        cells += ["", "", ""] if like is None else [f"{v:.2f}" for v in (like.recall, like.precision, like.overlap)]
        if against:
            cells.append("" if quality.difference is None else "{:+.1f} to {:+.1f}".format(*quality.difference))
        tables[key].add_row(quality.method, *cells)
    return list(tables.values())


def parse_exposure(text: str) -> tuple[float, float]:
    """An analogue gain and an exposure, of "GAIN" or "GAIN@EXPOSURE".

    Args:
        text: such as "4" or "16@0.125"; the exposure is 1 where it is not given.

    Raises:
        ValueError: it is something else.
    """
    gain, separator, exposure = text.partition("@")
    parsed = float(gain), float(exposure) if separator else 1.0
    if not (1 <= parsed[0] < float("inf") and 0 < parsed[1] < float("inf")):
        raise ValueError(f"expected a gain of at least 1 and an exposure above 0, found '{text}'")
    return parsed
