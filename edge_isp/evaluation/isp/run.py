"""`edge-isp evaluate isp`: measures picture quality with progress shown, and prints the table of means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.evaluation.exposures import Figure, Method, Plan, Store, measure, shoot
from edge_isp.models.card import read_card, shipped_models
from edge_isp.training.simulation import Capture, find_photos

GAINS = (1.0, 4.0, 16.0)

# At which light the strengths of the classical methods' denoising are found.
_DAYLIGHT_K = 5700.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `edge-isp evaluate isp` is asked to do; see its options."""

    images: Path
    sensors: tuple[str, ...]
    temperatures: tuple[float, ...]
    models: tuple[str, ...]
    weights: tuple[Path, ...]
    network: str
    photos: Path | None
    classical: bool
    tune_on: tuple[Path, ...]
    json: Path | None


def run_evaluation(asked: Evaluation, console: Console) -> None:
    """Measures what the file of figures lacks and prints a table a colour temperature.

    Raises:
        typer.BadParameter: the file of figures is another's, there are no images, two methods have one name, or the
            strengths of a sensor's denoising are not known.
        ModelError, ProfileError: see `find_model`, `methods.weights_methods` and `load_profile`.
    """
    sensors = [SensorModel(load_profile(name)) for name in asked.sensors]
    captures = [capture(temperature, gain) for temperature in asked.temperatures for gain in GAINS]
    try:
        store = Store(asked.json)
        plan = Plan(_ways(asked, sensors, console), sensors, captures, find_photos(asked.images))
        missing = plan.missing(store)
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error
    with progress(console, "pictures", missing) as report:
        measure(plan, store, report)
    for temperature in asked.temperatures:
        console.print(quality_table(plan, store, temperature))


def capture(temperature_k: float, gain: float) -> Capture:
    """Exposed so that the image's white just reaches white in the RAW."""
    return Capture(colour_temperature_k=temperature_k, exposure=1.0, analogue_gain=gain)


def quality_table(plan: Plan, store: Store, temperature_k: float) -> Table:
    """A row a way, a column a sensor and gain: means over the images, at one colour temperature."""
    table = Table(
        title=f"Mean of {len(plan.images)} images at {temperature_k:g} K: PSNR in dB, SSIM, CIEDE2000",
        title_justify="left",
        show_lines=True,
    )
    captures = [c for c in plan.captures if c.colour_temperature_k == temperature_k]
    table.add_column("")
    for sensor in plan.sensors:
        for c in captures:
            table.add_column(f"{sensor.profile.name}\ngain {c.analogue_gain:g}", justify="right")
    for way in plan.methods:
        cells = [
            _cell([f for image in plan.images if (f := store.find(way, sensor, c, image))])
            for sensor in plan.sensors
            for c in captures
        ]
        table.add_row(way.name, *cells)
    return table


def _cell(figures: list[Figure]) -> str:
    psnr, similarity, difference = np.mean([(f.psnr_db, f.ssim, f.ciede2000) for f in figures], axis=0)
    return f"{psnr:.2f}\n{similarity:.4f}\n{difference:.2f}"


def _ways(asked: Evaluation, sensors: list[SensorModel], console: Console) -> list[Method]:
    from edge_isp.evaluation.isp.methods import model_method, weights_methods

    models = asked.models
    if not (models or asked.weights or asked.classical):
        models = tuple(name for name, path in shipped_models().items() if read_card(path).task == "isp")
    methods = [model_method(model) for model in models]
    for path in asked.weights:
        methods += weights_methods(path, asked.network, asked.photos)
    if asked.classical:
        methods += _classical_methods(asked.tune_on, sensors, console)
    names = [way.name for way in methods]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two of the models or weights are called '{name}'; rename a file, or measure one at a time"
            )
    return methods


def _classical_methods(tune_on: tuple[Path, ...], sensors: list[SensorModel], console: Console) -> list[Method]:
    from edge_isp.evaluation.isp.classical import DENOISED, STRENGTHS, classical_methods, picture, tune

    if not tune_on:
        return classical_methods(STRENGTHS)
    images = [image for path in tune_on for image in (find_photos(path) if path.is_dir() else [path])]
    found = {}
    with progress(console, "strengths of denoising", len(DENOISED) * len(sensors) * len(GAINS)) as report:
        for sensor in sensors:
            for gain in GAINS:
                shots = [shoot(image, sensor, capture(_DAYLIGHT_K, gain)) for image in images]
                for name in DENOISED:
                    key = (name, sensor.profile.name, gain)
                    found[key] = tune((picture(shot, name), shot.photo) for shot in shots)
                    report(f"{sensor.profile.name}, gain {gain:g}")
    for key, strengths in found.items():
        console.print(f"{key}: {strengths},", highlight=False, soft_wrap=True)
    return classical_methods(found)


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar, and what to call after each step with what is being done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda doing: bars.update(bar, advance=1, description=doing)
