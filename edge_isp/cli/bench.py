"""`edge-isp bench`: how fast this machine is, and whether a later version is slower."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_isp.cli import options
from edge_isp.errors import BenchError

if TYPE_CHECKING:
    from edge_isp.bench.plan import Plan
    from edge_isp.bench.report import Report
    from edge_isp.cameras.base import Camera

bench = typer.Typer(help="Measure how fast this machine is.", no_args_is_help=True)

# Measured where neither --frames nor --duration says how much.
_LEAST_DURATION_S = 10.0

_Size = Annotated[options.Size, options.size_option("Size of the frames: they hold random codes and lie in memory.")]
_Camera = Annotated[
    str | None,
    typer.Option(
        "--camera", metavar="SPEC", help="Take frames from this source, not from memory; see 'edge-isp run --help'."
    ),
]
_Fps = Annotated[
    float | None,
    typer.Option(
        "--fps",
        metavar="RATE",
        min=0.001,
        help="Rate of the frames in memory, in frames per second. By default they come as fast as they are taken.",
    ),
]
_Warmup = Annotated[
    int, typer.Option("--warmup", metavar="N", min=0, help="Leave out the first N frames, and at least 2 seconds.")
]
_Frames = Annotated[
    int | None,
    typer.Option(
        "--frames", metavar="N", min=2, help="Stop after N measured frames. A valid report needs 1000 or more."
    ),
]
_Duration = Annotated[
    float | None,
    typer.Option(
        "--duration",
        metavar="SECONDS",
        min=0.0,
        help="Measure for this time and 1000 frames at least; 10 seconds by default.",
    ),
]
_Cpus = Annotated[
    list[int] | None,
    typer.Option("--cpu", metavar="N", min=0, help="Run on this CPU only. May be repeated, for several CPUs."),
]
_Compare = Annotated[
    Path | None,
    typer.Option("--compare", metavar="OLD.json", help="Show what changed since an earlier report, made with --json."),
]
_FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        metavar="LIMIT",
        help="With --compare: end with exit status 2 if a figure got worse by more than a limit such as 'p95:+10%', "
        "'infer.p50:+5%' or 'delivered_fps:-5%'. May be repeated.",
    ),
]


@bench.command()
def kernels(
    duration: Annotated[
        float, typer.Option("--duration", metavar="SECONDS", min=0.0, help="Least time for each kernel and size.")
    ] = 1.0,
    as_json: options.Json = False,
) -> None:
    """Time every kernel on one thread, next to a copy of as many bytes, NumPy, and OpenCV where it is installed."""
    from edge_isp.bench.kernels import measure_kernels
    from edge_isp.cli.bench_table import show_kernels

    report = measure_kernels(duration)
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=1, sort_keys=True))
    else:
        show_kernels(report)


@bench.command()
def model(
    model: options.Model = "rfdcsanet-s",
    size: _Size = options.Size(1280, 720),
    engine: options.Engine = None,
    threads: options.Threads = None,
    warmup: _Warmup = 30,
    frames: _Frames = None,
    duration: _Duration = None,
    cpus: _Cpus = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    compare: _Compare = None,
    fail_if: _FailIf = None,
    plot: options.Plot = None,
) -> None:
    """Time a model on its engine alone, on one tensor."""
    from edge_isp.bench.model import measure_model
    from edge_isp.bench.plan import Subject

    old = _earlier(compare, fail_if)
    plan = _plan(warmup, frames, duration, cpus, seed)
    report = measure_model(Subject(model, engine, threads), plan, width=size.width, height=size.height)
    _publish(report, as_json=as_json, old=old, fail_if=fail_if, plot=plot)


@bench.command()
def pipeline(
    camera: _Camera = None,
    size: _Size = options.Size(1280, 720),
    fps: _Fps = None,
    model: options.Model = "rfdcsanet-s",
    engine: options.Engine = None,
    threads: options.Threads = None,
    policy: options.Policy = None,
    warmup: _Warmup = 30,
    frames: _Frames = None,
    duration: _Duration = None,
    cpus: _Cpus = None,
    seed: options.Seed = 0,
    overhead: Annotated[
        bool,
        typer.Option("--overhead", help="Time the pipeline and its engine alone as well, in turns."),
    ] = False,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Time what others do as well, in turns, on frames in memory: float32 with NumPy and ONNX Runtime, "
            "OpenCV, and rawpy. This needs: pip install 'edge-isp[bench,onnx,dng]'.",
        ),
    ] = False,
    as_json: options.Json = False,
    compare: _Compare = None,
    fail_if: _FailIf = None,
    plot: options.Plot = None,
) -> None:
    """Time a whole pipeline, from frames to pictures."""
    from edge_isp.bench.overhead import measure_overhead
    from edge_isp.bench.pipeline import measure_pipeline
    from edge_isp.bench.plan import Subject

    old = _earlier(compare, fail_if)
    subject = Subject(model, engine, threads, policy)
    plan = _plan(warmup, frames, duration, cpus, seed)
    beside = measure_overhead(subject, width=size.width, height=size.height, seed=seed) if overhead else None
    report = measure_pipeline(subject, plan, _opener(camera, size, fps, seed), requested_fps=fps, overhead=beside)
    if baselines:
        from msgspec.structs import replace

        from edge_isp.bench.baselines import measure_baselines

        report = replace(report, baselines=measure_baselines(model, width=size.width, height=size.height))
    _publish(report, as_json=as_json, old=old, fail_if=fail_if, plot=plot)


@bench.command()
def soak(
    camera: _Camera = None,
    size: _Size = options.Size(1280, 720),
    fps: _Fps = None,
    model: options.Model = "rfdcsanet-s",
    engine: options.Engine = None,
    threads: options.Threads = None,
    policy: options.Policy = None,
    duration: Annotated[
        float, typer.Option("--duration", metavar="SECONDS", min=1.0, help="How long the pipeline runs.")
    ] = 1800.0,
    cpus: _Cpus = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    compare: _Compare = None,
    fail_if: _FailIf = None,
    plot: options.Plot = None,
) -> None:
    """Run a pipeline for half an hour and look for growing memory, unexplained losses and heat."""
    from edge_isp.bench.pipeline import measure_pipeline
    from edge_isp.bench.plan import Plan, Subject

    old = _earlier(compare, fail_if)
    plan = Plan(duration_s=duration, pinned=tuple(cpus) if cpus else None, seed=seed)
    report = measure_pipeline(
        Subject(model, engine, threads, policy),
        plan,
        _opener(camera, size, fps, seed),
        requested_fps=fps,
        kind="soak",
    )
    _publish(report, as_json=as_json, old=old, fail_if=fail_if, plot=plot)


@bench.command()
def schema() -> None:
    """Print the JSON Schema of the reports that --json writes."""
    from edge_isp.bench.report import json_schema

    print(json.dumps(json_schema(), indent=1, sort_keys=True))


def _opener(camera: str | None, size: options.Size, fps: float | None, seed: int) -> Callable[[], Camera]:
    from edge_isp.bench.frames import MemoryCamera
    from edge_isp.cameras.spec import open_camera

    if camera is None:
        return partial(MemoryCamera, *size, fps=fps, seed=seed)
    if fps is not None:
        raise BenchError("--fps is for frames in memory; a camera's rate belongs into its SPEC: --camera NAME,fps=30")
    return partial(open_camera, camera)


def _earlier(path: Path | None, fail_if: list[str] | None) -> Report | None:
    """The report to compare with; raises for a wrong one, or a wrong limit, before anything is measured."""
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
    from edge_isp.cli.bench_table import show_comparison, show_report
    from edge_isp.cli.tables import plain_console

    if as_json:
        print(to_json(report))
    else:
        show_report(report, plain_console())
    if plot is not None:
        from edge_isp.bench.plot import plot_report

        plot_report(report, plot)
    if old is None:
        return
    comparison = compare_reports(old, report, [Limit.parse(text) for text in fail_if or []])
    show_comparison(comparison, plain_console(stderr=True))
    if comparison.failures:
        raise typer.Exit(2)


def _plan(warmup: int, frames: int | None, duration: float | None, cpus: list[int] | None, seed: int) -> Plan:
    """How much is measured: N frames, or a time and as many frames as percentiles need."""
    from edge_isp.bench.plan import Plan

    if frames is not None and duration is not None:
        raise typer.BadParameter("give --frames or --duration, not both", param_hint="'--frames'")
    pinned = tuple(cpus) if cpus else None
    if frames is not None:
        return Plan(warmup=warmup, frames=frames, duration_s=0.0, pinned=pinned, seed=seed)
    return Plan(warmup=warmup, duration_s=_LEAST_DURATION_S if duration is None else duration, pinned=pinned, seed=seed)
