"""The exact integer arithmetic of the runtime in PyTorch: int8 activations and weights, int32 biases.

Activations are int8 with one scale and zero point per tensor, weights int8 with one scale per output channel and
zero point 0, biases int32. The arithmetic is XNNPACK's (32-bit float requantisation, fixed-point
addition), so that what is measured here is what runs on the board.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edge_isp.training.graph import Graph, Node

LOWEST, HIGHEST = -128, 127
# Below this a tensor is as good as constant; its scale would overflow the biases that depend on it.
SMALLEST_RANGE = 1e-2
# Integers up to here are exact in float32, so that float32 convolutions compute integer sums exactly.
EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True, slots=True)
class Quantisation:
    """value = (quantised - zero_point) * scale.

    Attributes:
        scale: value of one step.
        zero_point: the integer that stands for 0.
    """

    scale: float
    zero_point: int

    def quantise(self, x: Tensor) -> Tensor:
        """Real values to integers, held in float32.

        Args:
            x: real values.
        """
        return torch.clamp(torch.round(x / self.scale) + self.zero_point, LOWEST, HIGHEST)

    def dequantise(self, q: Tensor) -> Tensor:
        return (q - self.zero_point) * self.scale


# What a sigmoid gives, and a picture: all of int8 for 0 to 1. Clipping of a picture is then free.
SIGMOID_OUTPUT = Quantisation(1 / 256, -128)
UNIT_RANGE = Quantisation(1 / 255, -128)


@dataclass(frozen=True, slots=True)
class QuantisedWeights:
    """Of one convolution: int8 weights (out, in / groups, ky, kx), int32 bias (out), scale (out).

    Attributes:
        weight: int8 (out, in / groups, ky, kx).
        bias: int32 (out).
        scale: of the weights: float32 (out).
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class QuantisedGraph:
    """A graph, the quantisation of each of its tensors, and the quantised weights of each convolution.

    Attributes:
        graph: with the real weights.
        tensors: quantisation of each tensor, by name.
        weights: of each convolution, by name.
    """

    graph: Graph
    tensors: dict[str, Quantisation]
    weights: dict[str, QuantisedWeights]

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """int8 values (batch, channels, height, width; any dtype that holds them) to the outputs', as float32.

        Args:
            x: the input's integers.
        """
        tensors = self.run_all(x)
        return tuple(tensors[name] for name in self.graph.outputs)

    def run_all(self, x: Tensor) -> dict[str, Tensor]:
        """As `run`, but all tensors of the graph, by name.

        Args:
            x: the input's integers.
        """
        tensors = {self.graph.input: x.to(torch.float32)}
        for node in self.graph.nodes:
            inputs = [tensors[name] for name in node.inputs]
            scales = [self.tensors[name] for name in node.inputs]
            out = self._run(node, inputs, scales)
            tensors[node.name] = out
        return tensors

    def run_real(self, x: Tensor) -> tuple[Tensor, ...]:
        """Real values in and out, integers between.

        Args:
            x: the input: (batch, channels, height, width).
        """
        found = self.run(self.tensors[self.graph.input].quantise(x))
        return tuple(self.tensors[name].dequantise(q) for name, q in zip(self.graph.outputs, found, strict=True))

    def _run(self, node: Node, inputs: list[Tensor], scales: list[Quantisation]) -> Tensor:
        out = self.tensors[node.name]
        lowest = out.zero_point if node.relu else LOWEST
        match node.kind:
            case "conv":
                return _convolve(node, inputs[0], scales[0], self.weights[node.name], out, lowest)
            case "add":
                return _add(inputs, scales, out, lowest)
            case "mul":
                centred = [x - q.zero_point for x, q in zip(inputs, scales, strict=True)]
                multiplier = np.float32(scales[0].scale) * np.float32(scales[1].scale) / np.float32(out.scale)
                return _requantise(centred[0] * centred[1], multiplier, out.zero_point, lowest)
            case "concat":
                return torch.cat(inputs, 1)  # all of one quantisation, see `shared_quantisations`
            case "sigmoid":
                table = _sigmoid_table(scales[0], out)
                return table[(inputs[0] - LOWEST).long()]
            case "mean":
                count = inputs[0].shape[2] * inputs[0].shape[3]
                total = (inputs[0] - scales[0].zero_point).double().sum((2, 3), keepdim=True)
                multiplier = np.float32(scales[0].scale) / np.float32(out.scale) / np.float32(count)
                return _requantise(total.to(torch.float32), multiplier, out.zero_point, lowest)
            case "maxpool" | "upsample":
                return node.run(*inputs)  # moves integers
        raise ValueError(f"unknown operator '{node.kind}'")


