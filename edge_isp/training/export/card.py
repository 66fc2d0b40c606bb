"""Writes a quantised network as a model and the card that describes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from edge_isp.training.colour import Colour
from edge_isp.training.data import INPUT_CURVE, NOISE_FACTOR
from edge_isp.training.export.tflite import to_tflite
from edge_isp.training.quantisation import QuantisedGraph

# The size that stands in the file; whoever opens the model changes it to the frame's.
DEFAULT_HEIGHT, DEFAULT_WIDTH = 720, 1280


def write_isp_model(
    quantised: QuantisedGraph,
    folder: Path,
    *,
    name: str,
    sensor: str,
    colour: Colour,
    training: Mapping[str, object],
    quality: Mapping[str, Mapping[str, float]],
) -> Path:
    """Writes `NAME.tflite` and `NAME.toml` into a folder; returns the model's path.

    Args:
        training: how the network was trained, for the card.
        quality: PSNR in dB on the validation photographs, by arithmetic and gain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tflite"
    content = to_tflite(quantised, height=DEFAULT_HEIGHT // 2, width=DEFAULT_WIDTH // 2, channels=colour.input_planes)
    source = quantised.tensors[quantised.graph.input]
    target = quantised.tensors[quantised.graph.outputs[0]]
    lines = [
        "[model]",
        f'name = "{name}"',
        'task = "isp"',
        f'file = "{path.name}"',
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"',
        f'sensor = "{sensor}"',
        f'colour = "{colour.name}"',
        'licence = "Apache-2.0"',
        *([] if quantised.graph.reach is None else [f"reach = {quantised.graph.reach}"]),
        "",
        "[input]",
        f"shape = [1, {DEFAULT_HEIGHT // 2}, {DEFAULT_WIDTH // 2}, {colour.input_planes}]",
        'dtype = "int8"',
        f"scale = {source.scale!r}",
        f"zero_point = {source.zero_point}",
        f'layout = "{colour.input_layout}"',
        f'curve = "{INPUT_CURVE}"',
        *([f"noise_factor = {NOISE_FACTOR}"] if colour.input_layout == "rggb-noise" else []),
        "",
        "[output]",
        f"shape = [1, {DEFAULT_HEIGHT // 2}, {DEFAULT_WIDTH // 2}, 12]",
        'dtype = "int8"',
        f"scale = {target.scale!r}",
        f"zero_point = {target.zero_point}",
        f'layout = "{colour.output_layout}"',
        "",
        "[training]",
        *(f"{key} = {_toml(value)}" for key, value in training.items()),
        "",
        "# PSNR in dB on the validation photographs, simulated RAW, 5700 K.",
        "[quality]",
        *(
            f"{arithmetic}_{gain}_psnr_db = {value:.2f}"
            for arithmetic, values in quality.items()
            for gain, value in values.items()
        ),
    ]
    _write(path, content)
    _write(path.with_suffix(".toml"), ("\n".join(lines) + "\n").encode())
    return path


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(path.suffix + ".unfinished")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
