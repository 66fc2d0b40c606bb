"""A model in float32, as it runs without quantisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_isp.models.qdq_onnx import qdq_onnx
from edge_isp.models.tflite_graph import TfliteGraph


def float_onnx(graph: TfliteGraph) -> bytes:
    """The content of an `.onnx` with the graph's operators and the values of its weights, all in float32.

    It is the graph's QDQ form without its QuantizeLinear and DequantizeLinear. Where a QuantizeLinear clips at 0 it
    stands for a ReLU, which is written.

    Args:
        graph: the quantised model.
    """
    model = onnx.load_model_from_string(qdq_onnx(graph, static=True, rgb=False))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    floats: dict[str, NDArray[np.float32]] = {}
    same: dict[str, str] = {}  # names that stand for the same tensor now
    nodes: list[Any] = []
    for node in model.graph.node:
        source = same.get(node.input[0], node.input[0])
        if node.op_type == "DequantizeLinear":
            if source in constants:
                floats[node.output[0]] = _dequantised(*(constants[name] for name in node.input))
            else:
                same[node.output[0]] = source
        elif node.op_type == "QuantizeLinear":
            zero_point = constants[node.input[2]]
            if zero_point.dtype == np.uint8 and zero_point == 0:
                nodes.append(helper.make_node("Relu", [source], [node.output[0]]))
            else:
                same[node.output[0]] = source
        else:
            inputs = [same.get(name, name) for name in node.input]
            del node.input[:]
            node.input.extend(inputs)
            nodes.append(node)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    del model.graph.node[:], model.graph.initializer[:], model.metadata_props[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in floats.items())
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _dequantised(values: NDArray[Any], scale: NDArray[Any], zero_point: NDArray[Any]) -> NDArray[np.float32]:
    """One scale for each entry of the first axis."""
    shape = (-1, *(1,) * (values.ndim - 1))
    real = (values.astype(np.float32) - zero_point.reshape(shape).astype(np.float32)) * scale.reshape(shape)
    return np.ascontiguousarray(real, np.float32)
