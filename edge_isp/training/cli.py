"""The commands that training adds to `edge-isp` (entry-point group `edge_isp.commands`).

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

_SENSORS = ["imx219", "imx477", "imx708", "ov5647"]
_DETECTOR_INPUT = 416
_TEMPERATURES_K = [5700.0]
_EXPOSURES = ["1", "4", "16", "16@0.125"]
_SPEED_NETWORKS = ["rfdcsanet-s", "rfdcsanet-m", "rfdcsanet-published", "plain-24x4", "plain-32x7"]

_Run = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", file_okay=False, help="Folder of the run, which is resumed if it is there."),
]
_Steps = Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps of the float training.")]
_QuantisedSteps = Annotated[
    int,
    typer.Option("--quantised-steps", metavar="N", min=0, help="Steps of the quantisation-aware training after it."),
]
_Classical = Annotated[
    bool, typer.Option("--classical", help="Measure classical pictures as well: demosaicing and denoising.")
]
_Threads = Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Threads of each runtime.")]
_Rounds = Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="How often each form runs.")]
_FrameSize = Annotated[options.Size, options.size_option("Size of the frames.")]

train = typer.Typer(name="train", help="Train a network; needs: pip install 'edge-isp[train]'.", no_args_is_help=True)
evaluate = typer.Typer(
    name="evaluate",
    help="Measure models; needs: pip install 'edge-isp[train,evaluate]'.",
    no_args_is_help=True,
)


@train.command("isp")
def train_isp(
    photos: options.Photos,
    out: _Run,
    network: options.Network = "rfdcsanet-s",
    sensor: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The sensor to train for: the name of a shipped profile, the path of a .toml, or 'generic'.",
        ),
    ] = "generic",
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Weights to start from: a '-float.pt' of the same network, or of a smaller one.",
        ),
    ] = None,
    steps: _Steps = 20000,
    quantised_steps: _QuantisedSteps = 1500,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Number of crops per step.")] = 8,
    crop: Annotated[int, typer.Option(metavar="PIXELS", min=16, help="Side of a training crop, even.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0, help="Highest learning rate of the float training.")] = 1e-3,
    validation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEM", help="Name, without suffix, of a photograph that is kept for validation. May be repeated."
        ),
    ] = None,
    seed: options.Seed = 0,
) -> None:
    """Train a network on photographs through a sensor's forward model, quantise it, write model and card."""
    _need_torch("edge-isp train")
    from edge_isp.training.isp.run import IspRun, run_training

    kept = tuple(validation or ())
    run = IspRun(photos, out, network, sensor, init, steps, quantised_steps, batch, crop, learning_rate, kept, seed)
    console = Console()
    console.print(f"{run_training(run, console)} and its card are written")


@train.command("detector")
def train_detector(
    teacher: options.Teacher,
    images: Annotated[
        list[Path],
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Folder of unlabelled training images. May be repeated.",
        ),
    ],
    out: _Run,
    recordings: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Folder of DNG files with previews, which are real pairs of RAW and picture.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Folder of the images' labels, to learn from them and not from the teacher, for a comparison.",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="Weights to start from: a student's '-float.pt'."
        ),
    ] = None,
    steps: _Steps = 3000,
    quantised_steps: _QuantisedSteps = 400,
    learning_rate: Annotated[
        float, typer.Option(min=0, help="Highest learning rate of the float training, as a share of each weight.")
    ] = 1e-3,
    validation: Annotated[
        int,
        typer.Option(
            "--validation-images",
            metavar="N",
            min=0,
            help="Keep the last N images of the first folder, by name, for validation.",
        ),
    ] = 28,
    seed: options.Seed = 0,
) -> None:
    """Distil a detector that reads RAW from one that reads pictures."""
    _need_torch("edge-isp train")
    _need("edge-isp train detector", "onnx", "onnx", "onnx")
    from edge_isp.training.detector.run import DetectorRun, run_training

    run = DetectorRun(
        teacher, tuple(images), recordings, labels, init, out, steps, quantised_steps, learning_rate, validation, seed
    )
    console = Console()
    console.print(f"{run_training(run, console)} and its card are written")


@train.command("plot")
def plot(
    run: Annotated[Path, typer.Argument(exists=True, file_okay=False, metavar="DIR", help="Folder of a training run.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            dir_okay=False,
            help="The file to write; training.png in the run's folder by default.",
        ),
    ] = None,
) -> None:
    """Draw loss and validation PSNR over the steps of a run."""
    _need("edge-isp train plot", "matplotlib", "matplotlib", "train")
    from edge_isp.training.plots import plot_training

    path = out or run / "training.png"
    try:
        plot_training(run, path)
    except OSError as error:
        raise typer.BadParameter(str(error)) from error
    Console().print(f"{path} is written")


