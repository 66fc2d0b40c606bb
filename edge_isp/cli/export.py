"""`edge-isp export`: a model as the file that an NPU's compiler or another runtime takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edge_isp.cli import options
from edge_isp.errors import ModelError

if TYPE_CHECKING:
    from edge_isp.models.card import ModelCard

export = typer.Typer(
    help="Write a model as the file that an NPU's compiler or another runtime takes, or a recording as other files.",
    no_args_is_help=True,
)

_Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="tflite|onnx|onnx-nchw|onnx-float",
        help="Format of the file. An .onnx has QuantizeLinear and DequantizeLinear. For compilers, and without a card: "
        "'onnx-nchw' has channels before rows and columns, as Rockchip's compiler reads it; 'onnx-float' also, and is "
        "not quantised. All but 'tflite' need: pip install 'edge-isp[onnx]'.",
    ),
]


@export.command("isp")
def export_isp(
    out: options.OutFolder,
    file_format: _Format,
    model: options.Model = "rfdcsanet-s",
    size: options.ExportSize = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="planes12|rgb",
            help="Layout of the output: the model's 12 planes, or the picture that they are put together to.",
        ),
    ] = "planes12",
) -> None:
    """Write an ISP model and its card, for one frame size or for every size, with the integers of the shipped one."""
    from edge_isp.models.export import Export, export_model

    print(export_model(_find(model, "isp"), out, Export(file_format, layout, size)))


@export.command("detector")
def export_detector(
    out: options.OutFolder,
    file_format: _Format,
    model: options.Model = "raw-detector",
    size: options.ExportSize = None,
) -> None:
    """Write a detector and its card, for one mosaic size or for every size, with the integers of the shipped one."""
    from edge_isp.models.export import Export, export_model

    print(export_model(_find(model, "detector"), out, Export(file_format, size=size)))


def _find(model: str, task: str) -> ModelCard:
    from edge_isp.models.card import find_model

    card = find_model(model, None)
    if card.task != task:
        raise ModelError(f"'{card.name}' is of the task '{card.task}': export it with 'edge-isp export {card.task}'")
    return card
