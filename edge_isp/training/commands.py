"""The commands that training adds to `edge-isp` (entry-point group `edge_isp.commands`).

PyTorch is imported when a command runs, not when its help is shown.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge_isp.errors import MissingDependencyError

train = typer.Typer(name="train", help="Train a network (needs PyTorch: the extra train).", no_args_is_help=True)
evaluate = typer.Typer(name="evaluate", help="Measure a model's quality (the extra train).", no_args_is_help=True)


@train.callback()
def _train() -> None:
    """Keeps `isp` a sub-command while there is only one."""


@evaluate.callback()
def _evaluate() -> None:
    """Keeps `isp` a sub-command while there is only one."""


@train.command("isp")
def train_isp(
    photos: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of photographs.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the run; resumed from if it is there.")],
    model: Annotated[str, typer.Option(help="Name of the network.")] = "rfdcsanet-s",
    sensor: Annotated[str, typer.Option(help="A shipped profile, the path of one, or 'generic'.")] = "generic",
    init: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Weights to start from: a '-float.pt' of the network, or of a smaller size of it."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the float training.")] = 20000,
    quantised_steps: Annotated[int, typer.Option(min=0, help="Of the quantisation-aware training after it.")] = 1000,
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 8,
    crop: Annotated[int, typer.Option(min=16, help="Side of a training crop in pixels, even.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak of the float training.")] = 3e-3,
    validation: Annotated[
        str, typer.Option(help="Stems of the photographs kept for validation, separated by commas.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of weights, crops and noise.")] = 0,
) -> None:
    """Train a network on photographs through a sensor's forward model, quantise it, write model and card."""
    _need_torch("edge-isp train")
    from edge_isp.training.run_isp import IspRun, run_training

    kept = tuple(stem for stem in validation.split(",") if stem)
    run = IspRun(photos, out, model, sensor, init, steps, quantised_steps, batch, crop, learning_rate, kept, seed)
    console = Console()
    console.print(f"{run_training(run, console)} and its card are written")


@evaluate.command("isp")
def evaluate_isp(
    images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of test images.")],
    model: Annotated[str, typer.Option(help="A shipped model, or the path of one.")] = "rfdcsanet-s",
    sensor: Annotated[str, typer.Option(help="A shipped profile, or the path of one.")] = "imx219",
) -> None:
    """PSNR of a model's pictures of simulated RAW, as it runs on the board, at analogue gains 1, 4 and 16."""
    _need_torch("edge-isp evaluate")
    from edge_isp.training.run_isp import run_evaluation

    run_evaluation(model, sensor, images, Console())


def _need_torch(command: str) -> None:
    if find_spec("torch") is None:
        raise MissingDependencyError(f"'{command}'", "torch", "train")
