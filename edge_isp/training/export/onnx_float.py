"""Writes a network in floating point as an `.onnx`, merged or with ECB's branches, to compare their speed.

What runs on a board is int8: see `models.qdq_onnx`, which makes an `.onnx` of the integers of a `.tflite`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edge_isp.training.graph import Node, trace
from edge_isp.training.networks.ecb import ECB, EdgeBranch, merge

# As `models.qdq_onnx` has them, so that the runtime treats both alike.
_OPSET, _IR_VERSION = 13, 7
_OPERATORS = {
    "add": "Add",
    "mul": "Mul",
    "concat": "Concat",
    "sigmoid": "Sigmoid",
    "mean": "GlobalAveragePool",
    "maxpool": "MaxPool",
    "upsample": "Resize",
}


def to_float_onnx(network: nn.Module, *, height: int, width: int, channels: int, merged: bool) -> bytes:
    """The content of a float32 `.onnx`, inputs 1 x channels x height x width.

    Args:
        network: with its ECBs, as it was trained.
        height: of the input, in cells.
        width: of the input, in cells.
        channels: of the input.
        merged: one convolution for each ECB, else its branches one by one.
    """
    return _Writer(network, merged=merged).content(height, width, channels)


class _Writer:
    def __init__(self, network: nn.Module, *, merged: bool) -> None:
        self._graph = trace(merge(network).eval())
        # torch.fx names a node after its module.
        modules = {name.replace(".", "_"): module for name, module in network.named_modules()}
        self._blocks = {} if merged else {name: m for name, m in modules.items() if isinstance(m, ECB)}
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def content(self, height: int, width: int, channels: int) -> bytes:
        for node in self._graph.nodes:
            self._node(node)
        source = helper.make_tensor_value_info(self._graph.input, TensorProto.FLOAT, (1, channels, height, width))
        targets = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, None, None, None))
            for name in self._graph.outputs
        ]
        model = helper.make_model(
            helper.make_graph(self._nodes, "edge_isp", [source], targets, self._constants),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="edge_isp",
        )
        return bytes(model.SerializeToString())

    def _node(self, node: Node) -> None:
        result = f"{node.name}/linear" if node.relu else node.name
        if node.name in self._blocks:
            self._branches(self._blocks[node.name], node.inputs[0], result)
        elif node.kind == "conv":
            assert node.weight is not None
            self._convolution(
                node.inputs[0], result, node.weight, node.bias, node.padding, node.dilation, node.groups, node.stride
            )
        else:
            inputs = list(node.inputs)
            attributes: dict[str, Any] = {}
            match node.kind:
                case "concat":
                    attributes = {"axis": 1}
                case "maxpool":
                    attributes = {"kernel_shape": [node.size] * 2, "pads": [node.size // 2] * 4}
                case "upsample":
                    factors = np.array([1, 1, 2, 2], np.float32)
                    self._constants.append(numpy_helper.from_array(factors, f"{result}/factors"))
                    inputs += ["", f"{result}/factors"]
                    attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            self._add(_OPERATORS[node.kind], inputs, result, **attributes)
        if node.relu:
            self._add("Relu", [result], node.name)

    def _branches(self, block: ECB, source: str, result: str) -> None:
        """An ECB as it is defined, see `ECB.branches`.

        A 1x1 convolution with a border of zeros gives its bias there: the padding that the 3x3 after it needs.
        """
        summands = [f"{result}/plain", f"{result}/squeeze"]
        self._convolution(source, summands[0], block.plain.weight, block.plain.bias, 1)
        self._convolution(source, f"{result}/expand", block.expand.weight, block.expand.bias, 1)
        self._convolution(f"{result}/expand", summands[1], block.squeeze.weight, block.squeeze.bias, 0)
        for index, edge in enumerate(block.edges):
            assert isinstance(edge, EdgeBranch)
            summands.append(f"{result}/edge{index}")
            inner = f"{summands[-1]}/pointwise"
            kernel = (edge.scale[:, None, None] * edge.edge_filter)[:, None]
            self._convolution(source, inner, edge.pointwise.weight, edge.pointwise.bias, 1)
            self._convolution(inner, summands[-1], kernel, edge.bias, 0, groups=len(kernel))
        self._add("Sum", summands + [source] * block.identity, result)

    def _convolution(
        self,
        source: str,
        result: str,
        weight: Tensor,
        bias: Tensor | None,
        padding: int,
        dilation: int = 1,
        groups: int = 1,
        stride: int = 1,
    ) -> None:
        inputs = [source]
        for what, values in (("weight", weight), ("bias", bias)):
            if values is not None:
                inputs.append(f"{result}/{what}")
                array = np.ascontiguousarray(values.detach().numpy())
                self._constants.append(numpy_helper.from_array(array, inputs[-1]))
        attributes = {"pads": [padding] * 4, "dilations": [dilation] * 2, "strides": [stride] * 2, "group": groups}
        self._add("Conv", inputs, result, **attributes)

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
