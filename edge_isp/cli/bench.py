"""`edge-isp bench`: how fast this machine is."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

bench = typer.Typer(help="Measure how fast this machine is.", no_args_is_help=True)


@bench.callback()
def _root() -> None:
    pass


@bench.command()
def kernels(
    seconds: Annotated[float, typer.Option(min=0.0, help="For each kernel and size, at least.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Time every kernel on one thread, beside a copy of as many bytes, NumPy, and OpenCV where it is installed."""
    from edge_isp.bench.kernels import measure_kernels

    report = measure_kernels(seconds)
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=1, sort_keys=True))
        return
    table = Table(title="kernels, one thread; ratios of the shortest times", title_justify="left")
    table.add_column("kernel")
    table.add_column("size")
    for column in ("min ms", "median ms", "GB/s", "copies", "x NumPy", "x OpenCV"):
        table.add_column(column, justify="right")
    table.add_column("target")
    for result in report.results:
        table.add_row(
            result.kernel,
            f"{result.width}x{result.height}",
            f"{result.min_ms:.2f}",
            f"{result.median_ms:.2f}",
            f"{result.gigabytes_per_second:.1f}",
            f"{result.times_copy:.1f}",
            _ratio(result.faster_than_numpy),
            _ratio(result.faster_than_opencv),
            _target(result),
        )
    console = Console()
    console.print(table)
    console.print(f"two threads: encode {report.two_threads_speed_up:.2f} times as fast as one")
    console.print(
        f"{report.processor}, numba {report.numba}, NumPy {report.numpy}, OpenCV {report.opencv or 'not installed'}"
    )


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _target(result: Any) -> str:
    return "" if result.target is None else f"{result.target}: {'met' if result.target_met else 'missed'}"
