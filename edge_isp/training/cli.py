"""The command `edge-isp train` (entry-point group `edge_isp.commands`).

PyTorch is imported when a command runs, not when its help is shown.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge_isp.cli import options
from edge_isp.errors import MissingDependencyError

train = typer.Typer(
    name="train",
    help="Train a network. This needs PyTorch: pip install 'edge-isp[train]'.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# What both networks are trained with.
OutRun = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        file_okay=False,
        help="Folder of the run. If it holds an interrupted run, that is continued.",
    ),
]
Init = Annotated[
    Path | None,
    typer.Option(
        "--init",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Weights to start from: a '-float.pt' of the same network, of a detector for other classes, or of a "
        "smaller size of rfdcsanet.",
    ),
]
Steps = Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps of the training in float.")]
QuantisedSteps = Annotated[
    int,
    typer.Option(
        "--quantised-steps",
        metavar="N",
        min=0,
        help="Steps of the quantisation-aware training that follows; 0 leaves it out.",
    ),
]


# Of a detector: of one that is taught all of COCO's classes, and of one for classes or a camera of one's own.
_STEPS, _QUANTISED_STEPS = 3000, 400
_OWN_STEPS, _OWN_QUANTISED_STEPS = 600, 100


@train.command("isp")
def train_isp(
    photos: options.Photos,
    out: OutRun,
    network: options.Network = "rfdcsanet-s",
    sensor: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The sensor to train for: the name of a shipped profile, the path of a .toml, or 'generic' for all.",
        ),
    ] = "generic",
    init: Init = None,
    steps: Steps = 20000,
    quantised_steps: QuantisedSteps = 1500,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Crops per step.")] = 8,
    crop: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            min=16,
            help="Side of a training crop in pixels: a multiple of the network's cells (4 for rfdcsanet-t and -s, "
            "2 for -m) or windows (32 for rfdcsanet-csa).",
        ),
    ] = 128,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate of the training in float.")] = 1e-3,
    validation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEM",
            help="Stem of a photograph that is kept for validation. May be repeated.",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = 0,
) -> None:
    """Train an ISP network on photographs that a simulated sensor sees, quantise it, write the model and its card."""
    need("edge-isp train isp", "torch", "torch", "train")
    from edge_isp.training.isp.run import IspRun, run_training

    run = IspRun(
        photos=photos,
        out=out,
        model=network,
        sensor=sensor,
        init=init,
        steps=steps,
        quantised_steps=quantised_steps,
        batch=batch,
        crop=crop,
        learning_rate=learning_rate,
        validation=tuple(validation or ()),
        seed=seed,
    )
    console = Console()
    console.print(f"{run_training(run, console)} and its card are written")


@train.command("detector")
def train_detector(
    out: OutRun,
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="Folder of photographs. May be repeated."),
    ] = None,
    recordings: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            exists=True,
            help="RAW frames: an .mcap of 'edge-isp record', a .dng or .raw file, or a folder of them. They are learnt "
            "from besides the photographs, or alone. May be repeated.",
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="YOLOX-Nano as an ONNX file, to learn from. It sees pictures. With --labels it may be left out.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            exists=True,
            help="Labels for classes of your own: a folder in YOLO's format, a .json in COCO's, or an export of "
            "Roboflow or Label Studio.",
        ),
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Names of the classes that the labels number: a text file with a name in each line, or a data.yaml. "
            "By default what stands beside the labels: data.yaml, classes.txt, or the categories of COCO's file.",
        ),
    ] = None,
    init: Init = None,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help=f"Steps of the training in float. By default {_STEPS}, and {_OWN_STEPS} with --labels or without "
            "--images.",
            show_default=False,
        ),
    ] = None,
    quantised_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Steps of the quantisation-aware training that follows; 0 leaves it out. By default "
            f"{_QUANTISED_STEPS}, and {_OWN_QUANTISED_STEPS} with --labels or without --images.",
            show_default=False,
        ),
    ] = None,
    learning_rate: Annotated[
        float,
        typer.Option(min=0, help="Peak learning rate of the training in float, relative to the size of each weight."),
    ] = 1e-3,
    validation: Annotated[
        int | None,
        typer.Option(
            "--validation-images",
            metavar="N",
            min=0,
            help="Number of images that are kept for validation: the last by name of the first folder, or without "
            "--images the last frames of the recordings. By default a quarter, and 28 at most.",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = 0,
) -> None:
    """Train a detector that reads RAW, quantise it, write the model and its card.

    It learns from a detector that reads pictures, from labels, or from both.
    """
    need("edge-isp train detector", "torch", "torch", "train")
    if teacher is not None:
        need("edge-isp train detector --teacher", "onnx", "onnx", "onnx")
    if class_names is not None and labels is None:
        raise typer.BadParameter("--class-names is for --labels")
    from edge_isp.training.detector.run import DetectorRun, run_training

    own = labels is not None or not images
    run = DetectorRun(
        teacher=teacher,
        images=tuple(images or ()),
        recordings=tuple(recordings or ()),
        labels=labels,
        class_names=class_names,
        init=init,
        out=out,
        steps=steps or (_OWN_STEPS if own else _STEPS),
        quantised_steps=(_OWN_QUANTISED_STEPS if own else _QUANTISED_STEPS)
        if quantised_steps is None
        else quantised_steps,
        learning_rate=learning_rate,
        validation=validation,
        seed=seed,
    )
    console = Console()
    console.print(f"{run_training(run, console)} and its card are written")


@train.command("plot")
def plot(
    run: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Folder of a run: its --out.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            dir_okay=False,
            help="The PNG file that is written. By default it is training.png in the run's folder.",
        ),
    ] = None,
) -> None:
    """Draw the loss and what validation measured over the steps of a run."""
    need("edge-isp train plot", "matplotlib", "matplotlib", "train")
    from edge_isp.training.plots import plot_training

    path = out or run / "training.png"
    try:
        plot_training(run, path)
    except OSError as error:
        raise typer.BadParameter(str(error)) from error
    Console().print(f"{path} is written")


def need(command: str, module: str, package: str, extra: str) -> None:
    """Checks that a package is installed, before anything is read or computed.

    Args:
        command: that needs it.
        module: name that it is imported by.
        package: name that it is installed by.
        extra: of edge-isp that brings it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    if find_spec(module) is None:
        raise MissingDependencyError(f"'{command}'", package, extra)
