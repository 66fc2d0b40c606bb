"""The graph of a merged network: the few operators that int8 runtimes run well, nothing else.

A network is written once, as a PyTorch module; `trace` reads its graph. Quantisation and export walk that graph.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Node:
    """One operator.

    Attributes:
        kind: "conv", "add", "mul", "concat" (over channels), "sigmoid", "mean" (over height and width), "maxpool" (of
            stride 1, keeps the size) or "upsample" (each value four times: twice the height and width).
        name: of its output tensor.
        inputs: names of the tensors it reads.
        relu: a ReLU is fused into its output ("conv" and "add" only).
        weight: of a "conv": (out, in / groups, ky, kx).
        bias: of a "conv": (out); None where it has none.
        dilation: of a "conv".
        groups: of a "conv".
        stride: of a "conv": 1 keeps the size, 2 halves it, if it is even.
        size: of a "maxpool"'s window, odd.
        trained: whether quantisation-aware training may change its weights.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    relu: bool = False
    weight: Tensor | None = None
    bias: Tensor | None = None
    dilation: int = 1
    groups: int = 1
    stride: int = 1
    size: int = 1
    trained: bool = True

    @property
    def padding(self) -> int:
        """Of a "conv": cells on each side; with a stride of 2 and an even size the last ones are not read."""
        assert self.weight is not None
        return (self.weight.shape[-1] - 1) * self.dilation // 2

    def run(self, *inputs: Tensor) -> Tensor:
        """The operator in floating point."""
        out = self._run(*inputs)
        return torch.relu(out) if self.relu else out

    def _run(self, *inputs: Tensor) -> Tensor:
        match self.kind:
            case "conv":
                assert self.weight is not None
                return F.conv2d(
                    inputs[0], self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
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
            case "maxpool":
                return F.max_pool2d(inputs[0], self.size, 1, self.size // 2)
            case "upsample":
                return F.interpolate(inputs[0], scale_factor=2, mode="nearest")
        raise ValueError(f"unknown operator '{self.kind}'")


@dataclass(frozen=True)
class Graph:
    """Nodes in the order in which they run; one input.

    Attributes:
        input: name of the input tensor.
        nodes: the operators.
        outputs: names of the output tensors.
    """

    input: str
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    @property
    def input_multiple(self) -> int:
        """What height and width of the input must be a multiple of, so that every halving has an even size."""
        return max(self._strides().values())

    @property
    def receptive_field_radius(self) -> int | None:
        """How many cells of the input around one the outputs depend on; None where that is the whole picture.

        Where the graph has halvings, this holds for tiles that begin at a multiple of `input_multiple`.

        Raises:
            ValueError: an output is of another resolution than the input.
        """
        strides = self._strides()
        if any(strides[name] != 1 for name in self.outputs):
            raise ValueError("an output of another resolution than the input has no receptive_field_radius in cells")
        # Cells of the input that a tensor's cell depends on, before and after those that it covers.
        before, after = {self.input: 0}, {self.input: 0}
        for node in self.nodes:
            if node.kind == "mean":
                return None
            stride = strides[node.inputs[0]]
            first, last = max(before[name] for name in node.inputs), max(after[name] for name in node.inputs)
            if node.kind == "upsample":
                first, last = first + stride // 2, last + stride // 2
            elif node.stride == 2:
                above, below = _taps(node)
                first, last = first + above * stride, last + max(0, below - 1) * stride
            else:
                own = node.size // 2 if node.weight is None else node.padding
                first, last = first + own * stride, last + own * stride
            before[node.name], after[node.name] = first, last
        return max(max(before[name], after[name]) for name in self.outputs)

    def _strides(self) -> dict[str, int]:
        """By tensor, how many rows and columns of the input one of its own covers."""
        strides = {self.input: 1}
        for node in self.nodes:
            stride = max(strides[name] for name in node.inputs)
            strides[node.name] = stride // 2 if node.kind == "upsample" else stride * node.stride
        return strides

    def run(self, x: Tensor) -> dict[str, Tensor]:
        """All tensors of the graph, by name, for an input (batch, channels, height, width).

        Args:
            x: the input.
        """
        tensors = {self.input: x}
        for node in self.nodes:
            tensors[node.name] = node.run(*(tensors[name] for name in node.inputs))
        return tensors


def _taps(node: Node) -> tuple[int, int]:
    """How many cells above or left of its own, and below or right, a convolution reads with weights that are not 0."""
    assert node.weight is not None
    used = (node.weight != 0).any(0).any(0)
    taps = (used.any(0) | used.any(1)).nonzero().flatten() * node.dilation - node.padding
    return (max(0, -int(taps.min())), max(0, int(taps.max()))) if len(taps) else (0, 0)


def trace(network: nn.Module) -> Graph:
    """The graph of a merged network (see `networks.ecb.merge`); a SiLU is a sigmoid and a multiplication there.

    The graph's outputs are what the network returns, tuples of tuples in their order.

    Args:
        network: without ECBs.

    Raises:
        ValueError: the network does something that is not one of our operators.
    """
    symbolic = fx.symbolic_trace(network)
    modules = dict(symbolic.named_modules())
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    source: str = ""
    outputs: tuple[str, ...] = ()
    for entry in symbolic.graph.nodes:
        inputs = tuple(renamed[i.name] for i in _inputs(entry))
        if entry.op == "placeholder":
            source = renamed[entry.name] = entry.name
            continue
        if entry.op == "output":
            outputs = inputs
            continue
        if entry.op == "call_function" and entry.target is torch.relu:
            producer = nodes[inputs[0]]
            if producer.kind not in ("conv", "add") or len(entry.args[0].users) != 1:
                raise ValueError(f"{entry.name}: a ReLU must follow a convolution or an addition directly")
            nodes[inputs[0]] = replace(producer, relu=True)
            renamed[entry.name] = inputs[0]
            continue
        if _is(entry, modules, F.silu, nn.SiLU):
            gate = f"{entry.name}_sigmoid"
            nodes[gate] = Node("sigmoid", gate, inputs)
            nodes[entry.name] = Node("mul", entry.name, (*inputs, gate))
        else:
            nodes[entry.name] = _node(entry, inputs, modules)
        renamed[entry.name] = entry.name
    return Graph(source, tuple(nodes.values()), outputs)


def _inputs(entry: fx.Node) -> list[fx.Node]:
    """The tensors that an entry reads, in order, each as often as it is read."""
    found: list[fx.Node] = []
    map_arg((entry.args, entry.kwargs), found.append)
    return found


def _is(entry: fx.Node, modules: dict[str, Any], function: Any, module: type[nn.Module]) -> bool:
    if entry.op == "call_module":
        return isinstance(modules[str(entry.target)], module)
    return entry.op == "call_function" and entry.target is function


def _node(entry: fx.Node, inputs: tuple[str, ...], modules: dict[str, Any]) -> Node:
    node = None
    if entry.op == "call_module" and len(inputs) == 1:
        node = _node_of_module(entry.name, inputs, modules[str(entry.target)])
    elif entry.op == "call_function":
        node = _node_of_function(entry, inputs)
    if node is None:
        raise ValueError(f"{entry.name}: {entry.target} is not an operator that can be exported")
    return node


def _node_of_module(name: str, inputs: tuple[str, ...], module: nn.Module) -> Node | None:
    if isinstance(module, nn.Conv2d):
        node = Node(
            "conv",
            name,
            inputs,
            weight=module.weight.detach(),
            bias=None if module.bias is None else module.bias.detach(),
            dilation=module.dilation[0],
            groups=module.groups,
            stride=module.stride[0],
            trained=module.weight.requires_grad,
        )
        return node if _keeps_or_halves(module, node) else None
    if isinstance(module, nn.MaxPool2d):
        size = module.kernel_size
        settings = (module.stride, module.padding, module.dilation, module.ceil_mode, module.return_indices)
        if isinstance(size, int) and size % 2 and settings == (1, size // 2, 1, False, False):
            return Node("maxpool", name, inputs, size=size)
    return None


def _node_of_function(entry: fx.Node, inputs: tuple[str, ...]) -> Node | None:
    kinds: dict[Any, tuple[str, int]] = {
        operator.add: ("add", 2),
        operator.mul: ("mul", 2),
        torch.cat: ("concat", len(inputs)),
        torch.sigmoid: ("sigmoid", 1),
    }
    kind, count = kinds.get(entry.target, ("", 0))
    if kind and len(inputs) == count:
        return Node(kind, entry.name, inputs)
    if entry.target is torch.mean and entry.args[1:] == ((2, 3),) and entry.kwargs == {"keepdim": True}:
        return Node("mean", entry.name, inputs)
    if entry.target is F.interpolate and len(entry.args) == 1:
        asked = {key: value for key, value in entry.kwargs.items() if value}
        if asked == {"scale_factor": 2, "mode": "nearest"}:
            return Node("upsample", entry.name, inputs)
    return None


def _keeps_or_halves(convolution: nn.Conv2d, node: Node) -> bool:
    """Its kernel is square and of odd size, in the middle of its padding, and its stride 1 or 2."""
    assert node.weight is not None
    size = node.weight.shape[-1]
    return (
        size % 2 == 1
        and convolution.stride in ((1, 1), (2, 2))
        and convolution.padding == (node.padding,) * 2
        and convolution.dilation == (node.dilation,) * 2
        and convolution.padding_mode == "zeros"
        and convolution.kernel_size == (size,) * 2
    )
