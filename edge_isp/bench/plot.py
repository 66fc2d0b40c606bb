"""A report as a picture."""

from __future__ import annotations

from pathlib import Path

from edge_isp.bench.report import Report
from edge_isp.errors import BenchError, MissingDependencyError

_PERCENTILES = ("min", "p50", "p90", "p95", "p99", "p999", "max")


def plot_report(report: Report, path: Path) -> None:
    """Draws the percentiles of every stage, and what became of the frames.

    Args:
        report: what to draw.
        path: of the picture; its suffix names the format.

    Raises:
        BenchError: it cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingDependencyError("--plot", "matplotlib", "bench") from error
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    times, frames = figure.subplots(1, 2, width_ratios=(2, 1))
    drawn = [*report.stages, *([report.latency.e2e] if report.latency else [])]
    for values in drawn:
        label = "exposure to result" if values.name == "e2e" else values.name
        times.plot(_PERCENTILES, [getattr(values, p) / 1e6 for p in _PERCENTILES], marker="o", label=label)
    times.set_yscale("log")
    times.set_ylabel("ms")
    times.set_title(f"{report.model.name}, {report.host.board or report.host.soc or report.host.arch}")
    times.grid(visible=True, which="both", alpha=0.3)
    times.legend()
    delivered = max(values.n for values in drawn)
    names = ["delivered", *report.drops.by_cause]
    frames.barh(names, [delivered, *report.drops.by_cause.values()])
    frames.invert_yaxis()
    frames.set_xlabel("frames")
    frames.set_title("VALID" if report.valid else "INVALID")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: the plot cannot be written: {error}") from error
