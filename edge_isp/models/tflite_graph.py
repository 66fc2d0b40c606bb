"""An int8 `.tflite` as a list of operators: what the exporters walk. No PyTorch, no interpreter."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_isp.errors import ModelError

_KINDS = {
    schema.BuiltinOperator.CONV_2D: "conv",
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: "depthwise",
    schema.BuiltinOperator.ADD: "add",
    schema.BuiltinOperator.MUL: "mul",
    schema.BuiltinOperator.CONCATENATION: "concat",
    schema.BuiltinOperator.LOGISTIC: "sigmoid",
    schema.BuiltinOperator.MEAN: "mean",
    schema.BuiltinOperator.MAX_POOL_2D: "maxpool",
    schema.BuiltinOperator.DEPTH_TO_SPACE: "depth_to_space",
    schema.BuiltinOperator.TRANSPOSE_CONV: "upsample",
    schema.BuiltinOperator.PAD: "pad",
}
_NUMPY_TYPES = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}
_CHANNEL_AXIS = 3  # NHWC


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Attributes:
        kind: "conv", "depthwise", "add", "mul", "concat" (over channels), "sigmoid", "mean" (over height and width),
            "maxpool" (keeps the size), "depth_to_space" (a quarter of the channels, twice the height and width),
            "upsample" (every value four times, in a square: a transposed convolution whose weights are 1) or "pad" (for
            a convolution of stride 2).
        inputs: indices of the input tensors; those of a convolution are its input, its weights and, where it has one,
            its bias, those of an "upsample" its input, its weights and the shape of its output.
        output: index of the output tensor.
        relu: a ReLU is fused into its output.
        dilation: of a convolution, (y, x).
        stride: of a convolution: with 1 its padding keeps the size, with 2 a "pad" is before it.
        size: of a "maxpool"'s window, odd.
        sides: zeros that a "pad" adds, before and after the rows and the columns.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    relu: bool = False
    dilation: tuple[int, int] = (1, 1)
    stride: int = 1
    size: int = 1
    sides: tuple[int, int] = (0, 0)


class TfliteGraph:
    """The one graph of a model with one input, batch 1.

    Args:
        content: of the `.tflite`.
        name: of the file, for messages.

    Raises:
        ModelError: it is no such model, or it has an operator that edge_isp's networks do not have.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        try:
            self.model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
            (graph,) = self.model.subgraphs
            (self.input,), self.outputs = graph.inputs, tuple(int(index) for index in graph.outputs)
        except (struct.error, TypeError, ValueError, IndexError) as error:
            raise ModelError(f"{name}: is no .tflite of one graph with one input: {error}") from error
        self.tensors: list[Any] = graph.tensors
        self.operators = tuple(self._operator(entry) for entry in graph.operators)
        padded = {operator.output for operator in self.operators if operator.kind == "pad"}
        for operator in self.operators:
            if operator.stride == 1 and padded.intersection(operator.inputs):
                self._refuse(operator.output, "padding of its own, since its stride is 1", "an operator PAD before it")

    def tensor_name(self, index: int) -> str:
        """Name of a tensor, unique in the graph."""
        return str(self.tensors[index].name.decode())

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(int(n) for n in self.tensors[index].shape)

    def scale(self, index: int) -> NDArray[np.float32]:
        """Scale of a tensor: one, or one per channel."""
        return np.asarray(self.tensors[index].quantization.scale, np.float32)

    def zero_point(self, index: int) -> int:
        """Zero point of an activation."""
        return int(self.tensors[index].quantization.zeroPoint[0])

    def constant(self, index: int) -> NDArray[Any]:
        """Values of a tensor that the file holds."""
        tensor = self.tensors[index]
        data = np.asarray(self.model.buffers[tensor.buffer].data, np.uint8).tobytes()
        return np.frombuffer(data, _NUMPY_TYPES[tensor.type]).reshape(self.shape(index))

    def resize(self, height: int, width: int) -> None:
        """Gives every tensor the shape that it has for an input of another height and width."""
        self._set_shape(self.input, (1, height, width, self.shape(self.input)[_CHANNEL_AXIS]))
        for operator in self.operators:
            shapes = [self.shape(index) for index in operator.inputs]
            self._set_shape(operator.output, _output_shape(operator, shapes))
            if operator.kind == "upsample":  # the file states the size
                shape = np.asarray(self.shape(operator.output), np.int32)
                self.model.buffers[self.tensors[operator.inputs[2]].buffer].data = shape.view(np.uint8)

    def append_depth_to_space(self) -> None:
        """Makes a picture of 12 planes, (1, 2 * height, 2 * width, 3): the planes are in the operator's own order.

        They are the only output.
        """
        (source,) = self.outputs
        planes = self.tensors[source]
        picture: Any = schema.TensorT()
        picture.name, picture.type, picture.quantization = b"rgb", planes.type, planes.quantization
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEPTH_TO_SPACE
        code.version = 1
        options = schema.DepthToSpaceOptionsT()
        options.blockSize = 2
        entry = schema.OperatorT()
        entry.opcodeIndex = len(self.model.operatorCodes)
        entry.inputs, entry.outputs = [source], [len(self.tensors)]
        entry.builtinOptionsType, entry.builtinOptions = schema.BuiltinOptions.DepthToSpaceOptions, options
        _, height, width, channels = self.shape(source)
        self.model.operatorCodes.append(code)
        self.tensors.append(picture)
        self.model.subgraphs[0].operators.append(entry)
        self.outputs = (len(self.tensors) - 1,)
        self.model.subgraphs[0].outputs = list(self.outputs)
        self._set_shape(self.outputs[0], (1, 2 * height, 2 * width, channels // 4))

    def to_bytes(self) -> bytes:
        """The model as the content of a `.tflite`."""
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _set_shape(self, index: int, shape: Sequence[int]) -> None:
        self.tensors[index].shape = np.asarray(shape, np.int32)
        self.tensors[index].shapeSignature = None  # nothing is left open

    def _operator(self, entry: Any) -> Operator:
        code = self.model.operatorCodes[entry.opcodeIndex].builtinCode
        inputs, output = tuple(int(i) for i in entry.inputs if i >= 0), int(entry.outputs[0])
        kind, options = _KINDS.get(code), entry.builtinOptions
        if kind is None:
            names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
            self._refuse(output, ", ".join(names[known] for known in _KINDS), f"operator {names.get(code, code)}")
        relu = kind in ("conv", "depthwise", "add", "mul") and self._has_relu(options, output)
        dilation, stride, size, sides = (1, 1), 1, 1, (0, 0)
        if kind in ("conv", "depthwise"):
            dilation, stride = self._convolution(kind, options, output)
        elif kind == "maxpool":
            size = self._window(options, output)
        elif kind == "pad":
            sides = self._sides(inputs[1], output)
        elif kind == "upsample":
            inputs = inputs[::-1]
            self._check_upsample(options, inputs, output)
        else:
            self._check_arrangement(kind, options, inputs, output)
        for index in (*(inputs[:1] if kind in ("conv", "depthwise", "mean", "pad", "upsample") else inputs), output):
            if self.tensors[index].type != schema.TensorType.INT8:
                self._refuse(index, "an int8 tensor", f"type {self.tensors[index].type}")
            if self.model.buffers[self.tensors[index].buffer].data is not None:
                self._refuse(index, "a tensor that is computed", "a constant")
        return Operator(kind, inputs, output, relu, dilation, stride, size, sides)

    def _has_relu(self, options: Any, output: int) -> bool:
        activation = options.fusedActivationFunction
        if activation not in (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU):
            self._refuse(output, "no fused activation, or RELU", f"activation {activation}")
        return bool(activation == schema.ActivationFunctionType.RELU)

    def _convolution(self, kind: str, options: Any, output: int) -> tuple[tuple[int, int], int]:
        """Dilation and stride of a convolution."""
        padding = (options.padding, options.strideH, options.strideW)
        if padding not in ((schema.Padding.SAME, 1, 1), (schema.Padding.VALID, 2, 2)):
            expected = f"padding {schema.Padding.SAME} (SAME), stride 1, 1 or {schema.Padding.VALID} (VALID), 2, 2"
            self._refuse(output, expected, f"padding {padding[0]}, stride {padding[1]}, {padding[2]}")
        if kind == "depthwise" and options.depthMultiplier != 1:
            self._refuse(output, "depth multiplier 1", str(options.depthMultiplier))
        return (options.dilationHFactor, options.dilationWFactor), options.strideH

    def _window(self, options: Any, output: int) -> int:
        """Side of the window of a maximum."""
        size = int(options.filterHeight)
        settings = (options.padding, options.strideH, options.strideW, options.filterWidth)
        if settings != (schema.Padding.SAME, 1, 1, size) or not size % 2:
            expected = f"a square window of odd size, padding {schema.Padding.SAME} (SAME), stride 1, 1"
            self._refuse(output, expected, f"size {size}, {settings[3]}, padding {settings[0]}, stride {settings[1:3]}")
        return size

    def _sides(self, padding: int, output: int) -> tuple[int, int]:
        """Rows before and after, which are also the columns before and after."""
        found = self.constant(padding).tolist()
        sides = (found[1][0], found[1][1])
        if found != [[0, 0], list(sides), list(sides), [0, 0]]:
            self._refuse(output, "padding of height and width alike", str(found))
        return sides

    def _check_upsample(self, options: Any, inputs: tuple[int, ...], output: int) -> None:
        """Refuses transposed convolutions that do more than to write every value four times."""
        expected = (
            "a transposed convolution of 2x2, stride 2, without bias, whose weights are 1 from a channel to itself"
        )
        channels, found = self.shape(output)[_CHANNEL_AXIS], (options.padding, options.strideH, options.strideW)
        if len(inputs) != 3 or found != (schema.Padding.VALID, 2, 2) or options.fusedActivationFunction:
            self._refuse(output, expected, f"{len(inputs)} inputs, padding {found[0]}, stride {found[1:]}")
        source, weights, shape = inputs
        types = (self.tensors[weights].type, self.tensors[shape].type)
        if types != (schema.TensorType.INT8, schema.TensorType.INT32) or self.shape(shape) != (4,):
            self._refuse(output, expected, f"weights of type {types[0]} and a shape of type {types[1]}")
        if self.model.buffers[self.tensors[shape].buffer].data is None:
            self._refuse(output, expected, "a shape that is computed")
        same = self.scale(source) == self.scale(output) and self.zero_point(source) == self.zero_point(output)
        if not same or self.shape(weights) != (channels, 2, 2, channels):
            self._refuse(output, expected, f"weights {self.shape(weights)}, or another quantisation than the input's")
        # (out, y, x, in), one scale for all or one for each output.
        values = self.constant(weights) * self.scale(weights).reshape(-1, 1, 1, 1)
        if np.any(values != np.eye(channels, dtype=np.float32)[:, None, None, :]):
            self._refuse(output, expected, "other weights")

    def _check_arrangement(self, kind: str, options: Any, inputs: tuple[int, ...], output: int) -> None:
        """Refuses operators that arrange or average values otherwise than the exporters know."""
        if kind == "depth_to_space" and options.blockSize != 2:
            self._refuse(output, "blocks of 2", f"of {options.blockSize}")
        if kind == "concat" and options.axis not in (_CHANNEL_AXIS, -1):
            self._refuse(output, "concatenation of channels", f"of axis {options.axis}")
        if kind == "mean" and (sorted(self.constant(inputs[1])) != [1, 2] or not options.keepDims):
            self._refuse(output, "a mean over height and width that keeps them", f"axes {self.constant(inputs[1])}")

    def _refuse(self, index: int, expected: str, found: str) -> NoReturn:
        name = self.tensor_name(index)
        raise ModelError(f"{self.name}: '{name}' cannot be exported: expected {expected}; found {found}")


def _output_shape(operator: Operator, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    first = shapes[0]
    match operator.kind:
        case "conv" | "depthwise":
            batch, height, width, channels = first
            if operator.kind == "conv":
                channels = shapes[1][0]  # weights: out, y, x, in
            if operator.stride == 2:
                size = shapes[1][1:3]
                height, width = (height - size[0]) // 2 + 1, (width - size[1]) // 2 + 1
            return (batch, height, width, channels)
        case "pad":
            return (first[0], first[1] + sum(operator.sides), first[2] + sum(operator.sides), first[_CHANNEL_AXIS])
        case "depth_to_space":
            return (first[0], 2 * first[1], 2 * first[2], first[_CHANNEL_AXIS] // 4)
        case "upsample":
            return (first[0], 2 * first[1], 2 * first[2], first[_CHANNEL_AXIS])
        case "add" | "mul":
            return tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        case "concat":
            return (*first[:_CHANNEL_AXIS], sum(shape[_CHANNEL_AXIS] for shape in shapes))
        case "mean":
            return (first[0], 1, 1, first[_CHANNEL_AXIS])
    return first
