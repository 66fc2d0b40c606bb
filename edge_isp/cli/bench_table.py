"""Reports of benchmarks as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from edge_isp.bench.figures import infer
from edge_isp.bench.plot import executor_name, median_ms
from edge_isp.cli.tables import figures_table, plain_console

if TYPE_CHECKING:
    from edge_isp.bench.compare import CellComparison, Comparison
    from edge_isp.bench.kernels import KernelReport, KernelResult
    from edge_isp.bench.report import Baseline, Cell, Distribution, Matrix, OperatorTime, Report


def show_report(report: Report, console: Console) -> None:
    """A report: what was measured on what, the stages, the rates, what was lost, and the verdict."""
    for line in _header(report):
        console.print(line)
    # p90 and the shares are in the JSON: a terminal of 80 columns has no room for them.
    table = figures_table(f"{report.kind}, times in ms", "stage", "frames", "mean", "p50", "p95", "p99", "max", "first")
    for stage in report.stages:
        table.add_row(stage.name, *_row(stage))
    for wait in report.waits:
        table.add_row(f"waits for {wait.name}", *_row(wait))
    if report.latency:
        table.add_row("exposure to result", *_row(report.latency.e2e))
    console.print(table)
    for line in _footer(report):
        console.print(line)
    if report.operators:
        console.print(_operators(report.operators))
    if report.baselines:
        console.print(_baselines(report.baselines))
    console.print("VALID" if report.valid else f"INVALID: {'; '.join(report.invalid_reasons)}")


def show_kernels(report: KernelReport) -> None:
    """Kernels' times, a table for each frame size, and which targets they meet."""
    console = plain_console()
    for size in dict.fromkeys((result.width, result.height) for result in report.results):
        results = [result for result in report.results if (result.width, result.height) == size]
        table = figures_table(
            f"kernels at {size[0]}x{size[1]}, one thread; ratios are of the shortest times",
            "kernel",
            "min ms",
            "median",
            "GB/s",
            "copies",
            "x NumPy",
            "x OpenCV",
        )
        for result in results:
            table.add_row(
                result.kernel,
                f"{result.min_ms:.2f}",
                f"{result.median_ms:.2f}",
                f"{result.gigabytes_per_second:.1f}",
                f"{result.times_copy:.1f}",
                _ratio(result.faster_than_numpy),
                _ratio(result.faster_than_opencv),
            )
        console.print(table)
        for result in results:
            if result.target is not None:
                console.print(f"target of '{result.kernel}', {result.target}: {_verdict(result)}", soft_wrap=True)
    console.print(f"two threads: encode is {report.two_threads_speed_up:.2f} times as fast as on one")
    console.print(
        f"{report.processor}, numba {report.numba}, NumPy {report.numpy}, OpenCV {report.opencv or 'not installed'}"
    )


def show_matrix(matrix: Matrix, console: Console) -> None:
    """Reports of several combinations: a line for each, and why the others were not measured."""
    console.print(matrix.board)
    table = figures_table(
        "times of an inference in ms; memory that loading added in MB",
        "model",
        "size",
        "runs on",
        "threads",
        "p50",
        "p95",
        "fps",
        "first",
        "memory",
    )
    for cell in matrix.cells:
        if cell.report is not None:
            table.add_row(*_cell_row(cell, cell.report))
    console.print(table)
    for cell in matrix.cells:
        if cell.report is None:
            show_cell(cell, console)


def show_cell(cell: Cell, console: Console) -> None:
    """One combination in a line."""
    threads = "" if cell.threads is None else f", {cell.threads} threads"
    name = f"{cell.model} {cell.width}x{cell.height} on {executor_name(cell)}{threads}"
    median = median_ms(cell)
    reason = " ".join((cell.error or "").split())
    console.print(f"{name}: {reason if median is None else f'{median:.1f} ms'}", soft_wrap=True)


