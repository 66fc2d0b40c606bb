"""Quantisation of an ISP network after training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_isp.calibration.simulation import SensorModel
from edge_isp.training.graph import trace
from edge_isp.training.isp.colour import Colour
from edge_isp.training.isp.objective import Exposures, validate
from edge_isp.training.networks.ecb import merge
from edge_isp.training.quantisation.arithmetic import QuantisedGraph
from edge_isp.training.quantisation.aware_training import FakeQuantised
from edge_isp.training.quantisation.post_training import quantise
from edge_isp.training.quantisation.ranges import search_ranges
from edge_isp.training.simulation.samples import Sample, TrainingPairs

# Batches in a set, and sets. Large sets hold more accidents, whose ranges cost more than they save.
_CALIBRATION_BATCHES, _CALIBRATION_SETS = 6, 4
_CALIBRATION_CROP = 128


def calibration_samples(photos: list[NDArray[np.uint8]], sensors: Sequence[SensorModel]) -> list[list[Sample]]:
    """Sets of simulated crops of photographs.

    The crops have no defective pixels, whose values lie far from all others: no range need hold them.

    Args:
        photos: uint8 (height, width, 3), larger than a crop.
        sensors: that the photographs are seen through.
    """
    pairs = TrainingPairs(photos, sensors, crop=_CALIBRATION_CROP, batch=8, seed=77, defects=False)
    return [
        [pairs.make(number * _CALIBRATION_BATCHES + i) for i in range(_CALIBRATION_BATCHES)]
        for number in range(_CALIBRATION_SETS)
    ]


def post_training_quantised(
    network: nn.Module, sets: Sequence[Sequence[Exposures]], colour: Colour, validation: Mapping[str, Exposures]
) -> QuantisedGraph:
    """Merges a trained network and quantises it, with the ranges of the best pictures.

    What is rare in the samples, such as a very saturated colour, decides much of the ranges: so several sets of them
    are tried, and the best one's ranges are searched on.

    Args:
        network: with its ECBs; is not changed.
        sets: of samples, see `calibration_samples`.
        colour: how the network's output becomes a picture.
        validation: samples by group, on which the pictures are compared; the first set where there are none.
    """
    groups = validation or {str(i): sample for i, sample in enumerate(sets[0])}

    def loss(quantised: nn.Module) -> float:
        return -sum(validate(quantised, groups, colour).values())

    graph = trace(merge(network).eval())
    candidates = [quantise(graph, network_inputs(samples, colour), output=colour.output) for samples in sets]
    best = min(candidates, key=lambda candidate: loss(FakeQuantised(candidate, exact_weights=True)))
    return search_ranges(best, loss)


def network_inputs(samples: Iterable[Exposures], colour: Colour) -> list[Tensor]:
    """What a network reads of samples.

    Args:
        samples: see `calibration_samples`.
        colour: of the network.
    """
    return [colour.network_input(torch.as_tensor(sample.inputs)) for sample in samples]
