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
evaluate = typer.Typer(
    name="evaluate", help="Measure a model's quality (the extras train and evaluate).", no_args_is_help=True
)


@train.command("isp")
def train_isp(
    photos: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of photographs.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the run; resumed from if it is there.")],
    model: Annotated[str, typer.Option(help="Name of the network.")] = "rfdcsanet-s",
    sensor: Annotated[str, typer.Option(help="A shipped profile, the path of one, or 'generic'.")] = "generic",
    init: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Weights to start from: '-float.pt' of it or a smaller size."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the float training.")] = 20000,
    quantised_steps: Annotated[int, typer.Option(min=0, help="Of the quantisation-aware training after it.")] = 1500,
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 8,
    crop: Annotated[int, typer.Option(min=16, help="Side of a training crop in pixels, even.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak of the float training.")] = 1e-3,
    validation: Annotated[
        str, typer.Option(help="Stems of the photographs kept for validation, separated by commas.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of weights, crops and noise.")] = 0,
) -> None:
    """Train a network on photographs through a sensor's forward model, quantise it, write model and card."""
    _need_torch("edge-isp train")
    from edge_isp.training.isp.run import IspRun, run_training

    kept = tuple(stem for stem in validation.split(",") if stem)
    run = IspRun(photos, out, model, sensor, init, steps, quantised_steps, batch, crop, learning_rate, kept, seed)
    console = Console()
    console.print(f"{run_training(run, console)} and its card are written")


@train.command("detector")
def train_detector(
    teacher: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="YOLOX-Nano as an ONNX file.")],
    images: Annotated[
        list[Path],
        typer.Option(exists=True, file_okay=False, help="Folder of images, without labels; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the run; resumed from if it is there.")],
    recordings: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder of DNG files with previews: real pairs as well."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Learn from the images' labels, not from the teacher: to compare."
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Weights to start from: a student's '-float.pt'."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the float training.")] = 3000,
    quantised_steps: Annotated[int, typer.Option(min=0, help="Of the quantisation-aware training after it.")] = 400,
    learning_rate: Annotated[
        float, typer.Option(min=0, help="Peak of the float training, as a share of each weight.")
    ] = 1e-3,
    validation: Annotated[
        int, typer.Option(min=0, help="How many images of the first folder, the last by name, are kept for validation.")
    ] = 28,
    seed: Annotated[int, typer.Option(help="Of views and noise.")] = 0,
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
    run: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of a run: its --out.")],
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="PNG file; by default training.png in the run's folder.")
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
    images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of test images.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="A shipped model, a family, or the path of one, as it runs on the board; may be repeated."),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="A '-float.pt' or '-int8.pt', in PyTorch; may be repeated."),
    ] = None,
    network: Annotated[str, typer.Option(help="Name of the network that the weights are of.")] = "rfdcsanet-s",
    photos: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Training photographs: float weights are quantised on them as well."
        ),
    ] = None,
    classical: Annotated[bool, typer.Option(help="Classical pictures as well: demosaicing, denoising.")] = False,
    tune_on: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help="An image or a folder of them: find the strengths of classical denoising there; may be repeated.",
        ),
    ] = None,
    sensors: Annotated[
        str, typer.Option(help="Shipped profiles, or paths of some, separated by commas.")
    ] = "imx219,imx477,imx708,ov5647",
    temperatures: Annotated[
        str, typer.Option(help="Colour temperatures of the light in kelvin, separated by commas.")
    ] = "5700",
    json: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="File of every single figure; those that it holds are not measured again."),
    ] = None,
) -> None:
    """PSNR, SSIM and CIEDE2000 of pictures of simulated RAW, at analogue gains 1, 4 and 16.

    Without models, weights and classical pictures, every shipped model is measured.
    """
    _need_torch("edge-isp evaluate")
    _need("edge-isp evaluate", "skimage", "scikit-image", "evaluate")
    _need("edge-isp evaluate", "cv2", "opencv-python-headless", "evaluate")
    _need("edge-isp evaluate", "colour_demosaicing", "colour-demosaicing", "evaluate")
    from edge_isp.evaluation.isp.run import Evaluation, run_evaluation

    try:
        kelvin = tuple(float(temperature) for temperature in temperatures.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"--temperatures must be numbers separated by commas, found '{temperatures}'"
        ) from error
    asked = Evaluation(
        images=images,
        sensors=tuple(sensors.split(",")),
        temperatures=kelvin,
        models=tuple(model or ()),
        weights=tuple(weights or ()),
        network=network,
        photos=photos,
        classical=classical,
        tune_on=tuple(tune_on or ()),
        json=json,
    )
    run_evaluation(asked, Console())


