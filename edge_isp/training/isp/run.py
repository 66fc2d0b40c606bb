"""`edge-isp train isp`: from photographs to a model and its card, with progress shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

import torch
from rich.console import Console

from edge_isp.calibration.profile import UNKNOWN_NOISE, load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.errors import DatasetError
from edge_isp.training.finish import Quality, Stages, finish
from edge_isp.training.isp.architectures import architecture_of, check_crop
from edge_isp.training.isp.card import write_isp_model
from edge_isp.training.isp.picture_objective import picture_objective, validation_samples
from edge_isp.training.isp.quantise import calibration_samples, network_inputs, post_training_quantised
from edge_isp.training.quantisation.arithmetic import QuantisedGraph
from edge_isp.training.quantisation.rounding import round_weights
from edge_isp.training.simulation.samples import (
    Sample,
    find_photos,
    load_photo,
    load_training_photos,
    sensors_of_generic_weights,
)
from edge_isp.training.trainer import Schedule
from edge_isp.training.weights import start_from

_VALIDATION_REDUCTION = 3
_AWARE_LEARNING_RATE = 5e-6

# The name of the weights of all sensors, and the one that they are validated on.
_GENERIC = "generic"
_VALIDATION_PROFILE = "imx219"


@dataclass(frozen=True, slots=True, kw_only=True)
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
    """Trains a network in float, then quantised; returns the model's path. See `finish` for the files.

    Args:
        run: what to do.
        console: where progress is shown.

    Raises:
        ModelError: there is no such network, or the weights to start from are another's.
        DatasetError: the crops do not fit the network, there are no photographs, or none is called as one that is kept
            for validation.
        ProfileError: there is no such sensor profile.
    """
    architecture = architecture_of(run.model)
    torch.manual_seed(run.seed)
    network = architecture.build()
    check_crop(run.model, network, run.crop)
    if run.init is not None:
        start_from(network, run.init)
    sensors, validated_on = _sensors(run, console)
    trained_on = find_photos(run.photos, exclude=run.validation)
    photos = load_training_photos(trained_on)
    held_out = [load_photo(path, _VALIDATION_REDUCTION) for path in _held_out(run)]
    sensor = _GENERIC if run.sensor == _GENERIC else validated_on.profile.name
    name = f"{run.model}-{sensor}"

    def write(quantised: QuantisedGraph, training: Mapping[str, object], quality: Quality) -> Path:
        return write_isp_model(
            quantised,
            run.out,
            name=name,
            sensor=sensor,
            colour=architecture.colour,
            training=training,
            quality=quality,
        )

    @cache
    def samples() -> list[list[Sample]]:
        return calibration_samples(photos, sensors)

    validation = validation_samples(held_out, validated_on)
    schedule = Schedule(steps=run.steps, batch=run.batch, crop=run.crop, learning_rate=run.learning_rate, seed=run.seed)
    aware = replace(schedule, steps=run.quantised_steps, learning_rate=_AWARE_LEARNING_RATE, seed=run.seed + 1)
    stages = Stages(
        name=name,
        objective=picture_objective(photos, validation, sensors, architecture.colour),
        schedule=schedule,
        aware_schedule=aware if run.quantised_steps else None,
        quantise=lambda trained: post_training_quantised(trained, samples(), architecture.colour, validation),
        rounding=lambda quantised: round_weights(quantised, network_inputs(chain(*samples()), architecture.colour)),
        write_model=write,
        facts={
            "photographs": len(trained_on),
            "batch": run.batch,
            "crop": run.crop,
            **({"initial_weights": run.init.name} if run.init is not None else {}),
        },
    )
    return finish(network, stages, run.out, console)


def _held_out(run: IspRun) -> list[Path]:
    """The photographs that are kept for validation."""
    found = [path for path in find_photos(run.photos) if path.stem in run.validation]
    missing = sorted(set(run.validation) - {path.stem for path in found})
    if missing:
        raise DatasetError(f"{run.photos}: no photograph is called '{missing[0]}', which is to be kept for validation")
    return found


def _sensors(run: IspRun, console: Console) -> tuple[list[SensorModel], SensorModel]:
    """The sensors to train through, and the one to validate on."""
    if run.sensor == _GENERIC:
        return sensors_of_generic_weights(seed=run.seed), SensorModel(load_profile(_VALIDATION_PROFILE))
    profile = load_profile(run.sensor)
    if profile.noise is None:
        console.print(
            f"sensor profile '{profile.name}' has no noise: that of a small sensor is assumed; "
            "'edge-isp calibrate noise' measures it"
        )
        profile = replace(profile, noise=UNKNOWN_NOISE)
    sensor = SensorModel(profile)
    return [sensor], sensor
