"""Reports as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_isp.bench.figures import infer
from edge_isp.bench.report import Cell, Matrix, Report
from edge_isp.errors import BenchError, MissingDependencyError

_FRAME_MS = 1e3 / 30

_MINIMUM: dict[str, Any] = {"marker": "_", "color": "black", "linestyle": "none", "markersize": 5}

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
    figure = _figure(11, 4.5)
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
    _save(figure, path)


def plot_matrix(matrix: Matrix, path: Path) -> None:
    """Draws the median inference of every combination: sizes side by side, threads below each other.

    Args:
        matrix: what to draw.
        path: of the picture; its suffix names the format.

    Raises:
        BenchError: it cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    cells = matrix.cells
    models = list(dict.fromkeys(cell.model for cell in cells))
    sizes = list(dict.fromkeys((cell.width, cell.height) for cell in cells))
    threads = list(dict.fromkeys(cell.threads for cell in cells))
    executors = list(dict.fromkeys(executor_name(cell) for cell in cells))
    medians = {
        (cell.model, (cell.width, cell.height), cell.threads, executor_name(cell)): median_ms(cell) for cell in cells
    }
    minima = {
        (cell.model, (cell.width, cell.height), cell.threads, executor_name(cell)): infer(cell.report).min / 1e6
        for cell in cells
        if cell.report is not None
    }
    figure = _figure(max(6.0, 1.5 + len(sizes) * len(models) * 0.85), 1.5 + 3.2 * len(threads))
    axes = figure.subplots(len(threads), len(sizes), sharex=True, sharey=True, squeeze=False)
    bar = 0.8 / len(executors)
    for row, count in zip(axes, threads, strict=True):
        for panel, size in zip(row, sizes, strict=True):
            for place, name in enumerate(executors):
                values = [medians.get((model, size, count, name)) for model in models]
                at = [index + (place - (len(executors) - 1) / 2) * bar for index in range(len(models))]
                drawn = panel.bar(at, [value or 0 for value in values], bar, label=name)
                panel.plot(at, [minima.get((model, size, count, name)) for model in models], **_MINIMUM)
                panel.bar_label(drawn, ["" if v is None else _three_digits(v) for v in values], fontsize=6, padding=1)
                for x, value in zip(at, values, strict=True):
                    if value is None:
                        panel.annotate("-", (x, 0.01), xycoords=("data", "axes fraction"), ha="center")
            panel.axhline(_FRAME_MS, color="black", linewidth=0.8, linestyle=":")
            panel.set_yscale("log")
            panel.set_title(f"{size[0]}x{size[1]}, {_threads(count)}")
            panel.set_xticks(range(len(models)), models, rotation=20, ha="right", fontsize=8)
            panel.grid(visible=True, which="major", axis="y", alpha=0.3)
            panel.margins(y=0.12)
        row[0].set_ylabel("ms")
    figure.suptitle(
        f"Median inference on {matrix.board}; black: the shortest; dotted: 30 frames a second; -: not measured"
    )
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(executors))
    _save(figure, path)


def executor_name(cell: Cell) -> str:
    """What a combination was to run on, for people.

    Args:
        cell: the combination.
    """
    if cell.delegate not in ("auto", "none"):
        return cell.delegate
    return cell.engine or "default engine"


def median_ms(cell: Cell) -> float | None:
    """The median inference in milliseconds; None where it was not measured.

    Args:
        cell: the combination.
    """
    return None if cell.report is None else infer(cell.report).p50 / 1e6


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _threads(count: int | None) -> str:
    return "default threads" if count is None else "1 thread" if count == 1 else f"{count} threads"


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingDependencyError("--plot", "matplotlib", "bench") from error
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: the plot cannot be written: {error}") from error
