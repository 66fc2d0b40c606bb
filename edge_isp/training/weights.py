"""Files of weights: read in one place, by training and by evaluation."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_isp.errors import ModelError
from edge_isp.training.networks.calibrated import CalibratedRFDCSANet


def read_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a file of weights or a checkpoint holds.

    Args:
        path: of a file that `edge-isp train` wrote.
        device: where its tensors are put.

    Raises:
        ModelError: the file cannot be read, or holds something else.
    """
    try:
        state = torch.load(path, weights_only=True, map_location=device)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # PyTorch's message is long, and recommends to execute what the file says.
        raise ModelError(f"{path}: expected weights that 'edge-isp train' wrote, found something else") from error
    if not isinstance(state, dict):
        raise ModelError(f"{path}: expected weights that 'edge-isp train' wrote, found a {type(state).__name__}")
    return state


def start_from(network: nn.Module, path: Path) -> None:
    """Takes over the weights of a '-float.pt' file, of the same network or of one that it can be grown from.

    Args:
        network: is changed in place.
        path: of the file.

    Raises:
        ModelError: the file cannot be read, or holds another network's weights.
    """
    weights = read_state(path)
    try:
        if isinstance(network, CalibratedRFDCSANet):
            network.start_from(weights)
        else:
            network.load_state_dict(weights)
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{path}: cannot start from these weights: {error}") from error