def quantise_weights(graph: Graph, tensors: dict[str, Quantisation]) -> dict[str, QuantisedWeights]:
    """Weights per output channel, symmetric, -127 to 127; biases at the scale of the products.

    Args:
        graph: with the real weights.
        tensors: quantisation of each tensor, by name.
    """
    out = {}
    for node in graph.nodes:
        if node.kind != "conv":
            continue
        assert node.weight is not None
        weight = node.weight.detach().double()
        scale = weight.abs().amax((1, 2, 3)).clamp_min(1e-9) / 127
        bias = torch.zeros(len(weight)) if node.bias is None else node.bias.detach()
        scale32 = scale.to(torch.float32)
        product_scale = scale32.double() * float(np.float32(tensors[node.inputs[0]].scale))
        out[node.name] = QuantisedWeights(
            torch.round(weight / scale[:, None, None, None]).numpy().astype(np.int8),
            np.clip(torch.round(bias.double() / product_scale).numpy(), -(2**31) + 1, 2**31 - 1).astype(np.int32),
            scale32.numpy(),
        )
    return out


def quantisation_of_range(low: float, high: float) -> Quantisation:
    """All of int8 for a range of values, and for 0.

    Args:
        low: smallest value.
        high: largest value.
    """
    low, high = min(low, 0.0), max(high, 0.0)  # zero must be exact: borders are padded with it
    scale = float(np.float32(max(high - low, SMALLEST_RANGE) / (HIGHEST - LOWEST)))
    return Quantisation(scale, int(np.clip(round(LOWEST - low / scale), LOWEST, HIGHEST)))


def shared_quantisations(graph: Graph) -> dict[str, str]:
    """By tensor, the one that stands for all that must have its quantisation: the inputs and the output of
    concatenations, maxima and upsampling, which then only move bytes.

    Args:
        graph: of a merged network.
    """
    return ties(graph, ("concat", "maxpool", "upsample"))


def ties(graph: Graph, kinds: tuple[str, ...]) -> dict[str, str]:
    """By tensor, the one that stands for all that operators of some kinds tie together: their inputs and outputs.

    Args:
        graph: of a merged network.
        kinds: of operators.
    """
    group = {name: name for name in (graph.input, *(node.name for node in graph.nodes))}

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for node in graph.nodes:
        if node.kind in kinds:
            for name in node.inputs:
                group[root(name)] = root(node.name)
    return {name: root(name) for name in group}


def fixed_tensors(graph: Graph) -> set[str]:
    """Tensors whose quantisation is not learnt: input, outputs and sigmoids, and what upsampling makes of a sigmoid.

    Args:
        graph: of a merged network.
    """
    return {graph.input, *graph.outputs} | sigmoids(graph)


def sigmoids(graph: Graph) -> set[str]:
    """Tensors that have the quantisation of a sigmoid's output: those, and what upsampling makes of them.

    Args:
        graph: of a merged network.
    """
    found: set[str] = set()
    for node in graph.nodes:
        if node.kind == "sigmoid" or (node.kind == "upsample" and node.inputs[0] in found):
            found.add(node.name)
    return found


def _requantise(accumulator: Tensor, multiplier: np.float32 | Tensor, zero_point: int, lowest: int) -> Tensor:
    """Integer sums to int8 values, as XNNPACK's fp32 requantisation does: halves to even."""
    factor = multiplier if isinstance(multiplier, Tensor) else torch.tensor(multiplier, dtype=torch.float32)
    return torch.clamp(torch.round(accumulator * factor) + zero_point, lowest, HIGHEST)