@evaluate.command("isp")
def evaluate_isp(
    images: options.Images,
    model: options.Models = None,
    weights: options.Weights = None,
    network: options.Network = "rfdcsanet-s",
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Folder of training photographs, to measure float weights quantised on them as well.",
        ),
    ] = None,
    classical: _Classical = False,
    tune_on: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            exists=True,
            help="Image or folder on which the strength of classical denoising is tuned. May be repeated.",
        ),
    ] = None,
    sensors: options.Sensors = _SENSORS,
    temperatures: Annotated[
        list[float],
        typer.Option(
            "--colour-temperature",
            metavar="KELVIN",
            min=1000,
            max=20000,
            help="Colour temperature of the light. May be repeated.",
        ),
    ] = _TEMPERATURES_K,
    results: options.Results = None,
) -> None:
    """Measure PSNR, SSIM and CIEDE2000 of pictures of simulated RAW, at analogue gains 1, 4 and 16.

    Without models, weights and classical pictures, every shipped model is measured.
    """
    _need_torch("edge-isp evaluate")
    _need("edge-isp evaluate", "skimage", "scikit-image", "evaluate")
    _need("edge-isp evaluate", "cv2", "opencv-python-headless", "evaluate")
    _need("edge-isp evaluate", "colour_demosaicing", "colour-demosaicing", "evaluate")
    from edge_isp.evaluation.isp.run import Evaluation, run_evaluation

    asked = Evaluation(
        images=images,
        sensors=tuple(sensors),
        temperatures=tuple(temperatures),
        models=tuple(model or ()),
        weights=tuple(weights or ()),
        network=network,
        photos=photos,
        classical=classical,
        tune_on=tuple(tune_on or ()),
        json=results,
    )
    run_evaluation(asked, Console())


@evaluate.command("detector")
def evaluate_detector(
    images: options.Images,
    labels: Annotated[
        Path,
        typer.Option(
            metavar="DIR", exists=True, file_okay=False, help="Folder of the images' labels, in YOLO's format."
        ),
    ],
    teacher: options.Teacher,
    model: options.Models = None,
    weights: options.Weights = None,
    pictures: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="An ISP model whose pictures of the RAW the teacher is measured on. May be repeated."
        ),
    ] = None,
    classical: _Classical = False,
    sensors: options.Sensors = _SENSORS,
    exposures: Annotated[
        list[str],
        typer.Option(
            "--exposure",
            metavar="GAIN[@EXPOSURE]",
            help="Analogue gain of the frames, alone or with an exposure relative to full. May be repeated.",
        ),
    ] = _EXPOSURES,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Name of a method that the others are compared with, with 95 % confidence intervals of a bootstrap.",
        ),
    ] = None,
    results: options.Results = None,
) -> None:
    """Measure COCO's average precision of detectors on simulated RAW, and of their teacher on pictures of it."""
    _need_torch("edge-isp evaluate")
    _need("edge-isp evaluate detector", "faster_coco_eval", "faster-coco-eval", "evaluate")
    _need("edge-isp evaluate detector", "onnx", "onnx", "onnx")
    _need("edge-isp evaluate detector", "cv2", "opencv-python-headless", "evaluate")
    _need("edge-isp evaluate detector", "colour_demosaicing", "colour-demosaicing", "evaluate")
    from edge_isp.evaluation.detector.run import DetectorEvaluation, parse_exposures, run_evaluation

    try:
        parsed = parse_exposures(",".join(exposures))
    except ValueError as error:
        raise typer.BadParameter(
            f"expected GAIN or GAIN@EXPOSURE, such as 16@0.125; found {', '.join(exposures)}", param_hint="'--exposure'"
        ) from error
    asked = DetectorEvaluation(
        images=images,
        labels=labels,
        teacher=teacher,
        models=tuple(model or ()),
        weights=tuple(weights or ()),
        pictures=tuple(pictures or ()),
        classical=classical,
        sensors=tuple(sensors),
        exposures=parsed,
        against=against,
        json=results,
    )
    run_evaluation(asked, Console())


@evaluate.command("speed")
def evaluate_speed(
    network: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="Name of the network's architecture. May be repeated."),
    ] = _SPEED_NETWORKS,
    size: _FrameSize = options.Size(1280, 720),
    threads: _Threads = 2,
    rounds: _Rounds = 15,
) -> None:
    """Time networks in int8 in LiteRT, in float32 in ONNX Runtime, and there with the branches of ECBs apart."""
    _need_torch("edge-isp evaluate")
    _need("edge-isp evaluate", "onnxruntime", "onnxruntime", "onnx")
    from edge_isp.evaluation.isp.speed import run_speed

    run_speed(network, *size, threads, rounds, Console())


@evaluate.command("detector-speed")
def evaluate_detector_speed(
    model: options.Model = "raw-detector",
    pictures: Annotated[
        str, typer.Option(metavar="NAME", help="The ISP model whose pictures the teacher detects objects in.")
    ] = "rfdcsanet-s",
    size: _FrameSize = options.Size(1280, 720),
    input_size: options.InputSize = None,
    threads: _Threads = 2,
    rounds: _Rounds = 30,
) -> None:
    """Time detection from RAW bytes, detection in a picture made from them, and the network in int8 and float32."""
    _need_torch("edge-isp evaluate")
    _need("edge-isp evaluate", "onnxruntime", "onnxruntime", "onnx")
    from edge_isp.evaluation.detector.speed import run_detector_speed

    run_detector_speed(
        model,
        pictures,
        width=size.width,
        height=size.height,
        size=input_size or _DETECTOR_INPUT,
        threads=threads,
        rounds=rounds,
        console=Console(),
    )


def _need_torch(command: str) -> None:
    _need(command, "torch", "torch", "train")


def _need(command: str, module: str, package: str, extra: str) -> None:
    if find_spec(module) is None:
        raise MissingDependencyError(f"'{command}'", package, extra)
