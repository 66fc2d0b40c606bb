"""Training of RFDCSANet on simulated RAW."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_isp.calibration.forward import SensorModel
from edge_isp.training.colour import Colour
from edge_isp.training.data import Capture, Sample, TrainingPairs, simulate, stack
from edge_isp.training.metrics import psnr_db
from edge_isp.training.revival import revive

CHECKPOINT_EVERY = 250
# In the first half of a training: what is drawn again needs time to learn.
REVIVE_EVERY = 500
EMA_DECAY = 0.999


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch: crops a step.
        crop: side of a crop in pixels, even.
        learning_rate: peak, reached after `warm_up` steps, then a cosine down to a hundredth.
        seed: of weights, crops and noise.
    """

    steps: int = 24000
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1e-3
    warm_up: int = 100
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step `step` (from 0)."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        phase = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a training run after a step, for whoever shows it."""

    step: int
    steps: int
    loss: float
    validation_psnr_db: dict[str, float] | None


def charbonnier(output: Tensor, target: Tensor) -> Tensor:
    """Mean of sqrt(difference**2 + 0.001**2): an L1 loss that is smooth at 0."""
    return torch.sqrt((output - target) ** 2 + 1e-6).mean()


def train(
    network: nn.Module,
    photos: list[NDArray[np.uint8]],
    validation: dict[str, Sample],
    sensors: Sequence[SensorModel],
    colour: Colour,
    schedule: Schedule,
    run_folder: Path,
    report: Callable[[Progress], None] = lambda progress: None,
) -> nn.Module:
    """Trains a network on simulated RAW; returns the averaged weights' network.

    Runs on a GPU where there is one.

    Writes `checkpoint.pt` (resumed from, if it is there and its schedule is this one) and `log.jsonl`
    into `run_folder`.

    Raises:
        ValueError: the checkpoint in `run_folder` is of another schedule.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    checkpoint = run_folder / "checkpoint.pt"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device, memory_format=torch.channels_last).train()
    average = copy.deepcopy(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=schedule.learning_rate, betas=(0.9, 0.99))
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        if state["schedule"] != asdict(schedule):
            raise ValueError(
                f"{checkpoint}: is of another schedule ({state['schedule']}); remove it or name another folder"
            )
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]

    pairs = TrainingPairs(photos, sensors, crop=schedule.crop, batch=schedule.batch, seed=schedule.seed)
    started = time.monotonic()
    for step, batch in enumerate(pairs.batches(first, schedule.steps), first):
        for group in optimiser.param_groups:
            group["lr"] = schedule.learning_rate_at(step)
        inputs, target, matrix = (torch.from_numpy(a).to(device) for a in (batch.inputs, batch.target, batch.matrix))
        x = inputs[:, : colour.input_planes].contiguous(memory_format=torch.channels_last)
        if step % REVIVE_EVERY == 0 and step < schedule.steps // 2:
            revive(network, x)
        loss = charbonnier(colour.render(network(x), inputs, matrix), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        _update_average(average, network, step)

        done = step + 1
        psnr = None
        if done % CHECKPOINT_EVERY == 0 or done == schedule.steps:
            psnr = validate(average, validation, colour)
            _append(
                run_folder / "log.jsonl",
                {
                    "step": done,
                    "loss": float(loss.detach()),
                    "validation_psnr_db": psnr,
                    "seconds": round(time.monotonic() - started, 1),
                },
            )
            _save(
                checkpoint,
                {
                    "schedule": asdict(schedule),
                    "step": done,
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                },
            )
        report(Progress(done, schedule.steps, float(loss.detach()), psnr))
    return average.eval()


def validation_samples(photos: list[NDArray[np.uint8]], sensor: SensorModel, crop: int = 256) -> dict[str, Sample]:
    """The middle of each photograph at analogue gains 1, 4 and 16 under daylight, always the same noise."""
    out: dict[str, Sample] = {}
    for gain in (1.0, 4.0, 16.0) if photos else ():
        capture = Capture(colour_temperature_k=5700, exposure=1.0, analogue_gain=gain)
        samples = []
        for i, photo in enumerate(photos):
            y, x = (photo.shape[0] - crop) // 4 * 2, (photo.shape[1] - crop) // 4 * 2
            window = photo[max(y, 0) :, max(x, 0) :][:crop, :crop]
            samples.append(simulate(window, sensor, capture, np.random.default_rng([1000, i])))
        out[f"gain{gain:.0f}"] = stack(samples)
    return out


@torch.no_grad()
def validate(network: nn.Module, groups: dict[str, Sample], colour: Colour) -> dict[str, float]:
    """Mean PSNR in dB of each group of `validation_samples`."""
    training = network.training
    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    result = {}
    for name, group in groups.items():
        values = []
        for i, target in enumerate(group.target):
            inputs, matrix = (torch.from_numpy(a[i : i + 1]).to(device) for a in (group.inputs, group.matrix))
            output = network(inputs[:, : colour.input_planes])
            values.append(psnr_db(colour.render(output, inputs, matrix)[0].cpu().numpy(), target))
        result[name] = float(np.mean(values))
    network.train(training)
    return result


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, step: int) -> None:
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    for a, p in zip(average.parameters(), network.parameters(), strict=True):
        a.lerp_(p, 1 - decay)


def _append(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")


def _save(path: Path, state: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)