def show_matrices(matrices: list[Matrix], comparisons: list[CellComparison], console: Console) -> None:
    """The same combinations in several matrices, the last of which is new: medians, and the ratio to the last."""
    boards = [f"{matrix.board} {matrix.started_utc[:10]}" for matrix in matrices]
    table = figures_table("median inference in ms, and how much longer than now", "combination", *boards)
    for comparison in comparisons:
        cell, (*others, now) = comparison.cell, comparison.p50_ns
        threads = "" if cell.threads is None else f" {cell.threads} threads"
        shown = ["" if then is None else f"{then / 1e6:.1f}{f' ({then / now:.2f}x)' if now else ''}" for then in others]
        name = f"{cell.model} {cell.width}x{cell.height} {executor_name(cell)}{threads}"
        table.add_row(name, *shown, "" if now is None else f"{now / 1e6:.1f}")
    console.print(table)


def show_comparison(comparison: Comparison, console: Console) -> None:
    """What changed, and which limits are exceeded."""
    table = figures_table("changes since the earlier report", "figure", "then", "now", "change")
    for change in comparison.changes:
        scale, unit = (1, "/s") if change.figure.endswith("_fps") else (1e6, " ms")
        table.add_row(
            change.figure,
            f"{change.old / scale:.2f}{unit}",
            f"{change.new / scale:.2f}{unit}",
            f"{change.percent:+.1f} %",
        )
    console.print(table)
    for difference in comparison.differs:
        console.print(f"differs: {difference}")
    for failure in comparison.failures:
        console.print(f"FAILED: {failure}")


def _header(report: Report) -> list[str]:
    host, software, model = report.host, report.software, report.model
    runtime = f"{software.runtime.name} {software.runtime.version}" if software.runtime else "-"
    delegate = software.delegate.name if software.delegate else "no delegate"
    libraries = [
        f"{library.lib} ({(library.sha256 or 'cannot be read')[:12]})"
        for library in (software.runtime, software.delegate)
        if library and library.lib
    ]
    lines = [
        f"{host.board or 'unknown board'}, {host.soc or host.arch}, {host.cpu_count} CPUs, kernel {host.kernel}, "
        f"governor {host.governor or 'none'}",
        f"edge_isp {software.edge_isp} ({software.git_commit or 'no checkout'}), Python {software.python}, "
        f"NumPy {software.numpy}, {runtime}, {delegate}, {report.settings.threads} threads",
        *(f"library {library}" for library in libraries),
        f"{model.name} ({model.sha256[:12]}), input {'x'.join(map(str, model.input_shape))} {model.dtype}",
    ]
    if report.camera:
        camera = report.camera
        pace = f"{camera.requested_fps:g} frames/s" if camera.requested_fps else "its own pace"
        policy = report.settings.policy or "its default policy"
        lines.append(f"{camera.backend} {camera.mode} {camera.bayer} {camera.packing}, {pace}, {policy}")
    return lines


def _cell_row(cell: Cell, report: Report) -> list[str]:
    times = infer(report)
    added = report.resources.rss_init_bytes
    fps = report.rates.delivered_fps or report.rates.processed_fps
    return [
        cell.model,
        f"{cell.width}x{cell.height}",
        executor_name(cell),
        "" if cell.threads is None else str(cell.threads),
        f"{times.p50 / 1e6:.2f}",
        f"{times.p95 / 1e6:.2f}",
        _figure(fps, 1, 1),
        _figure(times.first, 1e6, 1),
        _figure(added, 1e6, 0),
    ]


def _row(values: Distribution) -> list[str]:
    times = (values.mean, values.p50, values.p95, values.p99, values.max)
    first = "" if values.first is None else f"{values.first / 1e6:.2f}"
    return [str(values.n), *(f"{value / 1e6:.2f}" for value in times), first]


