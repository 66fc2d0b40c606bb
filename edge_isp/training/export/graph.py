"""The graph of a merged network: the few operators that int8 runtimes run well, nothing else.

A network is written once, as a PyTorch module; `trace` reads its graph. Quantisation and export walk that graph.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Node:
    """One operator.

    Attributes:
        kind: "conv", "add", "mul", "concat" (over channels), "sigmoid" or "mean" (over height and width).
        name: of its output tensor.
        inputs: names of the tensors it reads.
        relu: a ReLU is fused into its output ("conv" and "add" only).
        weight, bias: of a "conv": (out, in / groups, ky, kx) and (out).
        dilation, groups: of a "conv"; its stride is 1 and its padding keeps the size.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    relu: bool = False
    weight: Tensor | None = None
    bias: Tensor | None = None
    dilation: int = 1
    groups: int = 1

    def run(self, *inputs: Tensor) -> Tensor:
        """The operator in floating point."""
        out = self._run(*inputs)
        return torch.relu(out) if self.relu else out

    def _run(self, *inputs: Tensor) -> Tensor:
        match self.kind:
            case "conv":
                assert self.weight is not None
                padding = (self.weight.shape[-1] - 1) // 2 * self.dilation
                return F.conv2d(
                    inputs[0], self.weight, self.bias, padding=padding, dilation=self.dilation, groups=self.groups
                )
            case "add":
                return inputs[0] + inputs[1]
            case "mul":
                return inputs[0] * inputs[1]
            case "concat":
                return torch.cat(inputs, 1)
            case "sigmoid":
                return torch.sigmoid(inputs[0])
            case "mean":
                return torch.mean(inputs[0], (2, 3), keepdim=True)
        raise ValueError(f"unknown operator '{self.kind}'")


@dataclass(frozen=True)
class Graph:
    """Nodes in the order in which they run; one input, one output."""

    input: str
    nodes: tuple[Node, ...]
    output: str

    @property
    def reach(self) -> int | None:
        """How many cells around one its output depends on; None where that is the whole picture."""
        reaches = {self.input: 0}
        for node in self.nodes:
            if node.kind == "mean":
                return None
            own = 0 if node.weight is None else (node.weight.shape[-1] - 1) // 2 * node.dilation
            reaches[node.name] = own + max(reaches[name] for name in node.inputs)
        return reaches[self.output]

    def run(self, x: Tensor) -> dict[str, Tensor]:
        """All tensors of the graph, by name, for an input (batch, channels, height, width)."""
        tensors = {self.input: x}
        for node in self.nodes:
            tensors[node.name] = node.run(*(tensors[name] for name in node.inputs))
        return tensors


def trace(network: nn.Module) -> Graph:
    """The graph of a merged network (see `networks.ecb.merge`).

    Raises:
        ValueError: the network does something that is not one of our operators.
    """
    symbolic = fx.symbolic_trace(network)
    modules = dict(symbolic.named_modules())
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    source, output = "", ""
    for entry in symbolic.graph.nodes:
        inputs = tuple(renamed[i.name] for i in entry.all_input_nodes)
        if entry.op == "placeholder":
            source = renamed[entry.name] = entry.name
            continue
        if entry.op == "output":
            output = inputs[0]
            continue
        if entry.op == "call_function" and entry.target is torch.relu:
            producer = nodes[inputs[0]]
            if producer.kind not in ("conv", "add") or len(entry.args[0].users) != 1:
                raise ValueError(f"{entry.name}: a ReLU must follow a convolution or an addition directly")
            nodes[inputs[0]] = replace(producer, relu=True)
            renamed[entry.name] = inputs[0]
            continue
        nodes[entry.name] = _node(entry, inputs, modules)
        renamed[entry.name] = entry.name
    return Graph(source, tuple(nodes.values()), output)


def _node(entry: fx.Node, inputs: tuple[str, ...], modules: dict[str, Any]) -> Node:
    if entry.op == "call_module":
        module = modules[str(entry.target)]
        if isinstance(module, nn.Conv2d) and module.stride == (1, 1):
            return Node(
                "conv",
                entry.name,
                inputs,
                weight=module.weight.detach(),
                bias=None if module.bias is None else module.bias.detach(),
                dilation=module.dilation[0],
                groups=module.groups,
            )
    if entry.op == "call_function":
        for function, kind in (
            (operator.add, "add"),
            (operator.mul, "mul"),
            (torch.cat, "concat"),
            (torch.sigmoid, "sigmoid"),
        ):
            if entry.target is function and len(inputs) == (1 if kind == "sigmoid" else len(inputs)):
                return Node(kind, entry.name, inputs)
        if entry.target is torch.mean and entry.args[1] == (2, 3) and entry.kwargs == {"keepdim": True}:
            return Node("mean", entry.name, inputs)
    raise ValueError(f"{entry.name}: {entry.target} is not an operator that can be exported")