def _convolve(
    node: Node, x: Tensor, quantisation: Quantisation, weights: QuantisedWeights, out: Quantisation, lowest: int
) -> Tensor:
    kernel = torch.from_numpy(weights.weight.astype(np.float32))
    bias = torch.from_numpy(weights.bias.astype(np.float64))
    centred = x - quantisation.zero_point
    bound = (HIGHEST - LOWEST) * float(kernel.abs().sum((1, 2, 3)).max()) + float(bias.abs().max())
    exact = torch.float32 if bound < EXACT_IN_FLOAT32 else torch.float64
    accumulator = F.conv2d(
        centred.to(exact),
        kernel.to(exact),
        bias.to(exact),
        stride=node.stride,
        padding=node.padding,
        dilation=node.dilation,
        groups=node.groups,
    )
    multiplier = np.float32(quantisation.scale) * weights.scale / np.float32(out.scale)
    return _requantise(
        accumulator.to(torch.float32), torch.from_numpy(multiplier)[:, None, None], out.zero_point, lowest
    )


def _add(inputs: list[Tensor], scales: list[Quantisation], out: Quantisation, lowest: int) -> Tensor:
    """XNNPACK's fixed-point addition: multipliers of 21 bits, one shift, halves up."""
    ratios = [np.float32(q.scale) / np.float32(out.scale) for q in scales]
    shift = 20 - (math.frexp(float(max(ratios)))[1] - 1)
    multipliers = [round(math.ldexp(float(ratio), shift)) for ratio in ratios]
    total = torch.full((), 1 << (shift - 1), dtype=torch.int64)
    for x, q, multiplier in zip(inputs, scales, multipliers, strict=True):
        total = total + (x.long() - q.zero_point) * multiplier
    return torch.clamp((total >> shift) + out.zero_point, lowest, HIGHEST).to(torch.float32)


def _sigmoid_table(source: Quantisation, out: Quantisation) -> Tensor:
    codes = np.arange(LOWEST, HIGHEST + 1)
    x = (np.float32(source.scale) * (codes - source.zero_point).astype(np.float32)).astype(np.float32)
    sigmoid = (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)
    values = np.rint(sigmoid * np.float32(1 / np.float32(out.scale))) + out.zero_point
    return torch.from_numpy(np.clip(values, LOWEST, HIGHEST).astype(np.float32))


class Integers(nn.Module):
    """The exact integer arithmetic of a quantised graph, for 0 to 1 in, real values out.

    Args:
        quantised: the network.
    """

    def __init__(self, quantised: QuantisedGraph) -> None:
        super().__init__()
        self._quantised = quantised

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = self._quantised.run_real(x)
        if len(outputs) == 1:
            return outputs[0]
        return outputs


def save_quantised(quantised: QuantisedGraph, path: Path) -> None:
    """Writes what quantisation found and learnt: the real weights, and the quantisation of each tensor.

    Args:
        quantised: the network.
        path: of the file.
    """
    state = {
        "tensors": {name: (q.scale, q.zero_point) for name, q in quantised.tensors.items()},
        "weights": {node.name: node.weight for node in quantised.graph.nodes if node.weight is not None},
        "biases": {node.name: node.bias for node in quantised.graph.nodes if node.bias is not None},
    }
    torch.save(state, path)


def load_quantised(path: Path, graph: Graph) -> QuantisedGraph:
    """Reads what `save_quantised` wrote, for a graph of the same structure; its own weights are replaced.

    Args:
        path: of the file.
        graph: of the network.
    """
    state = torch.load(path, weights_only=True)
    nodes = tuple(
        replace(node, weight=state["weights"].get(node.name), bias=state["biases"].get(node.name))
        for node in graph.nodes
    )
    tensors = {name: Quantisation(scale, zero_point) for name, (scale, zero_point) in state["tensors"].items()}
    loaded = replace(graph, nodes=nodes)
    return QuantisedGraph(loaded, tensors, quantise_weights(loaded, tensors))
