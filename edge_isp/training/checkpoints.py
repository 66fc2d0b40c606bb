"""What a training saves, so that it continues exactly as if it had not been interrupted."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_isp.errors import ModelError
from edge_isp.files import replace_files
from edge_isp.training.weights import read_state


@dataclass(frozen=True)
class TrainingState:
    """All that changes from step to step.

    Batches are no part of it: each is made from its number alone.

    Attributes:
        network: what is trained.
        average: the network of the averaged weights.
        optimiser: of the network's parameters.
    """

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer

    def save(self, path: Path, *, step: int, schedule: Mapping[str, object]) -> None:
        """Writes a checkpoint, whole or not at all.

        Args:
            path: of the file.
            step: how many steps were made.
            schedule: that the training follows: `restore` compares it.
        """
        document: dict[str, Any] = {
            "schedule": dict(schedule),
            "step": step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        content = io.BytesIO()
        torch.save(document, content)
        replace_files({path: content.getvalue()})

    def restore(self, path: Path, *, schedule: Mapping[str, object], device: torch.device) -> int:
        """Takes over what a checkpoint holds, if there is one; returns how many steps were made, else 0.

        Args:
            path: of the file.
            schedule: that the training is to follow.
            device: where the network is.

        Raises:
            ModelError: the checkpoint is of another schedule or another network, or cannot be read.
        """
        if not path.exists():
            return 0
        state = read_state(path, device)
        if state.get("schedule") != dict(schedule):
            raise ModelError(
                f"{path}: is of another schedule: expected {dict(schedule)}, found {state.get('schedule')}; "
                "remove it or name another folder"
            )
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(f"{path}: is of another network: {error}; remove it or name another folder") from error
        return int(state["step"])