@evaluate.command("detector")
def evaluate_detector(
    images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of test images.")],
    labels: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of their labels, YOLO's format.")],
    teacher: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="YOLOX-Nano as an ONNX file.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="A detector, shipped or by its path, as it runs on the board; may be repeated."),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="A student's '-float.pt', in PyTorch; may be repeated."),
    ] = None,
    pictures: Annotated[
        list[str] | None,
        typer.Option(help="An ISP model: the teacher looks at its pictures of the RAW; may be repeated."),
    ] = None,
    classical: Annotated[bool, typer.Option(help="The teacher on classical pictures of the RAW as well.")] = False,
    sensors: Annotated[
        str, typer.Option(help="Shipped profiles, or paths of some, separated by commas.")
    ] = "imx219,imx477,imx708,ov5647",
    exposures: Annotated[
        str, typer.Option(help="Analogue gains, each alone or as GAIN@EXPOSURE, separated by commas.")
    ] = "1,4,16,16@0.125",
    against: Annotated[
        str | None, typer.Option(help="Name of a way: how much better or worse the others are, 95 % of a bootstrap.")
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="File of all detections; those that it holds are not made again."),
    ] = None,
) -> None:
    """COCO's average precision of detectors on simulated RAW, and of their teacher on pictures of it."""
    _need_torch("edge-isp evaluate")
    _need("edge-isp evaluate detector", "faster_coco_eval", "faster-coco-eval", "evaluate")
    _need("edge-isp evaluate detector", "onnx", "onnx", "onnx")
    _need("edge-isp evaluate detector", "cv2", "opencv-python-headless", "evaluate")
    _need("edge-isp evaluate detector", "colour_demosaicing", "colour-demosaicing", "evaluate")
    from edge_isp.evaluation.detector.run import DetectorEvaluation, parse_exposures, run_evaluation

    try:
        parsed = parse_exposures(exposures)
    except ValueError as error:
        raise typer.BadParameter(f"--exposures must be GAIN or GAIN@EXPOSURE, found '{exposures}'") from error
    asked = DetectorEvaluation(
        images=images,
        labels=labels,
        teacher=teacher,
        models=tuple(model or ()),
        weights=tuple(weights or ()),
        pictures=tuple(pictures or ()),
        classical=classical,
        sensors=tuple(sensors.split(",")),
        exposures=parsed,
        against=against,
        json=json,
    )
    run_evaluation(asked, Console())


@evaluate.command("speed")
def evaluate_speed(
    network: Annotated[
        list[str] | None, typer.Option(help="Name of a network; may be repeated; by default every size and the rivals.")
    ] = None,
    size: Annotated[str, typer.Option(help="Of the frame, WIDTHxHEIGHT.")] = "1280x720",
    threads: Annotated[int, typer.Option(min=1, help="Of each runtime.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="How often each form runs.")] = 15,
) -> None:
    """Time networks as int8 in LiteRT, as float32 in ONNX Runtime, and there with ECB's branches one by one."""
    _need_torch("edge-isp evaluate")
    _need("edge-isp evaluate", "onnxruntime", "onnxruntime", "onnx")
    from edge_isp.evaluation.isp.speed import run_speed

    width, height = _frame_size(size)
    names = network or ["rfdcsanet-s", "rfdcsanet-m", "rfdcsanet-published", "plain-24x4", "plain-32x7"]
    run_speed(names, width, height, threads, rounds, Console())


@evaluate.command("detector-speed")
def evaluate_detector_speed(
    model: Annotated[str, typer.Option(help="A shipped detector, or the path of one.")] = "raw-detector",
    isp: Annotated[str, typer.Option(help="The ISP model whose pictures the teacher looks at.")] = "rfdcsanet-s",
    size: Annotated[str, typer.Option(help="Of the frame, WIDTHxHEIGHT.")] = "1280x720",
    input_size: Annotated[int, typer.Option(help="Width and height of the detector's input in pixels.")] = 416,
    threads: Annotated[int, typer.Option(min=1, help="Of each runtime.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="How often each way runs.")] = 30,
) -> None:
    """Time the way from RAW bytes to boxes, beside the way through a picture, and the network in int8 and float32."""
    _need_torch("edge-isp evaluate")
    _need("edge-isp evaluate", "onnxruntime", "onnxruntime", "onnx")
    from edge_isp.evaluation.detector.speed import run_detector_speed

    width, height = _frame_size(size)
    run_detector_speed(
        model, isp, width=width, height=height, size=input_size, threads=threads, rounds=rounds, console=Console()
    )


def _frame_size(text: str) -> tuple[int, int]:
    width, separator, height = text.partition("x")
    if not (separator and width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"--size must be WIDTHxHEIGHT, found '{text}'")
    return int(width), int(height)


def _need_torch(command: str) -> None:
    _need(command, "torch", "torch", "train")


def _need(command: str, module: str, package: str, extra: str) -> None:
    if find_spec(module) is None:
        raise MissingDependencyError(f"'{command}'", package, extra)
