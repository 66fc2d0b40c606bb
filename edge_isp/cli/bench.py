"""`edge-isp bench`: how fast this machine is, and whether a later version is slower."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edge_isp.cli import options
from edge_isp.errors import BenchError
from edge_isp.files import write_file

if TYPE_CHECKING:
    from edge_isp.bench.plan import Plan
    from edge_isp.bench.report import Matrix, Report
    from edge_isp.cameras.base import Camera

bench = typer.Typer(help="Measure how fast this machine is.", no_args_is_help=True)

# Measured where neither --frames nor --duration says how much.
_LEAST_DURATION_S = 10.0

_FRAMES_HELP = "Size of the frames: they hold random codes and lie in memory."
_Size = Annotated[options.Size, options.size_option(_FRAMES_HELP)]
_Sizes = Annotated[
    list[options.Size] | None,
    options.size_option(f"{_FRAMES_HELP} 1280x720 by default. May be repeated, see 'edge-isp bench matrix'."),
]
_Engines = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Runtime of the model, see 'edge-isp devices'. For ONNX Runtime an .onnx is made of a shipped model. May "
        "be repeated, see 'edge-isp bench matrix'.",
    ),
]
_Delegates = Annotated[
    list[str] | None,
    typer.Option(
        "--delegate",
        metavar="NAME",
        help="Where the model runs, see 'edge-isp run --help'; 'auto' by default. May be repeated, see 'edge-isp bench "
        "matrix'.",
    ),
]
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
    list[Path] | None,
    typer.Option(
        "--compare",
        metavar="OLD.json",
        help="Show what is different from a report that was made with --json, earlier or on another board. May be "
        "repeated.",
    ),
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
    size: _Sizes = None,
    engine: _Engines = None,
    delegate: _Delegates = None,
    engine_python: options.EnginePython = None,
    threads: options.Threads = None,
    warmup: _Warmup = 30,
    frames: _Frames = None,
    duration: _Duration = None,
    cpus: _Cpus = None,
    seed: options.Seed = 0,
    operators: Annotated[
        bool,
        typer.Option("--operators", help="Time each operator as well, by the profiler of ONNX Runtime on the CPU."),
    ] = False,
    as_json: options.Json = False,
    compare: _Compare = None,
    fail_if: _FailIf = None,
    plot: options.Plot = None,
) -> None:
    """Time a model on its engine alone, on one tensor."""
    from edge_isp.bench.matrix import combinations, measure_matrix
    from edge_isp.bench.model import measure_model
    from edge_isp.bench.model_file import model_file
    from edge_isp.bench.operators import measure_operators

    _check_limits(compare, fail_if)
    plan = _plan(warmup, frames, duration, cpus, seed)
    wanted = combinations([model], _sizes(size), _executors(engine, delegate), [threads], python=engine_python)
    if len(wanted) > 1:
        if operators:
            raise BenchError("--operators is for one size, engine and delegate")
        olds = _earlier_matrices(compare)
        _publish_matrix(measure_matrix(wanted, plan), as_json=as_json, olds=olds, fail_if=fail_if, plot=plot)
        return
    earlier = _earlier(compare)
    subject, width, height = wanted[0]
    with TemporaryDirectory(prefix="edge-isp-bench-") as folder:
        subject = dataclasses.replace(subject, model=model_file(subject, width, height, Path(folder)))
        report = measure_model(subject, plan, width=width, height=height)
        if operators:
            times = measure_operators(Path(subject.model), tuple(report.model.input_shape), threads, seed=seed)
            report = msgspec.structs.replace(report, operators=times)
    _publish(report, as_json=as_json, earlier=earlier, fail_if=fail_if, plot=plot)


@bench.command()
def matrix(
    model: options.Models = None,
    size: _Sizes = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="NAME",
            help="An engine, which then runs the model on the CPU, or a delegate that 'edge-isp doctor' lists. May be "
            "repeated. By default LiteRT and ONNX Runtime are measured, and OpenVINO where --engine-python names a "
            "Python that has it.",
        ),
    ] = None,
    engine_python: options.EnginePython = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            "--threads", metavar="N", min=1, help="Threads of the runtime. May be repeated; 1 and 2 by default."
        ),
    ] = None,
    duration: Annotated[
        float,
        typer.Option(
            "--duration", metavar="SECONDS", min=0.0, help="Least time for each combination, in which it runs 10 times."
        ),
    ] = 1.5,
    cpus: _Cpus = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    compare: _Compare = None,
    fail_if: _FailIf = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", dir_okay=False, help="Write the figures as a CSV file.")
    ] = None,
    plot: options.Plot = None,
) -> None:
    """Time models alone for every combination of model, size, engine and threads.

    Each combination runs in a process of its own. Without options, every shipped model is measured at 640x480, 1280x720
    and 1920x1080. One that cannot be measured has its reason in the table, and the others go on.
    """
    from edge_isp.bench.matrix import combinations, executor, measure_matrix
    from edge_isp.bench.plan import Plan
    from edge_isp.cli.bench_table import show_cell
    from edge_isp.cli.tables import plain_console
    from edge_isp.models.card import shipped_models

    _check_limits(compare, fail_if)
    olds = _earlier_matrices(compare)
    engines = engine or ["litert", "onnxruntime", *(["openvino"] if engine_python else [])]
    wanted = combinations(
        model or list(shipped_models()),
        size or [options.Size(640, 480), options.Size(1280, 720), options.Size(1920, 1080)],
        [executor(name) for name in engines],
        threads or [1, 2],
        python=engine_python,
    )
    pinned = tuple(cpus) if cpus else None
    plan = Plan(warmup=2, warmup_s=0.3, frames=10, duration_s=duration, pinned=pinned, seed=seed)
    progress = plain_console(stderr=True)
    found = measure_matrix(wanted, plan, notify=lambda cell: show_cell(cell, progress))
    _publish_matrix(found, as_json=as_json, olds=olds, fail_if=fail_if, plot=plot, csv=csv)


@bench.command()
def pipeline(
    camera: _Camera = None,
    size: _Sizes = None,
    fps: _Fps = None,
    model: options.Model = "rfdcsanet-s",
    engine: _Engines = None,
    delegate: _Delegates = None,
    engine_python: options.EnginePython = None,
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
    from edge_isp.bench.matrix import combinations, measure_matrix
    from edge_isp.bench.model_file import model_file
    from edge_isp.bench.overhead import measure_overhead
    from edge_isp.bench.pipeline import measure_pipeline

    _check_limits(compare, fail_if)
    plan = _plan(warmup, frames, duration, cpus, seed)
    wanted = combinations(
        [model], _sizes(size), _executors(engine, delegate), [threads], policy=policy, python=engine_python
    )
    if len(wanted) > 1:
        if camera or overhead or baselines:
            raise BenchError("--camera, --overhead and --baselines are for one size, engine and delegate")
        olds = _earlier_matrices(compare)
        found = measure_matrix(wanted, plan, kind="pipeline", fps=fps)
        _publish_matrix(found, as_json=as_json, olds=olds, fail_if=fail_if, plot=plot)
        return
    earlier = _earlier(compare)
    subject, width, height = wanted[0]
    with TemporaryDirectory(prefix="edge-isp-bench-") as folder:
        subject = dataclasses.replace(subject, model=model_file(subject, width, height, Path(folder)))
        beside = measure_overhead(subject, width=width, height=height, seed=seed) if overhead else None
        opener = _opener(camera, options.Size(width, height), fps, seed)
        report = measure_pipeline(subject, plan, opener, requested_fps=fps, overhead=beside)
    if baselines:
        from edge_isp.bench.baselines import measure_baselines

        report = msgspec.structs.replace(report, baselines=measure_baselines(model, width=width, height=height))
    _publish(report, as_json=as_json, earlier=earlier, fail_if=fail_if, plot=plot)


@bench.command()
def soak(
    camera: _Camera = None,
    size: _Size = options.Size(1280, 720),
    fps: _Fps = None,
    model: options.Model = "rfdcsanet-s",
    engine: options.Engine = None,
    delegate: options.Delegate = "auto",
    engine_python: options.EnginePython = None,
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

    _check_limits(compare, fail_if)
    earlier = _earlier(compare)
    plan = Plan(duration_s=duration, pinned=tuple(cpus) if cpus else None, seed=seed)
    report = measure_pipeline(
        Subject(model, engine, threads, policy, delegate, engine_python),
        plan,
        _opener(camera, size, fps, seed),
        requested_fps=fps,
        kind="soak",
    )
    _publish(report, as_json=as_json, earlier=earlier, fail_if=fail_if, plot=plot)


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


def _sizes(sizes: list[options.Size] | None) -> list[options.Size]:
    return sizes or [options.Size(1280, 720)]


def _executors(engines: list[str] | None, delegates: list[str] | None) -> list[tuple[str | None, str]]:
    named: list[str | None] = [*engines] if engines else [None]
    return list(itertools.product(named, delegates or ["auto"]))


def _check_limits(compare: list[Path] | None, fail_if: list[str] | None) -> None:
    """Raises for a wrong limit before anything is measured."""
    from edge_isp.bench.compare import Limit

    if fail_if and not compare:
        raise BenchError("--fail-if needs --compare OLD.json")
    for text in fail_if or []:
        Limit.parse(text)


def _earlier(paths: list[Path] | None) -> list[Report]:
    """The reports to compare with; raises for a wrong one before anything is measured."""
    from edge_isp.bench.report import read_report

    return [read_report(path) for path in paths or []]


def _earlier_matrices(paths: list[Path] | None) -> list[Matrix]:
    from edge_isp.bench.report import read_matrix

    return [read_matrix(path) for path in paths or []]


def _publish(
    report: Report, *, as_json: bool, earlier: list[Report], fail_if: list[str] | None, plot: Path | None
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
    limits = [Limit.parse(text) for text in fail_if or []]
    comparisons = [compare_reports(old, report, limits) for old in earlier]
    for comparison in comparisons:
        show_comparison(comparison, plain_console(stderr=True))
    if any(comparison.failures for comparison in comparisons):
        raise typer.Exit(2)


def _publish_matrix(
    found: Matrix,
    *,
    as_json: bool,
    olds: list[Matrix],
    fail_if: list[str] | None,
    plot: Path | None,
    csv: Path | None = None,
) -> None:
    """Shows, draws and writes what was measured, compares it; exit status 2 where it got worse than is allowed."""
    from edge_isp.bench.compare import Limit, compare_matrices, matrix_failures
    from edge_isp.bench.report import to_json
    from edge_isp.cli.bench_table import show_matrices, show_matrix
    from edge_isp.cli.tables import plain_console

    if as_json:
        print(to_json(found))
    else:
        show_matrix(found, plain_console())
    if csv is not None:
        from edge_isp.bench.matrix import to_csv

        try:
            write_file(csv, to_csv(found).encode(), overwrite=True)
        except OSError as error:
            raise BenchError(f"{csv}: cannot be written: {error.strerror}") from error
    if plot is not None:
        from edge_isp.bench.plot import plot_matrix

        plot_matrix(found, plot)
    if olds:
        console = plain_console(stderr=True)
        show_matrices([*olds, found], compare_matrices(olds, found), console)
        failures = matrix_failures(olds, found, [Limit.parse(text) for text in fail_if or []])
        for failure in failures:
            console.print(f"FAILED: {failure}")
        if failures:
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
