"""Training of RFDCSANet on simulated RAW."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_isp.calibration.simulation import SensorModel
from edge_isp.evaluation.isp.metrics import psnr_db
from edge_isp.training import trainer
from edge_isp.training.isp.colour import Colour
from edge_isp.training.isp.dead_channels import reinitialise_dead_channels
from edge_isp.training.simulation import Capture, Sample, TrainingPairs, simulate, stack
from edge_isp.training.trainer import Progress, Schedule

# In the first half of a training: what is drawn again needs time to learn.
REVIVE_EVERY = 500


def charbonnier(output: Tensor, target: Tensor) -> Tensor:
    """Mean of sqrt(difference**2 + 0.001**2): an L1 loss that is smooth at 0."""
    return torch.sqrt((output - target) ** 2 + 1e-6).mean()


@dataclass(frozen=True)
class _Pictures:
    """Pictures like the photographs; see `trainer.Objective`."""

    pairs: TrainingPairs
    validation: dict[str, Sample]
    colour: Colour
    measure: str = "psnr_db"

    def batches(self, first: int, last: int) -> Iterator[Sample]:
        return self.pairs.batches(first, last)

    def loss(self, network: nn.Module, batch: Sample, *, step: int, steps: int) -> Tensor:
        device = next(network.parameters()).device
        inputs, target, matrix = (torch.from_numpy(a).to(device) for a in (batch.inputs, batch.target, batch.matrix))
        x = inputs[:, : self.colour.input_planes].contiguous(memory_format=torch.channels_last)
        if step % REVIVE_EVERY == 0 and step < steps // 2:
            reinitialise_dead_channels(network, x)
        return charbonnier(self.colour.render(network(x), inputs, matrix), target)

    def validate(self, network: nn.Module) -> dict[str, float]:
        return validate(network, self.validation, self.colour)

    def pace(self, parameter: nn.Parameter) -> float:
        return 1.0


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
    """Trains a network on simulated RAW; see `trainer.train`."""
    pairs = TrainingPairs(photos, sensors, crop=schedule.crop, batch=schedule.batch, seed=schedule.seed)
    return trainer.train(network, _Pictures(pairs, validation, colour), schedule, run_folder, report)


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
