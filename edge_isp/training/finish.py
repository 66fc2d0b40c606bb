"""From a network to a model: trained in float, quantised after training, trained on as integers, written with its card.

The same stages for every network; what differs between networks is in `Stages`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import torch
from rich.console import Console
from torch import nn

from edge_isp.training.progress import shown
from edge_isp.training.quantisation.arithmetic import Integers, QuantisedGraph, save_quantised
from edge_isp.training.quantisation.aware_training import FakeQuantised
from edge_isp.training.run_metadata import commit, hours
from edge_isp.training.trainer import Batch, Objective, Schedule, train

# What validation measured: by arithmetic ("float32", "ptq", "qat"), then by group.
Quality = Mapping[str, Mapping[str, float]]

# Writes the model and its card, of a quantised graph, how it was trained and how good it is; returns the model's path.
WriteModel = Callable[[QuantisedGraph, Mapping[str, object], Quality], Path]


@dataclass(frozen=True)
class Stages(Generic[Batch]):
    """What differs between networks on the path from a network to a model.

    Attributes:
        name: of the model, and of its files.
        objective: what the network is trained for on a schedule.
        schedule: of the training in float.
        aware_schedule: of the quantisation-aware training after it; None leaves that out.
        quantise: quantisation after training.
        write_model: writes the model and its card.
        facts: what the card says of this training, besides what it says of every one.
        rounding: rounds the weights together, after quantisation and after training; None rounds each to the nearest
            step, in quantisation-aware training as well.
    """

    name: str
    objective: Callable[[Schedule], Objective[Batch]]
    schedule: Schedule
    aware_schedule: Schedule | None
    quantise: Callable[[nn.Module], QuantisedGraph]
    write_model: WriteModel
    facts: Mapping[str, object]
    rounding: Callable[[QuantisedGraph], QuantisedGraph] | None = None


def finish(network: nn.Module, stages: Stages[Batch], folder: Path, console: Console) -> Path:
    """Trains, quantises and writes a network; returns the model's path.

    Writes the model and its card, and the weights: of the network in float (`-float.pt`, to train on from) and of
    the quantised graph (`-int8.pt`, what the model was made of). Quantisation-aware training is kept only if it is no
    worse than quantisation after training.

    Args:
        network: is changed in place.
        stages: what to do.
        folder: of the run; each stage continues from what it left there.
        console: where progress is shown.

    Raises:
        ModelError: a checkpoint in the folder is of another schedule or network.
    """
    objective = stages.objective(stages.schedule)
    network = _train("float", network, objective, stages.schedule, folder, console)
    torch.save(network.state_dict(), folder / f"{stages.name}-float.pt")
    exact = stages.quantise(network)
    quantised = exact if stages.rounding is None else stages.rounding(exact)
    quality = {"float32": objective.validate(network), "ptq": objective.validate(Integers(quantised))}
    if stages.aware_schedule is not None:
        aware = _trained_on(exact, stages, stages.aware_schedule, folder, console)
        quality["qat"] = objective.validate(Integers(aware))
        gained = sum(quality["qat"].values()) - sum(quality["ptq"].values())
        if (gained if objective.higher_is_better else -gained) >= 0:
            quantised = aware
    save_quantised(quantised, folder / f"{stages.name}-int8.pt")
    return stages.write_model(quantised, _training(stages, folder), quality)


def _trained_on(
    quantised: QuantisedGraph, stages: Stages[Batch], schedule: Schedule, folder: Path, console: Console
) -> QuantisedGraph:
    start = FakeQuantised(quantised, exact_weights=stages.rounding is not None)
    trained = _train("int8", start, stages.objective(schedule), schedule, folder, console)
    assert isinstance(trained, FakeQuantised)
    return trained.quantised() if stages.rounding is None else stages.rounding(trained.quantised())


def _train(
    stage: str, network: nn.Module, objective: Objective[Batch], schedule: Schedule, folder: Path, console: Console
) -> nn.Module:
    with shown(console, stage, objective.unit) as report:
        return train(network, objective, schedule, folder / stage, report).cpu()


def _training(stages: Stages[Batch], folder: Path) -> dict[str, object]:
    """What the card says of the training."""
    aware = stages.aware_schedule
    return {
        **stages.facts,
        "steps": stages.schedule.steps,
        "learning_rate": stages.schedule.learning_rate,
        "quantisation_aware_steps": aware.steps if aware is not None else 0,
        **({"quantisation_aware_learning_rate": aware.learning_rate} if aware is not None else {}),
        "seed": stages.schedule.seed,
        "hours": hours(folder),
        "commit": commit(),
    }
