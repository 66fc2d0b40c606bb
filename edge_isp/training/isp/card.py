"""The model and the card of an ISP network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from edge_isp.training.export.card import model_lines, tensor_lines, training_lines, write_model
from edge_isp.training.export.tflite import to_tflite
from edge_isp.training.isp.colour import Colour
from edge_isp.training.quantisation.arithmetic import QuantisedGraph
from edge_isp.training.simulation.conventions import NOISE_FACTOR
from edge_isp.training.simulation.samples import INPUT_CURVE

# The size that stands in the file; opening the model for another size changes it.
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
        quantised: the network.
        folder: is made if needed.
        name: of the model.
        sensor: that it was trained for, or "generic".
        colour: how its output becomes a picture.
        training: how the network was trained, for the card.
        quality: PSNR in dB on the validation photographs, by arithmetic and gain.
    """
    graph = quantised.graph
    height, width = (
        math.ceil(pixels / colour.cell / graph.input_multiple) * graph.input_multiple
        for pixels in (DEFAULT_HEIGHT, DEFAULT_WIDTH)
    )
    shape = (height, width, colour.input_planes)
    content = to_tflite(quantised, height=height, width=width, channels=colour.input_planes)
    (output,) = graph.outputs
    document = [
        *model_lines(name, "isp", content, sensor),
        f'colour = "{colour.name}"',
        'licence = "Apache-2.0"',
        *([] if graph.receptive_field_radius is None else [f"receptive_field_radius = {graph.receptive_field_radius}"]),
        *([] if graph.input_multiple == 1 else [f"input_multiple = {graph.input_multiple}"]),
        "",
        "[input]",
        *tensor_lines((1, *shape), quantised.tensors[graph.input], colour.input_layout),
        f'curve = "{INPUT_CURVE}"',
        *([f"noise_factor = {NOISE_FACTOR}"] if colour.input_layout.endswith("-noise") else []),
        "",
        "[output]",
        *tensor_lines((1, *shape[:2], colour.output_planes), quantised.tensors[output], colour.output_layout),
        "",
        *training_lines(training),
        "",
        "# PSNR in dB on the validation photographs, simulated RAW, 5700 K.",
        "[quality]",
        *(
            f"{arithmetic}_{gain}_psnr_db = {value:.2f}"
            for arithmetic, values in quality.items()
            for gain, value in values.items()
        ),
    ]
    return write_model(folder, name, content, document)