def _footer(report: Report) -> list[str]:
    rates = {name: getattr(report.rates, f"{name}_fps") for name in ("sensor", "captured", "processed", "delivered")}
    lines = [", ".join(f"{name} {value:.2f}/s" for name, value in rates.items() if value is not None)]
    if report.intervals:
        jitter = report.intervals
        lines.append(
            f"intervals: p50 {jitter.p50 / 1e6:.2f} ms, p99 - p50 {(jitter.p99 - jitter.p50) / 1e6:.2f} ms, MAD "
            f"{jitter.mad / 1e6:.2f} ms; {jitter.early} early, {jitter.late} late, {jitter.very_late} very late"
        )
    if report.latency:
        causes = ", ".join(f"{cause} {frames}" for cause, frames in report.drops.by_cause.items())
        lines.append(
            f"lost {report.drops.total}{f' ({causes})' if causes else ''}, unexplained {report.drops.unexplained}; "
            f"camera opened again {report.reconnects} times"
        )
    if report.overhead:
        overhead = report.overhead
        lines.append(
            f"pipeline {overhead.pipeline_fps:.2f}/s, its engine alone {overhead.engine_fps:.2f}/s: "
            f"{100 * overhead.share:.1f} % ({overhead.rounds} rounds); CPU time per frame "
            f"{1e3 * overhead.pipeline_cpu_s_per_frame:.1f} ms and {1e3 * overhead.engine_cpu_s_per_frame:.1f} ms"
        )
    lines.append(_resources(report))
    return lines


def _resources(report: Report) -> str:
    used = report.resources
    parts = [f"CPU {used.cpu_percent:.0f} %"]
    if used.rss_peak_bytes is not None:
        parts.append(f"memory {used.rss_peak_bytes / 1e6:.1f} MB at most")
    if used.rss_init_bytes is not None:
        parts.append(f"{used.rss_init_bytes / 1e6:.1f} MB of it for loading the model and its runtime")
    if used.rss_growth_bytes is not None:
        parts.append(f"{used.rss_growth_bytes / 1e6:+.2f} MB after the first minute")
    if report.thermal.max_c is not None:
        parts.append(
            f"{report.thermal.start_c:.0f} to {report.thermal.end_c:.0f} °C, {report.thermal.max_c:.0f} at most"
        )
    if report.thermal.throttled is not None:
        parts.append(f"throttled: {report.thermal.throttled.raw}")
    if report.energy.j_per_frame is not None:
        parts.append(f"{report.energy.j_per_frame:.3f} J per frame ({report.energy.source})")
    return ", ".join(parts)


def _operators(operators: list[OperatorTime]) -> Table:
    total = sum(operator.ns for operator in operators)
    table = figures_table("operators, by the runtime's profiler", "operator", "nodes", "ms", "share")
    for each in operators:
        share = f"{100 * each.ns / total:.1f} %" if total else ""
        table.add_row(f"{each.operator} ({each.executor})", str(each.nodes), f"{each.ns / 1e6:.2f}", share)
    return table


def _baselines(baselines: list[Baseline]) -> Table:
    table = figures_table(
        "what others do, in turns, each in a process of its own; CPU per frame, highest memory",
        "baseline",
        "fps",
        "p50 ms",
        "p95 ms",
        "CPU ms",
        "MB",
        "imports",
    )
    for baseline in baselines:
        if baseline.skipped:
            table.add_row(f"{baseline.name}: skipped: {baseline.skipped}")
            continue
        imports = None
        if baseline.rss_peak_bytes is not None and baseline.rss_above_imports_bytes is not None:
            imports = baseline.rss_peak_bytes - baseline.rss_above_imports_bytes
        table.add_row(
            f"{baseline.name}: {baseline.makes}",
            _figure(baseline.fps, 1, 2),
            _figure(baseline.latency_p50_ns, 1e6, 2),
            _figure(baseline.latency_p95_ns, 1e6, 2),
            _figure(baseline.cpu_s_per_frame, 1e-3, 1),
            _figure(baseline.rss_peak_bytes, 1e6, 1),
            _figure(imports, 1e6, 1),
        )
    return table


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _verdict(result: KernelResult) -> str:
    return "met" if result.target_met else "missed"


def _figure(value: float | None, scale: float, digits: int) -> str:
    return "" if value is None else f"{value / scale:.{digits}f}"
