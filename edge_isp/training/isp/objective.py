"""What an ISP network is trained for: pictures like the photographs whose simulated RAW it sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_isp.calibration.simulation import SensorModel
from edge_isp.training.isp.colour import Colour
from edge_isp.training.isp.dead_channels import reinitialise_dead_channels
from edge_isp.training.isp.psnr import psnr_db
from edge_isp.training.simulation import Capture, Sample, TrainingPairs, simulate, stack
from edge_isp.training.trainer import Schedule

# Steps between two reinitialisations of dead channels, in the first half of a training: what is drawn again needs time
# to learn.
REINITIALISE_EVERY = 500


def charbonnier(output: Tensor, target: Tensor) -> Tensor:
    """Mean of sqrt(difference**2 + 0.001**2): an L1 loss that is smooth at 0.

    Args:
        output: any shape.
        target: of the same shape.
    """
    return torch.sqrt((output - target) ** 2 + 1e-6).mean()


@dataclass(frozen=True)
class Pictures:
    """Pictures like the photographs; see `trainer.Objective`.

    Attributes:
        pairs: to learn from.
        validation: see `validation_samples`.
        colour: how the network's output becomes a picture.
        measure: see `trainer.Objective`.
        unit: see `trainer.Objective`.
        higher_is_better: see `trainer.Objective`.
    """

    pairs: TrainingPairs
    validation: dict[str, Sample]
    colour: Colour
    measure: str = "psnr_db"
    unit: str = "dB"
    higher_is_better: bool = True

    def batches(self, first: int, last: int) -> Iterator[Sample]:
        return self.pairs.batches(first, last)

    def loss(self, network: nn.Module, batch: Sample, *, step: int, steps: int) -> Tensor:
        device = next(network.parameters()).device
        inputs, target, matrix = (torch.from_numpy(a).to(device) for a in (batch.inputs, batch.target, batch.matrix))
        x = self.colour.network_input(inputs).contiguous(memory_format=torch.channels_last)
        if step % REINITIALISE_EVERY == 0 and step < steps // 2:
            reinitialise_dead_channels(network, x)
        return charbonnier(self.colour.render(network(x), inputs, matrix), target)

    def validate(self, network: nn.Module) -> dict[str, float]:
        return validate(network, self.validation, self.colour)

    def pace(self, parameter: nn.Parameter) -> float:
        return 1.0


def picture_objective(
    photos: list[NDArray[np.uint8]],
    validation: dict[str, Sample],
    sensors: Sequence[SensorModel],
    colour: Colour,
) -> Callable[[Schedule], Pictures]:
    """What a network is trained for on a schedule: pictures like the photographs, of their simulated RAW.

    Args:
        photos: uint8 (height, width, 3).
        validation: see `validation_samples`.
        sensors: that the photographs are seen through.
        colour: how the network's output becomes a picture.
    """

    def on(schedule: Schedule) -> Pictures:
        pairs = TrainingPairs(photos, sensors, crop=schedule.crop, batch=schedule.batch, seed=schedule.seed)
        return Pictures(pairs, validation, colour)

    return on


def validation_samples(photos: list[NDArray[np.uint8]], sensor: SensorModel, crop: int = 256) -> dict[str, Sample]:
    """The middle of each photograph at analogue gains 1, 4 and 16 under daylight, always the same noise.

    Args:
        photos: uint8 (height, width, 3).
        sensor: that they are seen through.
        crop: side of the middle in pixels, even.
    """
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
    """Mean PSNR in dB of each group of `validation_samples`.

    Args:
        network: is left in the mode (training or not) that it is in.
        groups: samples by name of the group.
        colour: how the network's output becomes a picture.
    """
    training = network.training
    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    result = {}
    for name, group in groups.items():
        values = []
        for i, target in enumerate(group.target):
            inputs, matrix = (torch.from_numpy(a[i : i + 1]).to(device) for a in (group.inputs, group.matrix))
            output = network(colour.network_input(inputs))
            values.append(psnr_db(colour.render(output, inputs, matrix)[0].cpu().numpy(), target))
        result[name] = float(np.mean(values))
    network.train(training)
    return result
