"""Weights that a training or an evaluation starts from."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn

from edge_isp.errors import ModelError
from edge_isp.training.networks.calibrated import CalibratedRFDCSANet


def start_from(network: nn.Module, path: Path) -> None:
    """Takes over the weights of a '-float.pt' file, of the same network or of one that it can be grown from.

    Raises:
        ModelError: the file cannot be read, or holds another network's weights.
    """
    try:
        weights = torch.load(path, weights_only=True, map_location="cpu")
        if isinstance(network, CalibratedRFDCSANet):
            network.start_from(weights)
        else:
            network.load_state_dict(weights)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path}: cannot start from these weights: {error}") from error
