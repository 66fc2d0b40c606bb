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
from edge_isp.training.networks.ecb import merge
from edge_isp.training.quantisation.arithmetic import QuantisedGraph
from edge_isp.training.quantisation.post_training import quantise
from edge_isp.training.simulation import TrainingPairs

_CALIBRATION_BATCHES = 16
_CALIBRATION_CROP = 128


def calibration_samples(
    photos: list[NDArray[np.uint8]], sensors: Sequence[SensorModel], colour: Colour
) -> list[Tensor]:
    """Inputs of a network, of simulated crops of photographs.

    The crops have no defective pixels, whose values lie far from all others: no range need hold them.

    Args:
        photos: uint8 (height, width, 3), larger than a crop.
        sensors: that the photographs are seen through.
        colour: says what the network reads.
    """
    pairs = TrainingPairs(photos, sensors, crop=_CALIBRATION_CROP, batch=8, seed=77, defects=False)
    return [colour.network_input(torch.from_numpy(pairs.make(i).inputs)) for i in range(_CALIBRATION_BATCHES)]


def post_training_quantised(network: nn.Module, samples: list[Tensor], colour: Colour) -> QuantisedGraph:
    """Merges a trained network and quantises it.

    Args:
        network: with its ECBs; is not changed.
        samples: see `calibration_samples`.
        colour: how the network's output becomes a picture.
    """
    return quantise(trace(merge(network).eval()), samples, output=colour.output)
