"""`edge-isp train isp`: from photographs to a model and its card, with progress shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from edge_isp.calibration.profile import Noise, load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.errors import ModelError
from edge_isp.tasks.isp import UNKNOWN_SHOT_NOISE
from edge_isp.training.export.card import write_isp_model
from edge_isp.training.graph import trace
from edge_isp.training.isp import training as train_isp
from edge_isp.training.isp.architectures import ARCHITECTURES
from edge_isp.training.isp.colour import Colour
from edge_isp.training.networks.ecb import merge
from edge_isp.training.progress import shown
from edge_isp.training.quantisation.arithmetic import FakeQuantised, Integers, QuantisedGraph, quantise, save_quantised
from edge_isp.training.run_metadata import commit, hours
from edge_isp.training.simulation import Sample, TrainingPairs, find_photos, load_photo, sensors_of_generic_weights
from edge_isp.training.trainer import Schedule
from edge_isp.training.weights import start_from

# Photographs are used at a half and at a quarter of their size: both remove JPEG artefacts.
REDUCTIONS = (2, 4)
_VALIDATION_REDUCTION = 3
_CALIBRATION_BATCHES = 16
_CALIBRATION_CROP = 128
_QUANTISED_LEARNING_RATE = 5e-5

# The name of the weights of all sensors, and the one that they are validated on.
_GENERIC = "generic"
_VALIDATION_PROFILE = "imx219"

# Of a sensor of which it is not known: shot noise as the run time guesses it, read noise of the IMX477.
_ASSUMED_NOISE = Noise(shot=UNKNOWN_SHOT_NOISE, read_pre_gain=3.3e-8, read_post_gain=1.0e-7)


@dataclass(frozen=True, slots=True)
class IspRun:
    """What `edge-isp train isp` is asked to do; see its options."""

    photos: Path
    out: Path
    model: str
    sensor: str
    init: Path | None
    steps: int
    quantised_steps: int
    batch: int
    crop: int
    learning_rate: float
    validation: tuple[str, ...]
    seed: int


def run_training(run: IspRun, console: Console) -> Path:
    """Trains a network in float, then quantised; returns the model's path.

    Writes into `run.out` the model and its card, and the weights: of the multi-branch network in float
    (`-float.pt`, to train on from) and of the quantised graph (`-int8.pt`, what the model was made of).

    Raises:
        ModelError: there is no such network, or the weights to start from are another's.
    """
    if run.model not in ARCHITECTURES:
        raise ModelError(f"no network '{run.model}'; there are {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[run.model]
    torch.manual_seed(run.seed)
    network = architecture.build()
    if run.init is not None:
        start_from(network, run.init)
    sensors, validated_on = _sensors(run, console)
    trained_on = find_photos(run.photos, exclude=run.validation)
    photos = [load_photo(path, reduce) for path in trained_on for reduce in REDUCTIONS]
    held_out = [
        load_photo(path, _VALIDATION_REDUCTION) for path in find_photos(run.photos) if path.stem in run.validation
    ]
    samples = train_isp.validation_samples(held_out, validated_on)
    bench = _Bench(console, photos, samples, sensors, architecture.colour)

    schedule = Schedule(steps=run.steps, batch=run.batch, crop=run.crop, learning_rate=run.learning_rate, seed=run.seed)
    network = bench.train("float", network, schedule, run.out / "float").cpu()
    name = f"{run.model}-{validated_on.profile.name if run.sensor != _GENERIC else _GENERIC}"
    torch.save(network.state_dict(), run.out / f"{name}-float.pt")
    quantised = post_training_quantised(network, photos, sensors, architecture.colour)
    quality = {
        "float32": train_isp.validate(network, samples, architecture.colour),
        "ptq": train_isp.validate(Integers(quantised), samples, architecture.colour),
    }
    if run.quantised_steps:
        schedule = Schedule(
            steps=run.quantised_steps,
            batch=run.batch,
            crop=run.crop,
            learning_rate=_QUANTISED_LEARNING_RATE,
            seed=run.seed + 1,
        )
        trained = bench.train("int8", FakeQuantised(quantised), schedule, run.out / "int8").cpu()
        assert isinstance(trained, FakeQuantised)
        aware = trained.quantised()
        quality["qat"] = train_isp.validate(Integers(aware), samples, architecture.colour)
        if sum(quality["qat"].values()) >= sum(quality["ptq"].values()):
            quantised = aware
    save_quantised(quantised, run.out / f"{name}-int8.pt")
    training = {
        "photographs": len(trained_on),
        "steps": run.steps,
        "quantisation_aware_steps": run.quantised_steps,
        "batch": run.batch,
        "crop": run.crop,
        "learning_rate": run.learning_rate,
        "quantisation_aware_learning_rate": _QUANTISED_LEARNING_RATE,
        "seed": run.seed,
        **({"initial_weights": run.init.name} if run.init is not None else {}),
        "hours": hours(run.out),
        "commit": commit(),
    }
    return write_isp_model(
        quantised,
        run.out,
        name=name,
        sensor=run.sensor if run.sensor == _GENERIC else validated_on.profile.name,
        colour=architecture.colour,
        training=training,
        quality=quality,
    )


def _sensors(run: IspRun, console: Console) -> tuple[list[SensorModel], SensorModel]:
    """The sensors to train through, and the one to validate on."""
    if run.sensor != _GENERIC:
        profile = load_profile(run.sensor)
        if profile.noise is None:
            console.print(
                f"sensor profile '{profile.name}' has no noise: that of a small sensor is assumed; "
                "'edge-isp calibrate noise' measures it"
            )
            profile = replace(profile, noise=_ASSUMED_NOISE)
        sensor = SensorModel(profile)
        return [sensor], sensor
    return sensors_of_generic_weights(seed=run.seed), SensorModel(load_profile(_VALIDATION_PROFILE))


def post_training_quantised(
    network: nn.Module, photos: list[NDArray[np.uint8]], sensors: Sequence[SensorModel], colour: Colour
) -> QuantisedGraph:
    """Merges a trained network and quantises it on simulated crops of the photographs.

    They have no defective pixels, whose values lie far from all others: no range need hold them.
    """
    pairs = TrainingPairs(photos, sensors, crop=_CALIBRATION_CROP, batch=8, seed=77, defects=False)
    samples = (torch.from_numpy(pairs.make(i).inputs[:, : colour.input_planes]) for i in range(_CALIBRATION_BATCHES))
    return quantise(trace(merge(network).eval()), samples, output=colour.output)


@dataclass(frozen=True)
class _Bench:
    """Where networks are trained: on what, and who is shown the progress."""

    console: Console
    photos: list[NDArray[np.uint8]]
    validation: dict[str, Sample]
    sensors: list[SensorModel]
    colour: Colour

    def train(self, what: str, network: nn.Module, schedule: Schedule, folder: Path) -> nn.Module:
        """Trains with a progress bar; see `train_isp.train`."""
        with shown(self.console, what, "dB") as report:
            return train_isp.train(
                network, self.photos, self.validation, self.sensors, self.colour, schedule, folder, report
            )
