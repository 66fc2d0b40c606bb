"""`edge-isp compile`: a model for an NPU and one size of frames, by the vendor's compiler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_isp.cli import options

if TYPE_CHECKING:
    from edge_isp.models.compilers.base import Compiled


def compile_for_npu(
    npu: Annotated[
        str,
        typer.Option("--npu", metavar="NAME", help="NPU to compile for, such as ethos-u65-256, rknn-rk3588, edgetpu."),
    ],
    model: options.Model = "rfdcsanet-t",
    size: Annotated[
        options.Size | None,
        options.size_option("Size of the frames, or of a detector's mosaic. NPU 'onnx' takes every size without it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            file_okay=False,
            help="Folder for the result, with the model and its card. By default it is the model's own folder, and "
            "for models that come with edge_isp the folder of models, where they are found by name.",
        ),
    ] = None,
    compiler: Annotated[
        Path | None,
        typer.Option(
            "--compiler",
            metavar="PATH",
            exists=True,
            dir_okay=False,
            help="The vendor's compiler: a program, or the Python that has its package. By default it is looked for.",
        ),
    ] = None,
) -> None:
    """Compile a model for an NPU and one size of frames, and enter the result in the model's card."""
    from edge_isp.models.card import find_model
    from edge_isp.models.compile import compile_model
    from edge_isp.models.compilers.table import find_compiler

    done = compile_model(find_model(model, None), npu, size=size, folder=out, program=compiler)
    print(done.path)
    print(f"card: {done.card}")
    print(describe(done.compiled))
    if not find_compiler(npu).verified:
        print("not verified: nobody has run this compiler's result with edge_isp")


def describe(compiled: Compiled) -> str:
    """What a compiler says of its result, in words.

    Args:
        compiled: the result.
    """
    parts = []
    if compiled.frames_per_second is not None:
        parts.append(f"estimated {compiled.frames_per_second:.1f} frames/s")
    if compiled.on_chip_bytes is not None:
        parts.append(f"{compiled.on_chip_bytes / 1024:.0f} KiB of memory on the chip")
    if compiled.operators_on_cpu is not None:
        of = f" of {compiled.operators}" if compiled.operators is not None else ""
        parts.append(f"{compiled.operators_on_cpu}{of} operators on the CPU")
        if compiled.operators_on_cpu and compiled.frames_per_second is not None:
            parts.append("whose time the estimate leaves out")
    return f"{compiled.tool}: {', '.join(parts) or 'no estimate'}"
