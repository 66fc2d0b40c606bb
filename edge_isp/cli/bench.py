"""`edge-isp bench`: how fast this machine is, and whether a later version is slower."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge_isp.cameras.base import Camera
from edge_isp.cameras.spec import open_camera
from edge_isp.cli.bench_table import show_comparison, show_report
from edge_isp.errors import BenchError

if TYPE_CHECKING:
    from edge_isp.bench.report import Report

bench = typer.Typer(help="Measure how fast this machine is.", no_args_is_help=True)


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


_WIDTH = 130

_Model = Annotated[str, typer.Option("--model", metavar="NAME", help="A shipped model, or the path of one.")]
_Engine = Annotated[
    str | None,
    typer.Option("--engine", metavar="NAME", help="By default LiteRT for a .tflite, ONNX Runtime for .onnx."),
]
_Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Of the engine; by default one a core.")]
_Size = Annotated[str, typer.Option("--size", metavar="WxH", help="Of frames of random codes that lie in memory.")]
_Camera = Annotated[
    str | None,
    typer.Option("--camera", metavar="SPEC", help="Frames from there instead, see 'edge-isp run --help'."),
]
_Fps = Annotated[
    float | None,
    typer.Option("--fps", min=0.001, help="Of the frames in memory; without it, as fast as they are taken."),
]
_Policy = Annotated[
    str | None,
    typer.Option("--policy", help="'latest', 'wait' or 'queue(N)'; by default 'latest' with --fps, else 'wait'."),
]
_Warmup = Annotated[int, typer.Option("--warmup", min=0, help="Frames, and at least 2 s, that do not count.")]
_Frames = Annotated[int, typer.Option("--frames", min=2, help="To measure, at least; p99 needs 1000.")]
_Duration = Annotated[float, typer.Option("--duration", min=0.0, help="Seconds to measure, at least.")]
_Pin = Annotated[str | None, typer.Option("--pin-cpus", metavar="LIST", help="CPUs to run on, such as 0,1.")]
_Seed = Annotated[int, typer.Option("--seed", help="Of the random codes.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output; see 'bench schema'.")]
_Compare = Annotated[
    Path | None, typer.Option("--compare", metavar="OLD.json", help="Show what changed since an earlier --json.")
]
_FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        metavar="LIMIT",
        help="With --compare: exit status 2 where a figure got worse by more, such as 'p95:+10%', 'infer.p50:+5%' or "
        "'delivered_fps:-5%'. May be given several times.",
    ),
]
_Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw it; pip install 'edge-isp[bench]'.")
]


@bench.command()
def model(
    model: _Model = "rfdcsanet-s",
    size: _Size = "1280x720",
    engine: _Engine = None,
    threads: _Threads = None,
    warmup: _Warmup = 30,
    frames: _Frames = 1000,
    duration: _Duration = 10.0,
    pin_cpus: _Pin = None,
    seed: _Seed = 0,
    as_json: _Json = False,
    compare: _Compare = None,
    fail_if: _FailIf = None,
    plot: _Plot = None,
) -> None:
    """Time a model on its engine alone, on one tensor."""
    from edge_isp.bench.model import measure_model
    from edge_isp.bench.plan import Plan, Subject

    old = _earlier(compare, fail_if)
    width, height = _parse_size(size)
    plan = Plan(warmup=warmup, frames=frames, duration_s=duration, pinned=_cpus(pin_cpus), seed=seed)
    report = measure_model(Subject(model, engine, threads), plan, width=width, height=height)
    _publish(report, as_json=as_json, old=old, fail_if=fail_if, plot=plot)


@bench.command()
def pipeline(
    camera: _Camera = None,
    size: _Size = "1280x720",
    fps: _Fps = None,
    model: _Model = "rfdcsanet-s",
    engine: _Engine = None,
    threads: _Threads = None,
    policy: _Policy = None,
    warmup: _Warmup = 30,
    frames: _Frames = 1000,
    duration: _Duration = 10.0,
    pin_cpus: _Pin = None,
    seed: _Seed = 0,
    overhead: Annotated[
        bool, typer.Option("--overhead", help="Also measure the whole pipeline and its engine alone, in turns.")
    ] = False,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Also measure NumPy with ONNX Runtime in float32, OpenCV and rawpy, in turns, on frames in memory; "
            "needs pip install 'edge-isp[bench,onnx,dng]'.",
        ),
    ] = False,
    as_json: _Json = False,
    compare: _Compare = None,
    fail_if: _FailIf = None,
    plot: _Plot = None,
) -> None:
    """Time the whole way from frames to pictures."""
    from edge_isp.bench.overhead import measure_overhead
    from edge_isp.bench.pipeline import measure_pipeline
    from edge_isp.bench.plan import Plan, Subject

    old = _earlier(compare, fail_if)
    width, height = _parse_size(size)
    subject = Subject(model, engine, threads, policy)
    plan = Plan(warmup=warmup, frames=frames, duration_s=duration, pinned=_cpus(pin_cpus), seed=seed)
    beside = measure_overhead(subject, width=width, height=height, seed=seed) if overhead else None
    report = measure_pipeline(
        subject, plan, _opener(camera, width, height, fps, seed), requested_fps=fps, overhead=beside
    )
    if baselines:
        from msgspec.structs import replace

        from edge_isp.bench.baselines import measure_baselines

        report = replace(report, baselines=measure_baselines(model, width=width, height=height))
    _publish(report, as_json=as_json, old=old, fail_if=fail_if, plot=plot)


@bench.command()
def soak(
    camera: _Camera = None,
    size: _Size = "1280x720",
    fps: _Fps = None,
    model: _Model = "rfdcsanet-s",
    engine: _Engine = None,
    threads: _Threads = None,
    policy: _Policy = None,
    duration: Annotated[float, typer.Option("--duration", min=1.0, help="Seconds.")] = 1800.0,
    pin_cpus: _Pin = None,
    seed: _Seed = 0,
    as_json: _Json = False,
    compare: _Compare = None,
    fail_if: _FailIf = None,
    plot: _Plot = None,
) -> None:
    """Run a pipeline for half an hour: memory that grows, drops that nobody explains, heat."""
    from edge_isp.bench.pipeline import measure_pipeline
    from edge_isp.bench.plan import Plan, Subject

    old = _earlier(compare, fail_if)
    width, height = _parse_size(size)
    plan = Plan(duration_s=duration, pinned=_cpus(pin_cpus), seed=seed)
    report = measure_pipeline(
        Subject(model, engine, threads, policy),
        plan,
        _opener(camera, width, height, fps, seed),
        requested_fps=fps,
        kind="soak",
    )
    _publish(report, as_json=as_json, old=old, fail_if=fail_if, plot=plot)


@bench.command()
def schema() -> None:
    """Print the JSON Schema of what --json writes."""
    from edge_isp.bench.report import json_schema

    print(json.dumps(json_schema(), indent=1, sort_keys=True))


def _opener(camera: str | None, width: int, height: int, fps: float | None, seed: int) -> Callable[[], Camera]:
    from edge_isp.bench.frames import MemoryCamera

    if camera is None:
        return partial(MemoryCamera, width, height, fps=fps, seed=seed)
    if fps is not None:
        raise BenchError("--fps is of the frames in memory; a camera's belongs to its SPEC: --camera NAME,fps=30")
    return partial(open_camera, camera)


def _earlier(path: Path | None, fail_if: list[str] | None) -> Report | None:
    """The report to compare with. What is wrong with it, or with a limit, is said before anything is measured."""
    from edge_isp.bench.compare import Limit
    from edge_isp.bench.report import read_report

    if fail_if and path is None:
        raise BenchError("--fail-if needs --compare OLD.json")
    for text in fail_if or []:
        Limit.parse(text)
    return None if path is None else read_report(path)


def _publish(
    report: Report, *, as_json: bool, old: Report | None, fail_if: list[str] | None, plot: Path | None
) -> None:
    """Shows a report, draws it, compares it; exit status 2 where it got worse than is allowed."""
    from edge_isp.bench.compare import Limit, compare_reports
    from edge_isp.bench.report import to_json

    messages = Console(stderr=True)
    if as_json:
        print(to_json(report))
    else:
        console = Console()
        # Not a terminal's width but a file's.
        show_report(report, console if console.is_terminal else Console(width=_WIDTH))
    if plot is not None:
        from edge_isp.bench.plot import plot_report

        plot_report(report, plot)
    if old is None:
        return
    comparison = compare_reports(old, report, [Limit.parse(text) for text in fail_if or []])
    show_comparison(comparison, messages)
    if comparison.failures:
        raise typer.Exit(2)


def _parse_size(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None:
        raise BenchError(f"--size must be WIDTHxHEIGHT, such as 1280x720, found '{size}'")
    return int(match[1]), int(match[2])


def _cpus(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise BenchError(f"--pin-cpus must be numbers with commas between, such as 0,1, found '{text}'")
    return tuple(map(int, text.split(",")))


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _target(result: Any) -> str:
    return "" if result.target is None else f"{result.target}: {'met' if result.target_met else 'missed'}"
