"""Writes a graph as a static `.tflite`, in int8 where it is quantised: NHWC, our operators one to one, nothing else.

The operators' versions are those that TensorFlow Lite gave int8 (and per-channel weights) support in.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_isp.training.graph import Graph, Node
from edge_isp.training.quantisation.arithmetic import Quantisation, QuantisedGraph

_OPERATORS = {
    "conv": (schema.BuiltinOperator.CONV_2D, 3),
    "depthwise": (schema.BuiltinOperator.DEPTHWISE_CONV_2D, 3),
    "add": (schema.BuiltinOperator.ADD, 2),
    "mul": (schema.BuiltinOperator.MUL, 2),
    "concat": (schema.BuiltinOperator.CONCATENATION, 2),
    "sigmoid": (schema.BuiltinOperator.LOGISTIC, 2),
    "mean": (schema.BuiltinOperator.MEAN, 2),
    "maxpool": (schema.BuiltinOperator.MAX_POOL_2D, 2),
    "upsample": (schema.BuiltinOperator.TRANSPOSE_CONV, 2),
    "pad": (schema.BuiltinOperator.PAD, 2),
}
_CHANNEL_AXIS = 3  # NHWC


def to_tflite(quantised: QuantisedGraph, *, height: int, width: int, channels: int = 4) -> bytes:
    """The bytes of the model for inputs of 1 x height x width x channels.

    Args:
        quantised: the network.
        height: of the input, in cells.
        width: of the input, in cells.
        channels: of the input.
    """
    return _Writer(quantised.graph, quantised, (1, height, width, channels)).bytes()


def to_float_tflite(graph: Graph, *, height: int, width: int, channels: int = 4) -> bytes:
    """The same in float32, to compare with.

    Args:
        graph: of a merged network.
        height: of the input, in cells.
        width: of the input, in cells.
        channels: of the input.
    """
    return _Writer(graph, None, (1, height, width, channels)).bytes()


class _Writer:
    """Writes a graph: as integers where it is quantised, else in floating point."""

    def __init__(self, graph: Graph, quantised: QuantisedGraph | None, input_shape: tuple[int, int, int, int]) -> None:
        self.quantised = quantised
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "edge_isp"
        self.buffers: list[Any] = [schema.BufferT()]
        self.operator_codes: list[Any] = []
        self.subgraph = schema.SubGraphT()
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.index: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

        self._activation(graph.input, input_shape)
        for node in graph.nodes:
            self._node(node)
        self.subgraph.inputs = [self.index[graph.input]]
        self.subgraph.outputs = [self.index[name] for name in graph.outputs]
        self.subgraph.tensors, self.subgraph.operators = self.tensors, self.operators
        self.model.buffers, self.model.operatorCodes = self.buffers, self.operator_codes
        self.model.subgraphs = [self.subgraph]

    def bytes(self) -> bytes:
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _node(self, node: Node) -> None:
        if node.kind == "upsample":
            self._upsample(node)
            return
        shape = self.shapes[node.inputs[0]]
        inputs = [self.index[name] for name in node.inputs]
        match node.kind:
            case "conv":
                assert node.weight is not None
                if node.stride == 2:
                    inputs = [self._padded(node)]
                inputs += self._weights(node)
                batch, height, width, _ = shape
                shape = (batch, -(-height // node.stride), -(-width // node.stride), node.weight.shape[0])
            case "add" | "mul":
                shape = tuple(max(sizes) for sizes in zip(*(self.shapes[n] for n in node.inputs), strict=True))
            case "concat":
                shape = (*shape[:3], sum(self.shapes[n][_CHANNEL_AXIS] for n in node.inputs))
            case "mean":
                inputs.append(self._constant(f"{node.name}/axes", np.array([1, 2], np.int32)))
                shape = (shape[0], 1, 1, shape[3])
        depthwise = node.kind == "conv" and node.groups > 1
        kind = "depthwise" if depthwise else node.kind
        self._operator(kind, inputs, self._activation(node.name, shape), _options(node))

    def _upsample(self, node: Node) -> None:
        """A transposed convolution of 2x2 and stride 2 that gives every channel to itself: XNNPACK and NPUs run that,
        unlike RESIZE_NEAREST_NEIGHBOR or DEPTH_TO_SPACE."""
        batch, height, width, channels = self.shapes[node.inputs[0]]
        shape = (batch, 2 * height, 2 * width, channels)
        ones = np.zeros((channels, 2, 2, channels), np.float32 if self.quantised is None else np.int8)
        ones[np.arange(channels), :, :, np.arange(channels)] = 1
        inputs = [
            self._constant(f"{node.name}/shape", np.array(shape, np.int32)),
            self._constant(f"{node.name}/weight", ones, None if self.quantised is None else [1.0]),
            self.index[node.inputs[0]],
        ]
        options = schema.TransposeConvOptionsT()
        options.padding = schema.Padding.VALID
        options.strideW = options.strideH = 2
        target = self._activation(node.name, shape)
        self._operator("upsample", inputs, target, (schema.BuiltinOptions.TransposeConvOptions, options))

    def _padded(self, node: Node) -> int:
        """The input of a convolution of stride 2 with its padding: TensorFlow would pad at the other end. XNNPACK makes
        one operator of both."""
        batch, height, width, channels = self.shapes[node.inputs[0]]
        before, after = node.padding, node.padding - 1
        sides = np.array([[0, 0], [before, after], [before, after], [0, 0]], np.int32)
        constant = self._constant(f"{node.name}/sides", sides)
        shape = (batch, height + before + after, width + before + after, channels)
        padded = self._activation(f"{node.name}/padded", shape, like=node.inputs[0])
        options = (schema.BuiltinOptions.PadOptions, schema.PadOptionsT())
        self._operator("pad", [self.index[node.inputs[0]], constant], padded, options)
        return padded

    def _operator(self, kind: str, inputs: list[int], output: int, options: tuple[int, Any]) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex = self._operator_code(kind)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = options
        self.operators.append(operator)

    def _weights(self, node: Node) -> list[int]:
        # (out, in, y, x) to (out, y, x, in), or for depthwise (out, 1, y, x) to (1, y, x, out).
        depthwise = node.groups > 1
        order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        if self.quantised is None:
            assert node.weight is not None
            bias = np.zeros(len(node.weight), np.float32) if node.bias is None else node.bias.numpy()
            values = node.weight.numpy().transpose(order)
            return [self._constant(f"{node.name}/weight", values), self._constant(f"{node.name}/bias", bias)]
        weights = self.quantised.weights[node.name]
        values = weights.weight.transpose(order)
        axis = _CHANNEL_AXIS if depthwise else 0
        source = np.float32(self.quantised.tensors[node.inputs[0]].scale)
        return [
            self._constant(f"{node.name}/weight", values, weights.scale, axis),
            self._constant(f"{node.name}/bias", weights.bias, source * weights.scale, 0),
        ]

    def _activation(self, name: str, shape: tuple[int, ...], like: str | None = None) -> int:
        """A tensor, quantised as the graph has it, or as the one that it is `like`."""
        if self.quantised is None:
            tensor = _tensor(name, shape, np.dtype(np.float32))
        else:
            tensor = _tensor(name, shape, np.dtype(np.int8))
            tensor.quantization = _parameters([self.quantised.tensors[like or name]], 0)
        self.shapes[name] = shape
        self.index[name] = self._add_tensor(tensor)
        return self.index[name]

    def _constant(self, name: str, values: Any, scale: Any = None, axis: int = 0) -> int:
        tensor = _tensor(name, values.shape, values.dtype)
        if scale is not None:
            tensor.quantization = _parameters([Quantisation(float(s), 0) for s in scale], axis)
        buffer: Any = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.buffers.append(buffer)
        tensor.buffer = len(self.buffers) - 1
        return self._add_tensor(tensor)

    def _add_tensor(self, tensor: Any) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _operator_code(self, kind: str) -> int:
        builtin, version = _OPERATORS[kind]
        for index, code in enumerate(self.operator_codes):
            if code.builtinCode == builtin:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = version
        self.operator_codes.append(code)
        return len(self.operator_codes) - 1


def _options(node: Node) -> tuple[int, Any]:
    types = schema.BuiltinOptions
    activation = schema.ActivationFunctionType.RELU if node.relu else schema.ActivationFunctionType.NONE
    options: Any
    match node.kind:
        case "conv":
            depthwise = node.groups > 1
            options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
            options.padding = schema.Padding.SAME if node.stride == 1 else schema.Padding.VALID
            options.strideW = options.strideH = node.stride
            options.dilationWFactor = options.dilationHFactor = node.dilation
            options.fusedActivationFunction = activation
            if depthwise:
                options.depthMultiplier = 1
            return (types.DepthwiseConv2DOptions if depthwise else types.Conv2DOptions), options
        case "add":
            options = schema.AddOptionsT()
            options.fusedActivationFunction = activation
            return types.AddOptions, options
        case "mul":
            return types.MulOptions, schema.MulOptionsT()
        case "concat":
            options = schema.ConcatenationOptionsT()
            options.axis = _CHANNEL_AXIS
            return types.ConcatenationOptions, options
        case "maxpool":
            options = schema.Pool2DOptionsT()
            options.padding = schema.Padding.SAME
            options.strideW = options.strideH = 1
            options.filterWidth = options.filterHeight = node.size
            options.fusedActivationFunction = schema.ActivationFunctionType.NONE
            return types.Pool2DOptions, options
        case "mean":
            options = schema.ReducerOptionsT()
            options.keepDims = True
            return types.ReducerOptions, options
    return types.NONE, None


def _tensor(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    tensor = schema.TensorT()
    tensor.name = name
    tensor.shape = list(shape)
    tensor.type = {
        np.dtype(np.int8): schema.TensorType.INT8,
        np.dtype(np.int32): schema.TensorType.INT32,
        np.dtype(np.float32): schema.TensorType.FLOAT32,
    }[dtype]
    return tensor


def _parameters(quantisations: list[Quantisation], axis: int) -> Any:
    parameters = schema.QuantizationParametersT()
    parameters.scale = [q.scale for q in quantisations]
    parameters.zeroPoint = [q.zero_point for q in quantisations]
    parameters.quantizedDimension = axis
    return parameters
