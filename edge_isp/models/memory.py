"""How much memory a model needs for a frame, before it is asked for.

Most of it is not tensors. For every 3x3 convolution XNNPACK keeps a pointer for each input row of each tap of each
output, 72 bytes an output: 576 of the 780 bytes that `rfdcsanet-s` takes for each 2x2 cell of a frame.
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

# Of a model whose graph is not known (`.onnx`, or operators that are not ours): more than any shipped one.
UNKNOWN_BYTES_PER_CELL = 2000.0


def engine_bytes(card: ModelCard, height: int, width: int) -> int:
    """Memory that the CPU's engine takes for a frame, without the model's weights; an upper estimate.

    Args:
        card: of the model.
        height: of the input, in rows of cells.
        width: of the input, in columns of cells.
    """
    return math.ceil(_bytes_per_cell(card.path) * height * width)


def frame_bytes(card: ModelCard, height: int, width: int) -> int:
    """Memory of a frame's own arrays, besides the engine's: the input, the outputs, and an 8-bit RGB picture of it.

    Args:
        card: of the model.
        height: of the input, in rows of cells.
        width: of the input, in columns of cells.
    """
    picture = 12
    return height * width * (card.input.shape[3] + sum(output.shape[3] for output in card.outputs) + picture)


@lru_cache(maxsize=16)
def _bytes_per_cell(path: Path) -> float:
    """Of a row and column of the input.

    Args:
        path: of the model's file.
    """
    try:
        graph = TfliteGraph(path.read_bytes(), path.name)
    except (OSError, ModelError):
        return UNKNOWN_BYTES_PER_CELL
    _, height, width, _ = graph.shape(graph.input)
    return _MARGIN * (_pointer_bytes(graph) + _live_bytes(graph)) / (height * width)


def _pointer_bytes(graph: TfliteGraph) -> int:
    """Of XNNPACK's indirection buffers: one for every convolution that is no matrix multiplication."""
    total = 0
    for operator in graph.operators:
        if operator.kind in ("conv", "depthwise"):
            taps = math.prod(graph.shape(operator.inputs[1])[1:3])
            if taps > 1:
                total += _POINTER_BYTES * taps * math.prod(graph.shape(operator.output)[1:3])
    return total


def _live_bytes(graph: TfliteGraph) -> int:
    """The most int8 activations that are needed at a time, operator by operator; input and outputs twice, since the
    caller has a copy."""
    last_use = {index: step for step, operator in enumerate(graph.operators) for index in operator.inputs}
    size = {index: math.prod(graph.shape(index)) for index in (graph.input, *(o.output for o in graph.operators))}
    live = {graph.input}
    most = 0
    for step, operator in enumerate(graph.operators):
        live.add(operator.output)
        most = max(most, sum(size[index] for index in live))
        live = {index for index in live if last_use.get(index, step + 1) > step}
    return most + size[graph.input] + sum(size[index] for index in graph.outputs)


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that the system could give to this process now; None where it does not say.

    Args:
        root: of the file system that is read; tests have their own.
    """
    found = [_counters(root / "proc/meminfo").get("MemAvailable"), *_left_in_groups(root)]
    known = [number for number in found if number is not None]
    return min(known) if known else None


def _left_in_groups(root: Path) -> list[int]:
    """What the control groups of this process leave to it: a service's MemoryMax, a container's limit."""
    # A line "0::/system.slice/edge-isp.service" is the group's path in the hierarchy of version 2.
    groups = (line[3:].strip("/") for line in _text(root / "proc/self/cgroup").splitlines() if line.startswith("0::"))
    left = []
    for group in groups:
        for folder in (root / "sys/fs/cgroup" / group, *(root / "sys/fs/cgroup" / group).parents):
            limit, used = _text(folder / "memory.max").strip(), _text(folder / "memory.current").strip()
            if limit.isdecimal() and used.isdecimal():
                # Cached files count as used, and are given up when memory is wanted.
                cached = _counters(folder / "memory.stat").get("inactive_file") or 0
                left.append(max(int(limit) - int(used) + cached, 0))
    return left


def _counters(path: Path) -> dict[str, int]:
    """Of lines such as "MemAvailable:  3904212 kB" and "inactive_file 4096"; in bytes."""
    found = {}
    for line in _text(path).splitlines():
        name, *values = line.replace(":", " ").split()
        if values and values[0].isdecimal():
            found[name] = int(values[0]) * (1024 if values[1:] == ["kB"] else 1)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
