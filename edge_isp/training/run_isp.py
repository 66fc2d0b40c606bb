"""`edge-isp train isp` and `edge-isp evaluate isp`: from photographs to a model and its card, with progress shown."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn

from edge_isp.calibration.forward import SensorModel
from edge_isp.calibration.profile import load_profile
from edge_isp.models.card import find_model
from edge_isp.training import train_isp
from edge_isp.training.data import TrainingPairs, find_photos, load_photo
from edge_isp.training.evaluate_isp import evaluate
from edge_isp.training.export.card import write_isp_model
from edge_isp.training.export.graph import trace
from edge_isp.training.networks.ecb import merge
from edge_isp.training.networks.rfdcsanet import RFDCSANet
from edge_isp.training.quantisation import FakeQuantised, QuantisedGraph, quantise, save_quantised

# Photographs are used at a half and at a quarter of their size: both remove JPEG artefacts.
_REDUCTIONS = (2, 4)
_VALIDATION_REDUCTION = 3
_CALIBRATION_BATCHES = 8
_CALIBRATION_CROP = 256
_QUANTISED_LEARNING_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class IspRun:
    """What `edge-isp train isp` is asked to do; see its options."""

    photos: Path
    out: Path
    sensor: str
    steps: int
    quantised_steps: int
    batch: int
    crop: int
    validation: tuple[str, ...]
    seed: int


def run_training(run: IspRun, console: Console) -> Path:
    """Trains RFDCSANet-S in float, then quantised; returns the model's path.

    Writes into `run.out` the model and its card, and the weights: of the multi-branch network in float
    (`-float.pt`, to train on from) and of the quantised graph (`-int8.pt`, what the model was made of).
    """
    torch.manual_seed(run.seed)
    sensor = SensorModel(load_profile(run.sensor))
    trained_on = find_photos(run.photos, exclude=run.validation)
    photos = [load_photo(path, reduce) for path in trained_on for reduce in _REDUCTIONS]
    held_out = [
        load_photo(path, _VALIDATION_REDUCTION) for path in find_photos(run.photos) if path.stem in run.validation
    ]
    bench = _Bench(console, photos, held_out, sensor)

    schedule = train_isp.Schedule(steps=run.steps, batch=run.batch, crop=run.crop, seed=run.seed)
    network = bench.train("float", RFDCSANet(), schedule, run.out / "float")
    quantised = post_training_quantised(network, photos, sensor, crop=max(run.crop, _CALIBRATION_CROP))
    cases = train_isp.validation_pairs(held_out, sensor)
    quality = {"float32": train_isp.validate(network, cases), "ptq": train_isp.validate(_Integers(quantised), cases)}
    if run.quantised_steps:
        schedule = train_isp.Schedule(
            steps=run.quantised_steps,
            batch=run.batch,
            crop=run.crop,
            learning_rate=_QUANTISED_LEARNING_RATE,
            seed=run.seed + 1,
        )
        trained = bench.train("int8", FakeQuantised(quantised), schedule, run.out / "int8")
        assert isinstance(trained, FakeQuantised)
        quantised = trained.quantised()
        quality["qat"] = train_isp.validate(_Integers(quantised), cases)
    name = f"rfdcsanet-s-{sensor.profile.name}"
    torch.save(network.state_dict(), run.out / f"{name}-float.pt")
    save_quantised(quantised, run.out / f"{name}-int8.pt")
    training = {
        "photographs": len(trained_on),
        "steps": run.steps,
        "quantisation_aware_steps": run.quantised_steps,
        "batch": run.batch,
        "crop": run.crop,
        "seed": run.seed,
        "hours": round(sum(_hours(log) for log in run.out.glob("*/log.jsonl")), 2),
        "commit": _commit(),
    }
    return write_isp_model(
        quantised, run.out, name=name, sensor=sensor.profile.name, training=training, quality=quality
    )


def run_evaluation(model: str, sensor: str, images: Path, console: Console) -> None:
    """Prints the PSNR of a model's pictures of simulated RAW, by image and gain."""
    results: dict[str, dict[float, float]] = defaultdict(dict)
    card = find_model(model, sensor)
    card.verify_file()
    for stem, gain, psnr in evaluate(card, SensorModel(load_profile(sensor)), images):
        results[stem][gain] = psnr
    table = Table(title=f"{card.name}, PSNR in dB")
    table.add_column("image")
    gains = list(next(iter(results.values())))
    for gain in gains:
        table.add_column(f"gain {gain:.0f}", justify="right")
    for stem, values in results.items():
        table.add_row(stem, *(f"{values[gain]:.2f}" for gain in gains))
    table.add_section()
    table.add_row("mean", *(f"{np.mean([v[gain] for v in results.values()]):.2f}" for gain in gains))
    console.print(table)


def post_training_quantised(
    network: nn.Module, photos: list[NDArray[np.uint8]], sensor: SensorModel, *, crop: int
) -> QuantisedGraph:
    """Merges a trained network and quantises it on simulated crops of the photographs."""
    pairs = TrainingPairs(photos, sensor, crop=crop, batch=8, seed=77)
    samples = (torch.from_numpy(pairs.make(i)[0]) for i in range(_CALIBRATION_BATCHES))
    return quantise(trace(merge(network).eval()), samples)


class _Integers(nn.Module):
    """The exact integer arithmetic of a quantised graph, for 0 to 1 in and out."""

    def __init__(self, quantised: QuantisedGraph) -> None:
        super().__init__()
        self._quantised = quantised

    def forward(self, x: Tensor) -> Tensor:
        return self._quantised.run_real(x)


@dataclass(frozen=True)
class _Bench:
    """Where networks are trained: on which pictures, and who is shown the progress."""

    console: Console
    photos: list[NDArray[np.uint8]]
    held_out: list[NDArray[np.uint8]]
    sensor: SensorModel

    def train(self, what: str, network: nn.Module, schedule: train_isp.Schedule, folder: Path) -> nn.Module:
        """Trains with a progress bar; see `train_isp.train`."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[measured]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            bar = progress.add_task(what, total=schedule.steps, measured="")
            validated = ""

            def report(state: train_isp.Progress) -> None:
                nonlocal validated
                if state.validation_psnr_db:
                    validated = "  ".join(f"{k} {v:.2f} dB" for k, v in state.validation_psnr_db.items())
                progress.update(bar, completed=state.step, measured=f"loss {state.loss:.4f}  {validated}")

            return train_isp.train(network, self.photos, self.held_out, self.sensor, schedule, folder, report)


def _hours(log: Path) -> float:
    """Time that a run took, from its log; a resumed run's clock starts again."""
    seconds = [json.loads(line)["seconds"] for line in log.read_text(encoding="utf-8").splitlines()]
    ends = [a for a, b in zip(seconds, [*seconds[1:], 0.0], strict=True) if b < a]
    return float(sum(ends)) / 3600


def _commit() -> str:
    result = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
