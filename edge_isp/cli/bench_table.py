"""Reports of benchmarks as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from edge_isp.bench.compare import Comparison
    from edge_isp.bench.report import Baseline, Distribution, Report


def show_report(report: Report, console: Console) -> None:
    """A report: what was measured on what, the stages, the rates, what was lost, and the verdict."""
    for line in _header(report):
        console.print(line, highlight=False)
    table = Table(title=f"{report.kind}, ms; percentiles: {report.percentiles}", title_justify="left")
    table.add_column("stage", no_wrap=True)
    for column in ("n", "mean", "p50", "p90", "p95", "p99", "max", "first", "share"):
        table.add_column(column, justify="right")
    whole = report.latency.e2e.mean if report.latency else None
    for stage in report.stages:
        table.add_row(stage.name, *_row(stage, whole if stage.name != "read" else None))
    for wait in report.waits:
        table.add_row(f"waits to {wait.name}", *_row(wait, whole))
    if report.latency:
        table.add_row("exposure to result", *_row(report.latency.e2e, None))
    console.print(table)
    for line in _footer(report):
        console.print(line, highlight=False)
    if report.baselines:
        console.print(_baselines(report.baselines))
    console.print("VALID" if report.valid else f"INVALID: {'; '.join(report.invalid_reasons)}", highlight=False)


def show_comparison(comparison: Comparison, console: Console) -> None:
    """What changed, and which limits are exceeded."""
    table = Table(title="since the earlier report", title_justify="left")
    table.add_column("figure")
    for column in ("then", "now", "change"):
        table.add_column(column, justify="right")
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
        console.print(f"differs: {difference}", highlight=False)
    for failure in comparison.failures:
        console.print(f"FAILED: {failure}", highlight=False)


def _header(report: Report) -> list[str]:
    host, software, model = report.host, report.software, report.model
    runtime = f"{software.runtime.name} {software.runtime.version}" if software.runtime else "-"
    delegate = software.delegate.name if software.delegate else "no delegate"
    lines = [
        f"{host.board or 'unknown board'}, {host.soc or host.arch}, {host.cpu_count} CPUs, kernel {host.kernel}, "
        f"governor {host.governor or 'none'}",
        f"edge_isp {software.edge_isp} ({software.git_commit or 'no checkout'}), Python {software.python}, "
        f"NumPy {software.numpy}, {runtime}, {delegate}, {report.settings.threads} threads",
        f"{model.name} ({model.sha256[:12]}), input {'x'.join(map(str, model.input_shape))} {model.dtype}",
    ]
    if report.camera:
        camera = report.camera
        pace = f"{camera.requested_fps:g} frames/s" if camera.requested_fps else "its own pace"
        policy = report.settings.policy or "its default policy"
        lines.append(f"{camera.backend} {camera.mode} {camera.bayer} {camera.packing}, {pace}, {policy}")
    return lines


def _row(values: Distribution, whole: float | None) -> list[str]:
    times = (values.mean, values.p50, values.p90, values.p95, values.p99, values.max)
    first = "" if values.first is None else f"{values.first / 1e6:.2f}"
    share = f"{100 * values.mean / whole:.0f} %" if whole else ""
    return [str(values.n), *(f"{value / 1e6:.2f}" for value in times), first, share]


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
        beside = report.overhead
        lines.append(
            f"pipeline {beside.pipeline_fps:.2f}/s beside its engine alone {beside.engine_fps:.2f}/s: "
            f"{100 * beside.share:.1f} % ({beside.rounds} rounds); CPU {1e3 * beside.pipeline_cpu_s_per_frame:.1f} ms "
            f"a frame beside {1e3 * beside.engine_cpu_s_per_frame:.1f} ms"
        )
    lines.append(_resources(report))
    return lines


def _resources(report: Report) -> str:
    used = report.resources
    parts = [f"CPU {used.cpu_percent:.0f} %"]
    if used.rss_peak_bytes is not None:
        parts.append(f"memory {used.rss_peak_bytes / 1e6:.1f} MB at most")
    if used.rss_growth_bytes is not None:
        parts.append(f"{used.rss_growth_bytes / 1e6:+.2f} MB after the first minute")
    if report.thermal.max_c is not None:
        parts.append(
            f"{report.thermal.start_c:.0f} to {report.thermal.end_c:.0f} °C, {report.thermal.max_c:.0f} at most"
        )
    if report.thermal.throttled is not None:
        parts.append(f"throttled: {report.thermal.throttled.raw}")
    if report.energy.j_per_frame is not None:
        parts.append(f"{report.energy.j_per_frame:.3f} J a frame ({report.energy.source})")
    return ", ".join(parts)


def _baselines(baselines: list[Baseline]) -> Table:
    table = Table(title="baselines, each in a process of its own, in turns", title_justify="left")
    table.add_column("implementation")
    table.add_column("makes")
    for column in ("frames/s", "p50 ms", "p95 ms", "CPU s per frame", "MB above imports", "MB at most"):
        table.add_column(column, justify="right")
    for baseline in baselines:
        if baseline.skipped:
            table.add_row(baseline.name, f"skipped: {baseline.skipped}")
            continue
        table.add_row(
            baseline.name,
            baseline.makes,
            _figure(baseline.fps, 1, 2),
            _figure(baseline.latency_p50_ns, 1e6, 2),
            _figure(baseline.latency_p95_ns, 1e6, 2),
            _figure(baseline.cpu_s_per_frame, 1, 4),
            _figure(baseline.rss_above_imports_bytes, 1e6, 1),
            _figure(baseline.rss_peak_bytes, 1e6, 1),
        )
    return table


def _figure(value: float | None, scale: float, digits: int) -> str:
    return "" if value is None else f"{value / scale:.{digits}f}"
