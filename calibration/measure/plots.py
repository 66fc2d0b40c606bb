"""Plots of what was measured, as PNG files (matplotlib; the extra `calibration`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_isp.calibration.light import srgb_encode
from edge_isp.calibration.measure.black_level import BlackLevel
from edge_isp.calibration.measure.colour_chart import COLUMNS, ROWS, ColourFit, reference_srgb
from edge_isp.calibration.measure.flat_field import FlatField
from edge_isp.calibration.measure.photon_transfer import NoiseMeasurement
from edge_isp.calibration.measure.stack import CHANNELS
from edge_isp.errors import CalibrationError, MissingDependencyError

_COLOURS = ("tab:red", "tab:green", "tab:olive", "tab:blue")


def plot_black_level(found: BlackLevel, path: Path) -> None:
    """Row and column patterns at the lowest gain, and the level over the gains."""
    figure = _figure(3)
    rows, columns, drift = figure.axes
    dark = found.by_gain[0]
    rows.plot(dark.row_profile, lw=0.6)
    rows.set(title="rows", xlabel="row", ylabel="codes from black level")
    columns.plot(dark.column_profile, lw=0.6)
    columns.set(title="columns", xlabel="column")
    gains = [entry.analogue_gain for entry in found.by_gain]
    for channel, (name, colour) in enumerate(zip(CHANNELS, _COLOURS, strict=True)):
        drift.plot(gains, [entry.level[channel] for entry in found.by_gain], "o-", color=colour, label=name)
    drift.set(title=f"black level, {len(found.hot)} hot pixels", xlabel="analogue gain", ylabel="codes")
    drift.legend()
    _save(figure, path)


def plot_noise(found: NoiseMeasurement, path: Path) -> None:
    """The photon transfer curve: variance over signal, with the fitted lines."""
    figure = _figure(1)
    (axes,) = figure.axes
    for fit, colour in zip(found.fits, _cycle(len(found.fits)), strict=True):
        points = [p for p in found.points if p.analogue_gain == fit.analogue_gain]
        signal = np.array([p.signal for p in points])
        axes.errorbar(
            signal,
            [p.variance for p in points],
            yerr=[p.variance_error for p in points],
            fmt=".",
            color=colour,
            label=f"gain {fit.analogue_gain:g}: {fit.codes_per_electron:.3g} codes per electron",
        )
        line = np.linspace(0, signal.max(), 50)
        axes.plot(line, fit.codes_per_electron * line + fit.read_variance, color=colour, lw=0.8)
    axes.set(title="photon transfer", xlabel="signal, codes", ylabel="variance in time, codes²")
    axes.legend()
    _save(figure, path)


def plot_shading(found: FlatField, path: Path) -> None:
    """Gain of each channel over the frame."""
    figure = _figure(4)
    highest = float(found.gains.max())
    pictures = []
    for axes, grid, name in zip(figure.axes, found.gains, CHANNELS, strict=True):
        pictures.append(axes.imshow(grid, vmin=1, vmax=highest))
        axes.set(title=f"{name}: 1 to {grid.max():.2f}", xticks=[], yticks=[])
    figure.colorbar(pictures[-1], ax=figure.axes, label="gain", shrink=0.6)
    _save(figure, path)


def plot_colour(found: ColourFit, path: Path) -> None:
    """The patches: reference outside, measured inside, with CIEDE2000."""
    figure = _figure(1)
    (axes,) = figure.axes
    reference = srgb_encode(reference_srgb()).reshape(ROWS, COLUMNS, 3)
    measured = srgb_encode(found.camera @ found.matrix.T).reshape(ROWS, COLUMNS, 3)
    picture = np.repeat(np.repeat(reference, 10, axis=0), 10, axis=1)
    for row in range(ROWS):
        for column in range(COLUMNS):
            picture[row * 10 + 3 : row * 10 + 7, column * 10 + 3 : column * 10 + 7] = measured[row, column]
            error = f"{found.errors[row * COLUMNS + column]:.1f}"
            ink = "black" if reference[row, column].mean() > 0.5 else "white"
            axes.text(column * 10 + 4.5, row * 10 + 1.6, error, ha="center", va="center", color=ink, size=8)
    axes.imshow(picture)
    axes.set(title=f"CIEDE2000: mean {found.errors.mean():.2f}, largest {found.errors.max():.2f}", xticks=[], yticks=[])
    _save(figure, path)


def _figure(columns: int) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingDependencyError("plotting", "matplotlib", "calibration") from error
    figure = Figure(figsize=(max(5.0, 3.2 * columns), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.subplots(1, columns)
    return figure


def _cycle(count: int) -> list[str]:
    return [f"C{i % 10}" for i in range(count)]


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=80, format="png")
    except OSError as error:
        raise CalibrationError(f"{path}: the plot cannot be written: {error.strerror}") from error
