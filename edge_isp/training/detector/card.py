"""The model and the card of a detector."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_isp.training.export.card import model_lines, tensor_lines, toml_value, training_lines, write_model
from edge_isp.training.export.tflite import to_tflite
from edge_isp.training.networks.yolox import STRIDES
from edge_isp.training.quantisation.arithmetic import QuantisedGraph
from edge_isp.training.simulation.samples import INPUT_CURVE

# The side of a detector's mosaic in pixels.
DETECTOR_SIZE = 416


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
        folder: is made if needed.
        name: of the model.
        sensor: that it was trained for, or "generic".
        classes: their names.
        training: how the network was trained, for the card.
        quality: figures for the card, by what they are.
    """
    side = DETECTOR_SIZE // 2
    content = to_tflite(quantised, height=side, width=side)
    document = [
        *model_lines(name, "detector", content, sensor),
        'licence = "Apache-2.0"',
        f"classes = {json.dumps(list(classes), ensure_ascii=False)}",
        "",
        "[input]",
        *tensor_lines((1, side, side, 4), quantised.tensors[quantised.graph.input], "rggb"),
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
            *tensor_lines((1, cells, cells, channels[layout]), quantised.tensors[output], layout),
            f"stride = {stride}",
        ]
    document += ["", *training_lines(training), "", "[quality]"]
    document += [f"{what} = {toml_value(value)}" for what, value in quality.items()]
    return write_model(folder, name, content, document)
