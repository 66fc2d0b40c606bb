"""Quantisation of an ISP network after training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_isp.calibration.simulation import SensorModel
from edge_isp.training.graph import trace
from edge_isp.training.isp.colour import Colour
from edge_isp.training.isp.objective import Exposures, charbonnier
from edge_isp.training.networks.ecb import merge
from edge_isp.training.quantisation.arithmetic import QuantisedGraph
from edge_isp.training.quantisation.post_training import quantise
from edge_isp.training.quantisation.ranges import search_ranges
from edge_isp.training.simulation import Sample, TrainingPairs

# More of them hold more accidents, and their ranges cost more than they save: 16 lose 0.4 dB of 6.
_CALIBRATION_BATCHES = 6
_CALIBRATION_CROP = 128
# Of these, those that ranges are searched on.
_SEARCH_BATCHES = 3


def calibration_samples(photos: list[NDArray[np.uint8]], sensors: Sequence[SensorModel]) -> list[Sample]:
    """Simulated crops of photographs.

    The crops have no defective pixels, whose values lie far from all others: no range need hold them.

    Args:
        photos: uint8 (height, width, 3), larger than a crop.
        sensors: that the photographs are seen through.
    """
    pairs = TrainingPairs(photos, sensors, crop=_CALIBRATION_CROP, batch=8, seed=77, defects=False)
    return [pairs.make(i) for i in range(_CALIBRATION_BATCHES)]


def post_training_quantised(network: nn.Module, samples: Sequence[Exposures], colour: Colour) -> QuantisedGraph:
    """Merges a trained network and quantises it, with the ranges of the best pictures.

    Args:
        network: with its ECBs; is not changed.
        samples: see `calibration_samples`.
        colour: how the network's output becomes a picture.
    """

    def loss(quantised: nn.Module) -> float:
        total = 0.0
        for sample in samples[:_SEARCH_BATCHES]:
            planes, target, matrix = (torch.as_tensor(a) for a in (sample.inputs, sample.target, sample.matrix))
            picture = colour.render(quantised(colour.network_input(planes)), planes, matrix)
            total += float(charbonnier(picture, target))
        return total

    inputs = network_inputs(samples, colour)
    return search_ranges(quantise(trace(merge(network).eval()), inputs, output=colour.output), loss)


def network_inputs(samples: Sequence[Exposures], colour: Colour) -> list[Tensor]:
    """What a network reads of samples.

    Args:
        samples: see `calibration_samples`.
        colour: of the network.
    """
    return [colour.network_input(torch.as_tensor(sample.inputs)) for sample in samples]
