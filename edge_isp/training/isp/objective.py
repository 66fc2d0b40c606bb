"""What an ISP network is trained for: pictures like the photographs whose simulated RAW it sees.

It needs PyTorch and NumPy only, wherever the samples come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from edge_isp.training.isp.colour import Colour
from edge_isp.training.isp.dead_channels import reinitialise_dead_channels
from edge_isp.training.isp.psnr import psnr_db

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


class Exposures(Protocol):
    """A batch: arrays (`training.simulation.samples.Sample`) or tensors (`device_simulation.DeviceSample`)."""

    @property
    def inputs(self) -> Any:
        """(batch, 8, height/2, width/2)."""
        ...

    @property
    def target(self) -> Any:
        """(batch, 3, height, width)."""
        ...

    @property
    def matrix(self) -> Any:
        """(batch, 3, 3)."""
        ...


class Pairs(Protocol):
    """Where batches come from."""

    def batches(self, first: int, last: int) -> Iterator[Exposures]:
        """Batches `first` to `last` (exclusive), each of which depends on its number alone.

        Args:
            first: number of the first batch.
            last: number after that of the last batch.
        """
        ...


@dataclass(frozen=True)
class Pictures:
    """Pictures like the photographs; see `trainer.Objective`.

    Attributes:
        pairs: to learn from.
        validation: samples by group, see `picture_objective.validation_samples`.
        colour: how the network's output becomes a picture.
        measure: see `trainer.Objective`.
        unit: see `trainer.Objective`.
        higher_is_better: see `trainer.Objective`.
    """

    pairs: Pairs
    validation: Mapping[str, Exposures]
    colour: Colour
    measure: str = "psnr_db"
    unit: str = "dB"
    higher_is_better: bool = True

    def batches(self, first: int, last: int) -> Iterator[Exposures]:
        return self.pairs.batches(first, last)

    def loss(self, network: nn.Module, batch: Exposures, *, step: int, steps: int) -> Tensor:
        device = next(network.parameters()).device
        inputs, target, matrix = (torch.as_tensor(a, device=device) for a in (batch.inputs, batch.target, batch.matrix))
        x = self.colour.network_input(inputs).contiguous(memory_format=torch.channels_last)
        if step % REINITIALISE_EVERY == 0 and step < steps // 2:
            reinitialise_dead_channels(network, x)
        # Half the memory traffic on a GPU; rendering and weights stay in float32.
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = network(x)
        return charbonnier(self.colour.render(output.float(), inputs, matrix), target)

    def validate(self, network: nn.Module) -> dict[str, float]:
        return validate(network, self.validation, self.colour)

    def pace(self, parameter: nn.Parameter) -> float:
        return 1.0


@torch.no_grad()
def validate(network: nn.Module, groups: Mapping[str, Exposures], colour: Colour) -> dict[str, float]:
    """Mean PSNR in dB of each group of samples.

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
            inputs, matrix = (torch.as_tensor(a[i : i + 1], device=device) for a in (group.inputs, group.matrix))
            output = network(colour.network_input(inputs))
            expected = torch.as_tensor(target).cpu().numpy()
            values.append(psnr_db(colour.render(output, inputs, matrix)[0].cpu().numpy(), expected))
        result[name] = float(np.mean(values))
    network.train(training)
    return result


@dataclass(frozen=True)
class SeveralPictures:
    """Several networks on the same batches, in one `nn.ModuleDict`: what differs between them is their structure alone.

    The gradients of one network do not depend on the others; the trainer limits each one's by itself.

    Attributes:
        objectives: of each network, by its name; all batches are those of the first.
        measure: see `trainer.Objective`.
        unit: see `trainer.Objective`.
        higher_is_better: see `trainer.Objective`.
    """

    objectives: Mapping[str, Pictures]
    measure: str = "psnr_db"
    unit: str = "dB"
    higher_is_better: bool = True

    def batches(self, first: int, last: int) -> Iterator[Exposures]:
        return next(iter(self.objectives.values())).batches(first, last)

    def loss(self, network: nn.Module, batch: Exposures, *, step: int, steps: int) -> Tensor:
        assert isinstance(network, nn.ModuleDict)
        losses = [
            objective.loss(network[name], batch, step=step, steps=steps) for name, objective in self.objectives.items()
        ]
        return torch.stack(losses).sum()

    def validate(self, network: nn.Module) -> dict[str, float]:
        assert isinstance(network, nn.ModuleDict)
        return {
            f"{name} {group}": value
            for name, objective in self.objectives.items()
            for group, value in objective.validate(network[name]).items()
        }

    def pace(self, parameter: nn.Parameter) -> float:
        return 1.0
