"""Rewrites an int8 `.tflite` so that Ethos-U moves less memory; every output stays the same, bit for bit.

Ethos-U keeps activations in blocks of 16 channels where it can, and reads anything else pixel by pixel, for which its
bus to the DRAM is too coarse. Three things are done about that:

- Parts of a concatenation that are no multiple of 16 channels are widened by channels that are zero, but for the last,
  after which nothing begins.
- A tensor that is copied into a concatenation comes out of the 1x1 convolution that makes another part of it from the
  same tensor: by an identity beside that convolution's weights.
- An input that is no multiple of 16 channels first goes through a 1x1 convolution, an identity with further channels
  that are zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_isp.models.tflite_graph import Operator, TfliteGraph

_BLOCK = 16


def arrange_for_ethos_u(content: bytes, name: str) -> bytes:
    """The same model for Ethos-U.

    Args:
        content: of the `.tflite`.
        name: of the file, for messages.

    Raises:
        ModelError: it is no model that edge_isp's networks make.
    """
    graph = TfliteGraph(content, name)
    size = graph.shape(graph.input)[1:3]
    for index in range(len(graph.operators)):
        _merge_copy(graph, graph.operators[index])
    graph = TfliteGraph(graph.to_bytes(), name)
    for operator in graph.operators:
        _widen_parts(graph, operator)
    _widen_input(graph)
    graph = TfliteGraph(graph.to_bytes(), name)
    graph.resize(*size)
    return graph.to_bytes()


def _consumers(graph: TfliteGraph, tensor: int) -> list[Operator]:
    return [operator for operator in graph.operators if tensor in operator.inputs]


def _producer(graph: TfliteGraph, tensor: int) -> Operator | None:
    return next((operator for operator in graph.operators if operator.output == tensor), None)


def _reader(graph: TfliteGraph, concat: Operator) -> Operator | None:
    """The convolution that alone reads a concatenation's output, where there is one."""
    consumers = _consumers(graph, concat.output)
    if concat.kind != "concat" or concat.output in graph.outputs or [o.kind for o in consumers] != ["conv"]:
        return None
    return consumers[0]


def _merge_copy(graph: TfliteGraph, concat: Operator) -> None:
    """Lets a tensor that is copied into a concatenation come out of another part's convolution."""
    reader = _reader(graph, concat)
    if reader is None:
        return
    for copied in concat.inputs:
        part = next((p for p in concat.inputs if p != copied and _can_carry(graph, concat, p, copied)), None)
        if part is None:
            continue
        conv = _producer(graph, part)
        assert conv is not None
        own, more = graph.shape(part)[3], graph.shape(copied)[3]
        _extend(graph, conv, np.eye(more, graph.shape(conv.inputs[1])[3], dtype=np.int8)[:, None, None, :], 1.0)
        starts = np.cumsum([0, *(graph.shape(p)[3] for p in concat.inputs)])
        places = {p: np.arange(s, s + graph.shape(p)[3]) for p, s in zip(concat.inputs, starts[:-1], strict=True)}
        rest = tuple(p for p in concat.inputs if p != copied)
        order = [np.concatenate([places[p], places[copied]]) if p == part else places[p] for p in rest]
        _set_constant(graph, reader.inputs[1], graph.constant(reader.inputs[1])[..., np.concatenate(order)])
        graph.model.subgraphs[0].operators[graph.operators.index(concat)].inputs = list(rest)
        shape = list(graph.shape(part))
        graph.tensors[part].shape = np.asarray([*shape[:3], own + more], np.int32)
        return


def _can_carry(graph: TfliteGraph, concat: Operator, part: int, copied: int) -> bool:
    """Whether a part of a concatenation is made from a tensor that is copied into it, in the same steps."""
    conv, source = _producer(graph, part), _producer(graph, copied)
    if conv is None or source is None or conv.kind != "conv" or conv.inputs[0] != copied or len(conv.inputs) != 3:
        return False
    same = graph.scale(part) == graph.scale(copied) and graph.zero_point(part) == graph.zero_point(copied)
    alone = _consumers(graph, part) == [concat] and len(_consumers(graph, copied)) > 1
    return bool(
        same
        and alone
        and part not in graph.outputs
        and concat.inputs.count(part) == concat.inputs.count(copied) == 1
        and graph.shape(conv.inputs[1])[1:3] == (1, 1)
        and conv.stride == 1
        and (source.relu or not conv.relu)
    )


