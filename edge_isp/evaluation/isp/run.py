"""`edge-isp evaluate isp`: measures picture quality with progress shown, and gives the means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.evaluation.exposures import DAYLIGHT_K, SimulatedExposure, expose_image
from edge_isp.evaluation.isp.methods import Rgb, model_method
from edge_isp.evaluation.isp.metrics import Quality, quality
from edge_isp.evaluation.progress import progress
from edge_isp.evaluation.store import Method, Plan, Store, combinations
from edge_isp.models.card import read_card, shipped_models
from edge_isp.training.simulation.samples import Capture, find_photos

GAINS = (1.0, 4.0, 16.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What `edge-isp evaluate isp` is asked to do; see its options."""

    images: Path
    sensors: tuple[str, ...]
    temperatures: tuple[float, ...]
    models: tuple[str, ...] = ()
    weights: tuple[Path, ...] = ()
    network: str = "rfdcsanet-s"
    photos: Path | None = None
    classical: bool = False
    tune_on: tuple[Path, ...] = ()
    results: Path | None = None


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean quality of a method's pictures of all images on one sensor under one capture.

    Attributes:
        method: its name.
        sensor: name of its profile.
        capture: the circumstances.
        images: how many pictures.
        quality: the means.
        seconds: mean time of a picture.
    """

    method: str
    sensor: str
    capture: Capture
    images: int
    quality: Quality
    seconds: float

    def document(self) -> dict[str, Any]:
        """The mean as `--json` prints it."""
        return {
            "method": self.method,
            "sensor": self.sensor,
            "colour_temperature_k": self.capture.colour_temperature_k,
            "analogue_gain": self.capture.analogue_gain,
            "images": self.images,
            **self.quality.document(),
            "seconds": round(self.seconds, 5),
        }


def run_evaluation(asked: Evaluation, console: Console) -> list[Mean]:
    """Measures what the file of results lacks; returns the means.

    Args:
        asked: what to measure.
        console: where progress is shown.

    Raises:
        DatasetError: there are no images, or one cannot be read.
        EvaluationError: the file of results is another's, two methods have one name, or the strengths of a sensor's
            denoising are not known.
        ModelError: a model or weights cannot be loaded.
        ProfileError: there is no such sensor profile.
    """
    sensors = [SensorModel(load_profile(name)) for name in asked.sensors]
    captures = [capture(temperature, gain) for temperature in asked.temperatures for gain in GAINS]
    store = Store(asked.results, "pictures")
    plan = picture_plan(_methods(asked, sensors, console), sensors, captures, find_photos(asked.images))
    with progress(console, "pictures", plan.missing(store)) as report:
        plan.measure(store, report)
    return means(plan, store)


def capture(temperature_k: float, gain: float) -> Capture:
    """An exposure at which the image's white just reaches white in the RAW.

    Args:
        temperature_k: colour temperature of the light in kelvin.
        gain: analogue gain.
    """
    return Capture(colour_temperature_k=temperature_k, exposure=1.0, analogue_gain=gain)


def picture_plan(
    methods: list[Method[Rgb]], sensors: list[SensorModel], captures: list[Capture], images: list[Path]
) -> Plan[Rgb]:
    """What to measure of pictures; their quality is kept.

    Args:
        methods: from RAW to a picture.
        sensors: that are exposed.
        captures: the circumstances.
        images: the test images.
    """
    return Plan(methods, sensors, captures, images, expose_image, _kept)


def _kept(rgb: Rgb, exposure: SimulatedExposure) -> Mapping[str, Any]:
    return quality(rgb, exposure.photo).document()


def means(plan: Plan[Rgb], store: Store) -> list[Mean]:
    """The mean quality of each method on each sensor under each capture.

    Args:
        plan: what was measured.
        store: of its results.
    """
    out = []
    for circumstances, sensor, method in combinations(plan):
        results = plan.results(store, method, sensor, circumstances).values()
        found = [Quality(**result.values) for result in results]
        psnr, similarity, difference = np.mean([(q.psnr_db, q.ssim, q.ciede2000) for q in found], axis=0).tolist()
        seconds = float(np.mean([result.seconds for result in results]))
        mean = Quality(psnr, similarity, difference)
        out.append(Mean(method.name, sensor.profile.name, circumstances, len(found), mean, seconds))
    return out


def quality_tables(found: list[Mean]) -> list[Table]:
    """One table for each sensor and colour temperature: a row for each method and gain.

    Args:
        found: the means.
    """
    tables: dict[tuple[str, float], Table] = {}
    for mean in found:
        key = (mean.sensor, mean.capture.colour_temperature_k)
        if key not in tables:
            title = f"{mean.sensor}, {key[1]:g} K: mean of {mean.images} images"
            tables[key] = Table("method", title=title, title_justify="left")
            for column in ("gain", "PSNR, dB", "SSIM", "CIEDE2000"):
                tables[key].add_column(column, justify="right")
        figures = mean.quality
        tables[key].add_row(
            mean.method,
            f"{mean.capture.analogue_gain:g}",
            f"{figures.psnr_db:.2f}",
            f"{figures.ssim:.4f}",
            f"{figures.ciede2000:.2f}",
        )
    return list(tables.values())


def _methods(asked: Evaluation, sensors: list[SensorModel], console: Console) -> list[Method[Rgb]]:
    models = asked.models
    if not (models or asked.weights or asked.classical):
        models = tuple(name for name, path in shipped_models().items() if read_card(path).task == "isp")
    methods = [model_method(model) for model in models]
    for path in asked.weights:
        from edge_isp.evaluation.isp.weights import weights_methods  # needs PyTorch

        methods += weights_methods(path, asked.network, asked.photos)
    if asked.classical:
        methods += _classical_methods(asked.tune_on, sensors, console)
    return methods


def _classical_methods(tune_on: tuple[Path, ...], sensors: list[SensorModel], console: Console) -> list[Method[Rgb]]:
    from edge_isp.evaluation.isp.classical import DENOISED, STRENGTHS, classical_methods, picture, tune

    if not tune_on:
        return classical_methods(STRENGTHS)
    images = [image for path in tune_on for image in (find_photos(path) if path.is_dir() else [path])]
    found = {}
    with progress(console, "strengths of denoising", len(DENOISED) * len(sensors) * len(GAINS)) as report:
        for sensor in sensors:
            for gain in GAINS:
                exposures = [expose_image(image, sensor, capture(DAYLIGHT_K, gain)) for image in images]
                for name in DENOISED:
                    key = (name, sensor.profile.name, gain)
                    found[key] = tune((picture(exposure, name), exposure.photo) for exposure in exposures)
                    report(f"{sensor.profile.name}, gain {gain:g}")
    for key, strengths in found.items():
        console.print(f"{key}: {strengths},", highlight=False, soft_wrap=True)
    return classical_methods(found)
