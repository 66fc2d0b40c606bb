"""How much memory a model needs for a frame, before it is asked for.

Most of it is not tensors. For every 3x3 convolution XNNPACK keeps a pointer for each input row of each tap of each
output, 72 bytes an output: 576 of the 964 bytes that `rfdcsanet-s` takes for each 4x4 cell of a frame.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

from edge_isp.errors import ModelError
from edge_isp.models.card import ModelCard
from edge_isp.models.tflite_graph import TfliteGraph

_POINTER_BYTES = 8

# Added for other processors and versions. With it the estimate exceeds what was measured by 2 to 9 % (the shipped ISP
# models at 0.2, 0.5 and 3 million cells, LiteRT 2.3.0 on x86-64).
_MARGIN = 1.1

# Side of a tile in pixels. What overlaps costs little, and no more memory is needed than when a shipped model is
# loaded, at 1280x720.
_LARGEST_SIDE = 896

# Python with NumPy, numba and LiteRT.
_PROCESS_BYTES = 200_000_000

# A pixel of 10 bits; a pixel of RGB.
_RAW_BYTES_PER_PIXEL, _PICTURE_BYTES_PER_PIXEL = 1.25, 3

# Of a model whose graph is not known (`.onnx`, or operators that are not ours): more than any shipped one.
_UNKNOWN_BYTES_PER_CELL = 2000.0


def engine_bytes(card: ModelCard, height: int, width: int) -> int:
    """Memory that the CPU's engine takes for a frame, without the model's weights; an upper estimate.

    Args:
        card: of the model.
        height: of the input, in rows of cells.
        width: of the input, in columns of cells.
    """
    return math.ceil(_bytes_per_cell(card.path) * height * width)


def default_tile(card: ModelCard, height: int, width: int) -> tuple[int, int] | None:
    """Height and width of the tiles that frames are run in where they are too large; None where they cannot be.

    Args:
        card: of the model.
        height: of the input, in rows of cells.
        width: of the input, in columns of cells.
    """
    radius = card.receptive_field_radius
    if radius is None:
        return None
    return _tile_side(height, radius, card), _tile_side(width, radius, card)


def _tile_side(size: int, radius: int, card: ModelCard) -> int:
    """The size of tiles of at most `_LARGEST_SIDE` that overlap no more than they must."""
    multiple = card.input_multiple
    largest = _LARGEST_SIDE // card.cell // multiple * multiple
    if size <= largest:
        return size
    # A tile begins at a multiple, up to that much less one before the cells that it must see.
    overlap = 2 * radius + multiple - 1
    count = math.ceil((size - overlap) / (largest - overlap))
    return min(largest, math.ceil((math.ceil((size - overlap) / count) + overlap) / multiple) * multiple)


def stream_bytes(card: ModelCard, height: int, width: int, tile: tuple[int, int] | None = None) -> int:
    """Peak memory of a process that runs a model on a stream of frames as fast as it can; an upper estimate.

    Args:
        card: of the model.
        height: of the frames, in rows of the input's cells.
        width: of the frames, in columns of the input's cells.
        tile: height and width of the tiles that frames are run in; None for whole frames.
    """
    pixels = card.cell**2 * height * width
    # A model is loaded at the size that its file has.
    engine = engine_bytes(card, *card.input.shape[1:3])
    if card.task != "isp":  # frames are made smaller, to that size, while they are encoded
        return _PROCESS_BYTES + engine + math.ceil(3 * _RAW_BYTES_PER_PIXEL * pixels)
    engine = max(engine, engine_bytes(card, *(tile or (height, width))))
    # At a time one frame is encoded, one is the engine's and one is decoded, while the last picture is still held.
    tensors = (3 * card.input.shape[3] + 2 * card.outputs[0].shape[3]) * height * width
    pictures = math.ceil((_RAW_BYTES_PER_PIXEL + 2 * _PICTURE_BYTES_PER_PIXEL) * pixels)
    return _PROCESS_BYTES + engine + tensors + pictures


@lru_cache(maxsize=16)
def _bytes_per_cell(path: Path) -> float:
    """Of a row and column of the input.

    Args:
        path: of the model's file.
    """
    try:
        graph = TfliteGraph(path.read_bytes(), path.name)
    except (OSError, ModelError):
        return _UNKNOWN_BYTES_PER_CELL
    _, height, width, _ = graph.shape(graph.input)
    copies = math.prod(graph.shape(graph.input)) + sum(math.prod(graph.shape(index)) for index in graph.outputs)
    return _MARGIN * (_pointer_bytes(graph) + activation_bytes(graph) + copies) / (height * width)


def _pointer_bytes(graph: TfliteGraph) -> int:
    """Of XNNPACK's indirection buffers: one for every convolution that is no matrix multiplication."""
    total = 0
    for operator in graph.operators:
        if operator.kind in ("conv", "depthwise"):
            taps = math.prod(graph.shape(operator.inputs[1])[1:3])
            if taps > 1:
                total += _POINTER_BYTES * taps * math.prod(graph.shape(operator.output)[1:3])
    return total


def activation_bytes(graph: TfliteGraph) -> int:
    """The most int8 activations that are needed at a time, operator by operator, input and outputs among them.

    Args:
        graph: at the size of the frames.
    """
    last_use = {index: step for step, operator in enumerate(graph.operators) for index in operator.inputs}
    size = {index: math.prod(graph.shape(index)) for index in (graph.input, *(o.output for o in graph.operators))}
    live = {graph.input}
    most = 0
    for step, operator in enumerate(graph.operators):
        live.add(operator.output)
        most = max(most, sum(size[index] for index in live))
        live = {index for index in live if last_use.get(index, step + 1) > step}
    return most
