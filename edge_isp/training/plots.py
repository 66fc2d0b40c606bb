"""Plots of training, as PNG files (matplotlib)."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_training(run_folder: Path, path: Path) -> None:
    """Loss and what validation measured over the steps of each stage of a run.

    Args:
        run_folder: what `edge-isp train ... --out` wrote; each of its folders with a `log.jsonl` is a stage.
        path: of the PNG file.

    Raises:
        FileNotFoundError: no folder of the run has a log.
    """
    logs = sorted(run_folder.glob("*/log.jsonl"))
    if not logs:
        raise FileNotFoundError(f"{run_folder}: expected a run of 'edge-isp train', found no folder with a log.jsonl")
    figure = Figure(figsize=(5.0 * len(logs), 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    for (losses, quality), log in zip(figure.subplots(2, len(logs), squeeze=False).T, logs, strict=True):
        # A step that was trained twice, because the run was cut off, counts as it was the last time.
        entries = {entry["step"]: entry for entry in map(json.loads, log.read_text(encoding="utf-8").splitlines())}
        steps = sorted(entries)
        losses.plot(steps, [entries[step]["loss"] for step in steps], lw=0.8)
        losses.set(title=log.parent.name, ylabel="loss", yscale="log")
        measured = next(key for key in entries[steps[-1]] if key.startswith("validation_"))
        for group in entries[steps[-1]][measured]:
            quality.plot(steps, [entries[step][measured][group] for step in steps], label=group)
        quality.set(xlabel="step", ylabel=measured.replace("_", " "))
        quality.grid(alpha=0.3)
        if quality.lines:
            quality.legend()
    figure.savefig(path, dpi=80, format="png")