def _widen_parts(graph: TfliteGraph, concat: Operator) -> None:
    """Gives parts of a concatenation whole blocks of channels."""
    reader = _reader(graph, concat)
    if reader is None:
        return
    columns, start, weights = [], 0, graph.constant(reader.inputs[1])
    for part in concat.inputs:
        channels = graph.shape(part)[3]
        columns.append(weights[..., start : start + channels])
        start += channels
        conv, missing = _producer(graph, part), -channels % _BLOCK
        alone = _consumers(graph, part) == [concat] and concat.inputs.count(part) == 1 and part not in graph.outputs
        last = part == concat.inputs[-1]
        if last or not missing or not alone or conv is None or conv.kind != "conv" or len(conv.inputs) != 3:
            continue
        _extend(graph, conv, np.zeros((missing, *graph.shape(conv.inputs[1])[1:]), np.int8), 1.0)
        graph.tensors[part].shape = np.asarray([*graph.shape(part)[:3], channels + missing], np.int32)
        columns.append(np.zeros((*weights.shape[:3], missing), np.int8))
    _set_constant(graph, reader.inputs[1], np.concatenate(columns, axis=-1))


def _widen_input(graph: TfliteGraph) -> None:
    """Puts a convolution before the first one that gives the input whole blocks of channels."""
    channels = graph.shape(graph.input)[3]
    consumers = _consumers(graph, graph.input)
    missing = -channels % _BLOCK
    if not missing or [operator.kind for operator in consumers] != ["conv"] or consumers[0].stride != 1:
        return
    first, subgraph = consumers[0], graph.model.subgraphs[0]
    source = graph.tensors[graph.input]
    wide: Any = schema.TensorT()
    wide.name, wide.type, wide.quantization = b"edge_isp/wide_input", source.type, source.quantization
    wide.shape = np.asarray([*graph.shape(graph.input)[:3], channels + missing], np.int32)
    wide.buffer = 0
    identity = np.eye(channels + missing, channels, dtype=np.int8)[:, None, None, :]
    scale = float(graph.scale(graph.input)[0])
    weights = _constant(graph, b"edge_isp/wide_input/weight", identity, 1.0)
    bias = _constant(graph, b"edge_isp/wide_input/bias", np.zeros(channels + missing, np.int32), scale)
    graph.tensors.append(wide)
    entry: Any = schema.OperatorT()
    original = subgraph.operators[graph.operators.index(first)]
    entry.opcodeIndex = original.opcodeIndex
    options: Any = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    entry.builtinOptionsType, entry.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
    entry.inputs, entry.outputs = [graph.input, weights, bias], [len(graph.tensors) - 1]
    original.inputs = [len(graph.tensors) - 1, *list(original.inputs)[1:]]
    subgraph.operators.insert(0, entry)
    old = graph.constant(first.inputs[1])
    _set_constant(graph, first.inputs[1], np.concatenate([old, np.zeros((*old.shape[:3], missing), np.int8)], axis=-1))


def _extend(graph: TfliteGraph, conv: Operator, rows: NDArray[np.int8], scale: float) -> None:
    """Gives a convolution further outputs, without bias.

    Args:
        conv: whose weights and bias are changed.
        rows: their weights.
        scale: of these weights.
    """
    weights, bias = conv.inputs[1:]
    source_scale = float(graph.scale(conv.inputs[0])[0])
    for index, more, step in (
        (weights, rows, scale),
        (bias, np.zeros(len(rows), np.int32), scale * source_scale),
    ):
        old, steps = graph.constant(index), graph.scale(index)
        if len(steps) == 1:
            steps = np.repeat(steps, len(old))
        _set_constant(graph, index, np.concatenate([old, more.astype(old.dtype)]))
        quantisation = graph.tensors[index].quantization
        quantisation.scale = np.concatenate([steps, np.full(len(rows), step, np.float32)])
        quantisation.zeroPoint = np.zeros(len(quantisation.scale), np.int64)


def _set_constant(graph: TfliteGraph, index: int, values: NDArray[Any]) -> None:
    """Gives a tensor of constants other values, in a buffer of its own."""
    buffer: Any = schema.BufferT()
    buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    graph.tensors[index].buffer = len(graph.model.buffers)
    graph.tensors[index].shape = np.asarray(values.shape, np.int32)
    graph.model.buffers.append(buffer)


def _constant(graph: TfliteGraph, name: bytes, values: NDArray[Any], scale: float) -> int:
    """A new tensor of constants; its index."""
    tensor: Any = schema.TensorT()
    tensor.name = name
    tensor.type = schema.TensorType.INT8 if values.dtype == np.int8 else schema.TensorType.INT32
    quantisation: Any = schema.QuantizationParametersT()
    quantisation.scale = np.full(len(values), scale, np.float32)
    quantisation.zeroPoint = np.zeros(len(values), np.int64)
    quantisation.quantizedDimension = 0
    tensor.quantization = quantisation
    graph.tensors.append(tensor)
    _set_constant(graph, len(graph.tensors) - 1, values)
    return len(graph.tensors) - 1
