"""`edge-isp export`: a model as the file that an NPU's compiler or another runtime takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from edge_isp.errors import ModelError
from edge_isp.models.card import ModelCard, find_model

export = typer.Typer(
    help="Make a model into the file that an NPU's compiler or another runtime takes.", no_args_is_help=True
)


_Out = Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="Folder for the model and its card.")]
_Format = Annotated[
    str, typer.Option(metavar="tflite|onnx", help="onnx has QuantizeLinear and DequantizeLinear; the extra onnx.")
]


@export.command("isp")
def export_isp(
    out: _Out,
    format: _Format,
    model: Annotated[str, typer.Option(metavar="NAME", help="A shipped model, or the path of one.")] = "rfdcsanet-s",
    size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Of the frames; without it an .onnx takes every size."),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="planes12|rgb", help="Of the output: the model's 12 planes, or the picture put together from them."
        ),
    ] = "planes12",
) -> None:
    """Write an RGB model with the integers of the shipped one, for one size or for every size, and its card."""
    from edge_isp.models.export import Export, export_model

    print(export_model(_find(model, "isp"), out, Export(format, layout, _size(size) if size else None)))


@export.command("detector")
def export_detector(
    out: _Out,
    format: _Format,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="A shipped detector, or the path of one.")
    ] = "raw-detector",
    size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Of the network's mosaic; without it an .onnx takes every size."),
    ] = None,
) -> None:
    """Write a detector with the integers of the shipped one, for one size or for every size, and its card."""
    from edge_isp.models.export import Export, export_model

    print(export_model(_find(model, "detector"), out, Export(format, size=_size(size) if size else None)))


def _find(model: str, task: str) -> ModelCard:
    card = find_model(model, None)
    if card.task != task:
        raise ModelError(f"'{card.name}' is of the task '{card.task}': export it with 'edge-isp export {card.task}'")
    return card


def _size(text: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d+)x(\d+)", text)
    if not numbers:
        raise typer.BadParameter(f"expected WIDTHxHEIGHT such as 1920x1080, found '{text}'", param_hint="--size")
    return int(numbers[1]), int(numbers[2])
