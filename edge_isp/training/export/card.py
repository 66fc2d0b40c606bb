"""Writes a quantised network as a model and the card that describes it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_isp.training.export.tflite import to_tflite
from edge_isp.training.isp.colour import Colour
from edge_isp.training.networks.yolox import STRIDES
from edge_isp.training.quantisation.arithmetic import Quantisation, QuantisedGraph
from edge_isp.training.simulation import INPUT_CURVE, NOISE_FACTOR

# The size that stands in the file; whoever opens the model changes it to the frame's.
DEFAULT_HEIGHT, DEFAULT_WIDTH = 720, 1280
# The side of a detector's mosaic in pixels.
DETECTOR_SIZE = 416


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
    shape = (DEFAULT_HEIGHT // 2, DEFAULT_WIDTH // 2, colour.input_planes)
    content = to_tflite(quantised, height=shape[0], width=shape[1], channels=shape[2])
    (output,) = quantised.graph.outputs
    document = [
        *_model_lines(name, "isp", content, sensor),
        f'colour = "{colour.name}"',
        'licence = "Apache-2.0"',
        *(
            []
            if quantised.graph.receptive_field_radius is None
            else [f"receptive_field_radius = {quantised.graph.receptive_field_radius}"]
        ),
        "",
        "[input]",
        *_tensor_lines((1, *shape), quantised.tensors[quantised.graph.input], colour.input_layout),
        f'curve = "{INPUT_CURVE}"',
        *([f"noise_factor = {NOISE_FACTOR}"] if colour.input_layout == "rggb-noise" else []),
        "",
        "[output]",
        *_tensor_lines((1, *shape[:2], 12), quantised.tensors[output], colour.output_layout),
        "",
        *_training_lines(training),
        "",
        "# PSNR in dB on the validation photographs, simulated RAW, 5700 K.",
        "[quality]",
        *(
            f"{arithmetic}_{gain}_psnr_db = {value:.2f}"
            for arithmetic, values in quality.items()
            for gain, value in values.items()
        ),
    ]
    return _write_model(folder, name, content, document)


def write_detector_model(
    quantised: QuantisedGraph,
    folder: Path,
    *,
    name: str,
    sensor: str,
    classes: Sequence[str],
    training: Mapping[str, object],
    quality: Mapping[str, float],
) -> Path:
    """Writes `NAME.tflite` and `NAME.toml` into a folder; returns the model's path.

    Args:
        quantised: of `networks.yolox.YoloxNano`: its outputs are box, objectness and class of each of `STRIDES`.
        classes: their names.
        training: how the network was trained, for the card.
        quality: figures for the card, by what they are.
    """
    side = DETECTOR_SIZE // 2
    content = to_tflite(quantised, height=side, width=side)
    document = [
        *_model_lines(name, "detector", content, sensor),
        'licence = "Apache-2.0"',
        f"classes = {json.dumps(list(classes), ensure_ascii=False)}",
        "",
        "[input]",
        *_tensor_lines((1, side, side, 4), quantised.tensors[quantised.graph.input], "rggb"),
        f'curve = "{INPUT_CURVE}"',
    ]
    meanings = [(stride, layout) for stride in STRIDES for layout in ("box", "objectness", "class")]
    channels = {"box": 4, "objectness": 1, "class": len(classes)}
    for output, (stride, layout) in zip(quantised.graph.outputs, meanings, strict=True):
        made = len(quantised.weights[output].bias)
        if made != channels[layout]:
            raise ValueError(f"{output}: expected {channels[layout]} channels, for '{layout}'; found {made}")
        cells = DETECTOR_SIZE // stride
        document += [
            "",
            "[[outputs]]",
            *_tensor_lines((1, cells, cells, channels[layout]), quantised.tensors[output], layout),
            f"stride = {stride}",
        ]
    document += ["", *_training_lines(training), "", "[quality]"]
    document += [f"{what} = {_toml(value)}" for what, value in quality.items()]
    return _write_model(folder, name, content, document)


def _model_lines(name: str, task: str, content: bytes, sensor: str) -> list[str]:
    return [
        "[model]",
        f'name = "{name}"',
        f'task = "{task}"',
        f'file = "{name}.tflite"',
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"',
        f'sensor = "{sensor}"',
    ]


def _tensor_lines(shape: tuple[int, ...], quantisation: Quantisation, layout: str) -> list[str]:
    return [
        f"shape = {list(shape)}",
        'dtype = "int8"',
        f"scale = {quantisation.scale!r}",
        f"zero_point = {quantisation.zero_point}",
        f'layout = "{layout}"',
    ]


def _training_lines(training: Mapping[str, object]) -> list[str]:
    return ["[training]", *(f"{key} = {_toml(value)}" for key, value in training.items())]


def _write_model(folder: Path, name: str, content: bytes, document: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tflite"
    _write(path, content)
    _write(path.with_suffix(".toml"), ("\n".join(document) + "\n").encode())
    return path


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(path.suffix + ".unfinished")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
