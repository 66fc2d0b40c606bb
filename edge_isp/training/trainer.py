"""The trainer: averages weights, logs, validates, and continues exactly where it was interrupted."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from edge_isp.training.checkpoints import TrainingState

CHECKPOINT_EVERY = 250
EMA_DECAY = 0.999


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch: crops per step.
        warm_up: steps in which the learning rate rises.
        crop: side of a crop in pixels, see `isp.architectures.check_crop`.
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
        """Learning rate of step `step` (from 0).

        Args:
            step: number of the step.
        """
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        phase = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a training after a step, for display.

    Attributes:
        step: how many were made.
        steps: how many will be.
        loss: of the step.
        validation: what was measured after the step, by group; None where nothing was.
    """

    step: int
    steps: int
    loss: float
    validation: dict[str, float] | None


Batch = TypeVar("Batch")


class Objective(Protocol[Batch]):
    """What a network is trained for."""

    @property
    def measure(self) -> str:
        """What `validate` gives, as the log calls it ("psnr_db")."""
        ...

    @property
    def unit(self) -> str:
        """Of what `validate` gives ("dB"); empty where it has none."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether more of what `validate` gives is better."""
        ...

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Batches `first` to `last` (exclusive); each depends on its number alone, so that training resumes exactly.

        Args:
            first: number of the first batch.
            last: number after that of the last batch.
        """
        ...

    def loss(self, network: nn.Module, batch: Batch, *, step: int, steps: int) -> Tensor:
        """The loss of step `step` of `steps`.

        Args:
            network: that is trained.
            batch: of the step.
            step: number of the step, from 0.
            steps: of the schedule.
        """
        ...

    def validate(self, network: nn.Module) -> dict[str, float]:
        """How good the averaged network is, by group of the validation set.

        Args:
            network: of the averaged weights, or a quantised one.
        """
        ...

    def pace(self, parameter: nn.Parameter) -> float:
        """Factor on a parameter's learning rate.

        Args:
            parameter: of the network.
        """
        ...


def train(
    network: nn.Module,
    objective: Objective[Batch],
    schedule: Schedule,
    run_folder: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    *,
    until: float = math.inf,
) -> nn.Module:
    """Trains a network; returns the averaged weights' network.

    Runs on a GPU where there is one. Writes `checkpoint.pt` (and continues from it, if it is there) and `log.jsonl`.
    The networks of an `nn.ModuleDict` are trained side by side, the gradient of each limited by itself.

    Args:
        network: is changed in place.
        objective: what it is trained for.
        schedule: how long and how fast.
        run_folder: where the files are; it is made if needed.
        report: called after each step.
        until: `time.monotonic()` after which it stops behind a checkpoint; a further call continues there.

    Raises:
        ModelError: the checkpoint in `run_folder` is of another schedule or network, or cannot be read.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    checkpoint = run_folder / "checkpoint.pt"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # PyTorch's types leave memory_format out.
    network = network.to(device, memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    trained = [p for p in network.parameters() if p.requires_grad]
    state = TrainingState(network, copy.deepcopy(network), _optimiser(trained, objective, schedule))
    separate = network.values() if isinstance(network, nn.ModuleDict) else [network]
    parts = [[p for p in one.parameters() if p.requires_grad] for one in separate]
    first = state.restore(checkpoint, schedule=asdict(schedule), device=device)

    started = time.monotonic()
    for step, batch in enumerate(objective.batches(first, schedule.steps), first):
        for group in state.optimiser.param_groups:
            group["lr"] = schedule.learning_rate_at(step) * group["pace"]
        loss = objective.loss(network, batch, step=step, steps=schedule.steps)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for part in parts:
            nn.utils.clip_grad_norm_(part, 1.0)
        state.optimiser.step()
        _update_average(state.average, network, step)

        done = step + 1
        validation = None
        stop = time.monotonic() >= until
        if done % CHECKPOINT_EVERY == 0 or done == schedule.steps or stop:
            validation = objective.validate(state.average)
            _append(
                run_folder / "log.jsonl",
                {
                    "step": done,
                    "loss": float(loss.detach()),
                    f"validation_{objective.measure}": validation,
                    "seconds": round(time.monotonic() - started, 1),
                },
            )
            state.save(checkpoint, step=done, schedule=asdict(schedule))
        report(Progress(done, schedule.steps, float(loss.detach()), validation))
        if stop:
            break
    return state.average.eval()


def _optimiser(
    parameters: list[nn.Parameter], objective: Objective[Batch], schedule: Schedule
) -> torch.optim.Optimizer:
    """Adam, with a group for each pace."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(objective.pace(parameter), []).append(parameter)
    paced = [{"params": members, "pace": pace} for pace, members in groups.items()]
    return torch.optim.Adam(paced, lr=schedule.learning_rate, betas=(0.9, 0.99))


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, step: int) -> None:
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    for a, p in zip(average.parameters(), network.parameters(), strict=True):
        a.lerp_(p, 1 - decay)


def _append(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
