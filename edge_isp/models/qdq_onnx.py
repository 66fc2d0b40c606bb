"""Writes an int8 `.tflite` as an `.onnx` of the same integers: float operators between QuantizeLinear and
DequantizeLinear (QDQ), the form that ONNX Runtime and the compilers of NPUs turn back into int8.

Input and output are int8 NHWC as in the `.tflite`, so that one card's numbers describe both files. Between them
activations are uint8, the same integers plus 128: on x86 ONNX Runtime multiplies uint8 by int8 several times as fast as
int8 by int8.

For compilers there are two more forms: int8 NCHW, which Rockchip's reads as it stands, and float32 NCHW, whose input
and outputs are the values that the integers stand for, for compilers that insist on quantising by themselves.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_isp.models.tflite_graph import Operator, TfliteGraph

# The oldest with one scale a channel, and the file format of its time: what NPU compilers read.
_OPSET, _IR_VERSION = 13, 7
_TO_UNSIGNED = 128
_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
# DCR is TensorFlow's order of the planes.
_DEPTH_TO_SPACE = {"blocksize": 2, "mode": "DCR"}
# The pixel of the input that a pixel of the output lies in.
_NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
_OPERATORS = {
    "conv": "Conv",
    "depthwise": "Conv",
    "add": "Add",
    "mul": "Mul",
    "concat": "Concat",
    "sigmoid": "Sigmoid",
    "mean": "GlobalAveragePool",
    "maxpool": "MaxPool",
    "depth_to_space": "DepthToSpace",
    "upsample": "Resize",
}


class Form(Enum):
    """What the `.onnx` is written as: quantised, quantised with channels before rows and columns, or float32 so."""

    QDQ = "qdq"
    QDQ_NCHW = "qdq-nchw"
    FLOAT_NCHW = "float-nchw"


def qdq_onnx(graph: TfliteGraph, *, static: bool, rgb: bool, form: Form = Form.QDQ) -> bytes:
    """The content of an `.onnx` that computes what the graph does.

    Shape, scale and zero point of input and outputs stand in its metadata, as JSON under "edge_isp": ONNX Runtime shows
    that to `engines.onnxruntime`, but no initialiser.

    Args:
        static: for inputs of the graph's own size only; else height and width stay open.
        rgb: put the 12 planes of the one output together to a picture (1, 2 * height, 2 * width, 3).
        form: quantised or float32, and which axis the channels are.
    """
    return _Writer(graph, static=static, rgb=rgb, form=form).content()


class _Writer:
    def __init__(self, graph: TfliteGraph, *, static: bool, rgb: bool, form: Form) -> None:
        self._graph, self._static, self._rgb, self._form = graph, static, rgb, form
        self._real: dict[int, str] = {}  # by the graph's tensor: the values that it stands for
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._padded: dict[int, Operator] = {}  # by the tensor that it makes: a part of the convolution that reads it

    def content(self) -> bytes:
        graph = self._graph
        source, source_shape = graph.tensor_name(graph.input), graph.shape(graph.input)
        self._input(source)
        for operator in graph.operators:
            if operator.kind == "pad":
                self._padded[operator.output] = operator
            else:
                self._operator(operator)
        described = {source: self._described(graph.input, source_shape)}
        inputs, outputs = [self._value(source, (source_shape[0], "height", "width", source_shape[3]), source_shape)], []
        for index in graph.outputs:
            target, shape, open_names = self._output(index)
            outputs.append(self._value(target, (shape[0], *open_names, shape[3]), shape))
            described[target] = self._described(index, shape)
        model = helper.make_model(
            helper.make_graph(self._nodes, "edge_isp", inputs, outputs, self._constants),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="edge_isp",
        )
        helper.set_model_props(model, {"edge_isp": json.dumps(described)})
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())

    def _described(self, index: int, shape: tuple[int, ...]) -> dict[str, Any]:
        graph = self._graph
        return {
            "shape": self._arranged(shape),
            "scale": float(graph.scale(index)[0]),
            "zero_point": graph.zero_point(index),
        }

    def _arranged(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """A shape NHWC in the order of the file's inputs and outputs."""
        return shape if self._form is Form.QDQ else tuple(shape[axis] for axis in _TO_NCHW)

    def _input(self, source: str) -> None:
        index = self._graph.input
        if self._form is Form.FLOAT_NCHW:
            self._real[index] = source
            return
        codes = source
        if self._form is Form.QDQ:
            codes = f"{source}/int8"
            self._node("Transpose", [source], codes, perm=_TO_NCHW)
        self._node("DequantizeLinear", [codes, *self._int8(index)], f"{source}/float")
        self._quantise(index, f"{source}/float")

    def _output(self, index: int) -> tuple[str, tuple[int, ...], tuple[str, str]]:
        """An output; its name, its shape NHWC, and what its height and width are called where they are open."""
        graph = self._graph
        target, (batch, height, width, channels) = graph.tensor_name(index), graph.shape(index)
        real, smaller = self._real[index], graph.shape(graph.input)[1] // height
        open_names = ("height", "width") if smaller == 1 else (f"height/{smaller}", f"width/{smaller}")
        if self._rgb:
            self._node("DepthToSpace", [real], f"{target}/rgb", **_DEPTH_TO_SPACE)
            real, open_names = f"{target}/rgb", ("2*height", "2*width")
            height, width, channels = 2 * height, 2 * width, channels // 4
        if self._form is Form.FLOAT_NCHW:
            self._node("Identity", [real], target)
        elif self._form is Form.QDQ_NCHW:
            self._node("QuantizeLinear", [real, *self._int8(index)], target)
        else:
            self._node("QuantizeLinear", [real, *self._int8(index)], f"{target}/int8")
            self._node("Transpose", [f"{target}/int8"], target, perm=_TO_NHWC)
        return target, (batch, height, width, channels), open_names

    def _operator(self, operator: Operator) -> None:
        name = self._graph.tensor_name(operator.output)
        inputs = [self._real.get(index, "") for index in operator.inputs]
        attributes: dict[str, Any] = {}
        match operator.kind:
            case "conv" | "depthwise":
                pad = self._padded.get(operator.inputs[0])
                source = inputs[0] if pad is None else self._real[pad.inputs[0]]
                inputs = [source, *self._weights(operator)]
                attributes = self._convolution(operator, pad)
            case "concat":
                attributes = {"axis": 1}
            case "mean":
                inputs = inputs[:1]  # its axes are what the pooling is
            case "maxpool":
                attributes = {"kernel_shape": [operator.size] * 2, "pads": [operator.size // 2] * 4}
            case "depth_to_space":
                attributes = _DEPTH_TO_SPACE
            case "upsample":  # every runtime and compiler tried takes it whole, and no other spelling is faster
                self._constant(f"{name}/scales", np.array([1, 1, 2, 2], np.float32))
                inputs = [inputs[0], "", f"{name}/scales"]
                attributes = _NEAREST
        result = f"{name}/float"
        self._node(_OPERATORS[operator.kind], inputs, result, **attributes)
        # Where 0 is the lowest value, QuantizeLinear's clipping is the ReLU.
        clips = self._form is not Form.FLOAT_NCHW and self._graph.zero_point(operator.output) + _TO_UNSIGNED == 0
        if operator.relu and not clips:
            self._node("Relu", [result], f"{name}/relu")
            result = f"{name}/relu"
        self._quantise(operator.output, result)

    def _convolution(self, operator: Operator, pad: Operator | None) -> dict[str, Any]:
        size = self._graph.shape(operator.inputs[1])[1:3]
        if operator.stride == 1:
            # What SAME adds.
            added = [(n - 1) * dilation for n, dilation in zip(size, operator.dilation, strict=True)]
            before = [n // 2 for n in added]
            pads = [*before, *(n - b for n, b in zip(added, before, strict=True))]
        else:
            pads = [side for side in (pad.sides if pad else (0, 0)) for _ in range(2)]
        return {
            "kernel_shape": size,
            "strides": [operator.stride] * 2,
            "dilations": operator.dilation,
            "group": self._graph.shape(operator.output)[3] if operator.kind == "depthwise" else 1,
            "pads": pads,
        }

    def _weights(self, operator: Operator) -> list[str]:
        """int8 weights, one scale per output channel, and int32 bias, each through its DequantizeLinear."""
        graph = self._graph
        # (out, y, x, in), or for depthwise (1, y, x, out), to (out, in / groups, y, x).
        order = (3, 0, 1, 2) if operator.kind == "depthwise" else _TO_NCHW
        names = []
        for index, transpose in zip(operator.inputs[1:], (order, (0,)), strict=False):
            name, scale = graph.tensor_name(index), graph.scale(index)
            values = graph.constant(index).transpose(transpose)
            if self._form is Form.FLOAT_NCHW:
                steps = scale.reshape(-1, *(1,) * (values.ndim - 1))
                self._constant(name, (values * steps.astype(np.float64)).astype(np.float32))
                names.append(name)
                continue
            self._constant(f"{name}/int", values)
            self._constant(f"{name}/scale", scale)
            self._constant(f"{name}/zero_point", np.zeros(len(scale), values.dtype))
            parameters = [f"{name}/int", f"{name}/scale", f"{name}/zero_point"]
            self._node("DequantizeLinear", parameters, f"{name}/real", axis=0)
            names.append(f"{name}/real")
        return names

    def _quantise(self, index: int, real: str) -> None:
        """Real values to uint8 and back, so that they are what the graph's tensor stands for."""
        if self._form is Form.FLOAT_NCHW:
            self._real[index] = real
            return
        name = self._graph.tensor_name(index)
        self._constant(f"{name}/scale", self._graph.scale(index).reshape(()))
        self._constant(f"{name}/zero_point", np.array(self._graph.zero_point(index) + _TO_UNSIGNED, np.uint8))
        parameters = [f"{name}/scale", f"{name}/zero_point"]
        self._node("QuantizeLinear", [real, *parameters], f"{name}/uint8")
        self._node("DequantizeLinear", [f"{name}/uint8", *parameters], f"{name}/real")
        self._real[index] = f"{name}/real"

    def _int8(self, index: int) -> list[str]:
        """Scale and zero point of a tensor that is int8: the graph's input or output."""
        name = self._graph.tensor_name(index)
        self._constant(f"{name}/int8/zero_point", np.array(self._graph.zero_point(index), np.int8))
        return [f"{name}/scale", f"{name}/int8/zero_point"]

    def _value(self, name: str, open_shape: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
        """An input or output of the file; its shapes are NHWC, one with names in the place of height and width."""
        dimensions = self._arranged(shape if self._static else open_shape)
        kind = TensorProto.FLOAT if self._form is Form.FLOAT_NCHW else TensorProto.INT8
        return helper.make_tensor_value_info(name, kind, dimensions)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))

    def _constant(self, name: str, values: NDArray[Any]) -> None:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name))
