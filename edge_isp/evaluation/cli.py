"""The command `edge-isp evaluate` (entry-point group `edge_isp.commands`).

PyTorch is imported for weights only, and when a command runs, not when its help is shown.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge_isp.cli import options
from edge_isp.training.cli import need

evaluate = typer.Typer(
    name="evaluate",
    help="Measure the quality and speed of models and weights. This needs pip install 'edge-isp[evaluate]', and for "
    "weights 'edge-isp[train]' as well.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# Side of a detector's input in pixels.
_DETECTOR_INPUT = 416
_SENSORS = ["imx219", "imx477", "imx708", "ov5647"]


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
            help="Folder of training photographs: float weights are quantised on them and measured as well.",
        ),
    ] = None,
    classical: Annotated[
        bool, typer.Option("--classical", help="Measure classical demosaicing and denoising as well.")
    ] = False,
    tune_on: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            exists=True,
            help="An image, or a folder of images, to find the strengths of classical denoising on. May be repeated.",
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
            help="Colour temperature of the light in kelvin. May be repeated.",
        ),
    ] = [5700.0],  # noqa: B006
    results: options.Results = None,
    json: options.Json = False,
) -> None:
    """Measure pictures of simulated RAW at analogue gains 1, 4 and 16: PSNR, SSIM and CIEDE2000.

    Without models, weights and classical pictures, every shipped model is measured.
    """
    command = "edge-isp evaluate isp"
    need(command, "skimage", "scikit-image", "evaluate")
    if weights:
        need(command, "torch", "torch", "train")
    if classical:
        _need_classical(command)
    from edge_isp.evaluation.isp.run import Evaluation, quality_tables, run_evaluation

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
        results=results,
    )
    found = run_evaluation(asked, Console(stderr=True))
    _show([mean.document() for mean in found], quality_tables(found), json)


@evaluate.command("detector")
def evaluate_detector(
    images: options.Images,
    labels: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            exists=True,
            help="Labels of the images: a folder in YOLO's format, or a .json in COCO's.",
        ),
    ],
    teacher: options.Teacher,
    model: options.Models = None,
    weights: options.Weights = None,
    pictures: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="An ISP model on whose pictures of the RAW the teacher is measured. May be repeated.",
        ),
    ] = None,
    classical: Annotated[
        bool, typer.Option("--classical", help="Measure the teacher on classical pictures of the RAW as well.")
    ] = False,
    sensors: options.Sensors = _SENSORS,
    cfa: Annotated[
        list[str] | None,
        typer.Option(
            "--cfa",
            metavar="ORDER",
            help="A colour order to give the sensors, such as BGGR. May be repeated. By default each sensor's own.",
        ),
    ] = None,
    exposures: Annotated[
        list[str],
        typer.Option(
            "--exposure",
            metavar="GAIN[@EXPOSURE]",
            help="An analogue gain, and the exposure relative to one whose white just reaches white. May be repeated.",
        ),
    ] = ["1", "4", "16", "16@0.125"],  # noqa: B006
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Name of the method that the others are compared with: the 95 % interval of the difference in AP.",
        ),
    ] = None,
    results: options.Results = None,
    json: options.Json = False,
) -> None:
    """Measure COCO's average precision of detectors on simulated RAW, and of their teacher on pictures of it.

    Detections from a confidence of 0.01 on count, duplicates are suppressed from an overlap of 0.65 on, as COCO's
    figures of YOLOX are made. Objects are small below 32x32 pixels of the image, and large from 96x96 on.
    """
    command = "edge-isp evaluate detector"
    need(command, "torch", "torch", "train")
    need(command, "faster_coco_eval", "faster-coco-eval", "evaluate")
    need(command, "onnx", "onnx", "onnx")
    _need_classical(command)
    from edge_isp.evaluation.detector.run import DetectorEvaluation, parse_exposure, quality_tables, run_evaluation

    try:
        parsed = tuple(parse_exposure(exposure) for exposure in exposures)
    except ValueError as error:
        raise typer.BadParameter(
            f"expected GAIN or GAIN@EXPOSURE, such as 4 or 16@0.125: {error}", param_hint="--exposure"
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
        cfas=tuple(cfa or ()),
        exposures=parsed,
        against=against,
        results=results,
    )
    found = run_evaluation(asked, Console(stderr=True))
    _show([quality.document() for quality in found], quality_tables(found, against), json)


_Size = Annotated[options.Size, options.size_option("Size of the frame.")]
_RuntimeThreads = Annotated[
    int, typer.Option("--threads", metavar="N", min=1, help="Threads of each of the runtimes that are compared.")
]
_Rounds = Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="Number of runs of each, in turn.")]
_SIZE = options.Size(1280, 720)


@evaluate.command("speed")
def evaluate_speed(
    networks: Annotated[
        list[str],
        typer.Option("--network", metavar="NAME", help="Name of a network's architecture. May be repeated."),
    ] = ["rfdcsanet-t", "rfdcsanet-s", "rfdcsanet-m", "rfdcsanet-csa", "cells2x2", "plain-32x7"],  # noqa: B006
    size: _Size = _SIZE,
    threads: _RuntimeThreads = 2,
    rounds: _Rounds = 15,
    json: options.Json = False,
) -> None:
    """Time networks as int8 in LiteRT, as float32 in ONNX Runtime, and there with ECB's branches one by one."""
    need("edge-isp evaluate speed", "torch", "torch", "train")
    need("edge-isp evaluate speed", "onnxruntime", "onnxruntime", "onnx")
    from edge_isp.evaluation.isp.speed import run_speed, speed_table

    timings = run_speed(
        networks,
        width=size.width,
        height=size.height,
        threads=threads,
        rounds=rounds,
        console=Console(stderr=True),
    )
    title = f"{size}, {threads} threads, {rounds} rounds"
    _show([asdict(timing) for timing in timings], [speed_table(timings, title)], json)


@evaluate.command("detector-speed")
def evaluate_detector_speed(
    model: options.Model = "raw-detector",
    pictures: Annotated[
        str, typer.Option(metavar="NAME", help="The ISP model whose pictures the teacher detects objects in.")
    ] = "rfdcsanet-s",
    size: _Size = _SIZE,
    input_size: options.InputSize = None,
    threads: _RuntimeThreads = 2,
    rounds: _Rounds = 30,
    json: options.Json = False,
) -> None:
    """Time the path from RAW bytes to boxes, the path through a picture, and the network alone in int8 and float32."""
    need("edge-isp evaluate detector-speed", "torch", "torch", "train")
    need("edge-isp evaluate detector-speed", "onnxruntime", "onnxruntime", "onnx")
    from edge_isp.evaluation.detector.speed import run_detector_speed, speed_table

    side = input_size or _DETECTOR_INPUT
    timings = run_detector_speed(
        model,
        pictures,
        width=size.width,
        height=size.height,
        size=side,
        threads=threads,
        rounds=rounds,
        console=Console(stderr=True),
    )
    title = f"{size} RAW10, input of {side}, {threads} threads, {rounds} rounds"
    _show([asdict(timing) for timing in timings], [speed_table(timings, title)], json)


def _need_classical(command: str) -> None:
    need(command, "cv2", "opencv-python-headless", "evaluate")
    need(command, "colour_demosaicing", "colour-demosaicing", "evaluate")


def _show(results: Sequence[dict[str, Any]], tables: Sequence[Table], as_json: bool) -> None:
    """Prints results to standard output: as one JSON list, or as tables."""
    if as_json:
        print(json_format.dumps(results, indent=2))
        return
    console = Console()
    for table in tables:
        console.print(table)
