"""Quantisation to int8, after training and during it, and the exact integer arithmetic of the run time in PyTorch.

Activations are int8 with one scale and zero point a tensor, weights int8 with one scale an output channel and
zero point 0, biases int32. The arithmetic is XNNPACK's (32-bit float requantisation, fixed-point
addition), so that what is measured here is what runs on the board.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    """value = (quantised - zero_point) * scale."""

    scale: float
    zero_point: int

    def quantise(self, x: Tensor) -> Tensor:
        """Real values to integers, held in float32."""
        return torch.clamp(torch.round(x / self.scale) + self.zero_point, LOWEST, HIGHEST)

    def dequantise(self, q: Tensor) -> Tensor:
        return (q - self.zero_point) * self.scale


# What a sigmoid gives, and a picture: all of int8 for 0 to 1. Clipping of a picture is then free.
SIGMOID_OUTPUT = Quantisation(1 / 256, -128)
UNIT_RANGE = Quantisation(1 / 255, -128)


@dataclass(frozen=True, slots=True)
class QuantisedWeights:
    """Of one convolution: int8 weights (out, in / groups, ky, kx), int32 bias (out), scale (out)."""

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class QuantisedGraph:
    """A graph, the quantisation of each of its tensors, and the quantised weights of each convolution."""

    graph: Graph
    tensors: dict[str, Quantisation]
    weights: dict[str, QuantisedWeights]

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """int8 values (batch, channels, height, width; any dtype that holds them) to the outputs', as float32."""
        tensors = self.run_all(x)
        return tuple(tensors[name] for name in self.graph.outputs)

    def run_all(self, x: Tensor) -> dict[str, Tensor]:
        """As `run`, but all tensors of the graph, by name."""
        tensors = {self.graph.input: x.to(torch.float32)}
        for node in self.graph.nodes:
            inputs = [tensors[name] for name in node.inputs]
            scales = [self.tensors[name] for name in node.inputs]
            out = self._run(node, inputs, scales)
            tensors[node.name] = out
        return tensors

    def run_real(self, x: Tensor) -> tuple[Tensor, ...]:
        """Real values in and out, integers between."""
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


def quantise(graph: Graph, samples: Iterable[Tensor], *, output: Quantisation = UNIT_RANGE) -> QuantisedGraph:
    """Post-training quantisation: channels are equalised, and each tensor gets the range of least squared error.

    Args:
        graph: of a merged network; its input is 0 to 1.
        samples: float inputs (batch, channels, height, width).
        output: of the graph's outputs: by default a picture's.
    """
    samples = list(samples)
    graph = equalise(graph, samples)
    tensors = _best_quantisations(graph, samples)
    tensors[graph.input] = UNIT_RANGE
    tensors.update(dict.fromkeys(graph.outputs, output))
    for node in graph.nodes:
        if node.kind == "sigmoid":
            tensors[node.name] = SIGMOID_OUTPUT
    return QuantisedGraph(graph, tensors, quantise_weights(graph, tensors))


# Of a channel's magnitudes, the one that all but this share lie below counts as its range: the largest is an accident.
_BEYOND_RANGE = 1e-5

# How far equalisation goes: 1 makes the activations' ranges alike, 0 those of the weights that read them.
_EVENNESS = 0.85


@torch.no_grad()
def equalise(graph: Graph, samples: Sequence[Tensor]) -> Graph:
    """The same function with channels of like ranges, so that one scale a tensor suits them all.

    ReLU passes a positive factor through: a channel is divided by one where it is made and multiplied where it is read.
    The factor stands between one that makes all channels' ranges alike and one that makes those of the weights alike
    which read them (after Nagel, van Baalen, Blankevoort, Welling: "Data-free quantization through weight equalization
    and bias correction", ICCV 2019): some channels see nothing but very saturated colours, and must not be clipped.
    What additions tie together gets the same factors; what anything but convolutions, additions and concatenations
    reads is left alone.
    """
    ranges = _channel_ranges(graph, samples)
    group = _ties(graph, ("add",))
    readers: dict[str, list[tuple[str, int]]] = {name: [] for name in ranges}  # convolutions, and the first channel
    free = {name: name not in (graph.input, *graph.outputs) for name in ranges}
    for node in graph.nodes:
        for name, first in sources(graph, node):
            readers[name].append((node.name, first))
            free[name] &= node.kind == "conv" and node.groups == 1
        free[node.name] &= node.kind in ("conv", "add") and node.groups == 1
    weights = {node.name: node.weight.clone() for node in graph.nodes if node.weight is not None}
    biases = {node.name: node.bias.clone() for node in graph.nodes if node.bias is not None}
    for root in sorted(set(group.values())):
        members = [name for name in group if group[name] == root]
        reading = [entry for name in members for entry in readers[name]]
        if not reading or not all(free[name] for name in members):
            continue
        activation = torch.stack([ranges[name] for name in members]).amax(0)
        channels = len(activation)
        parts = [weights[name][:, first : first + channels] for name, first in reading]
        read = torch.stack([part.abs().amax((0, 2, 3)) for part in parts]).amax(0)
        alive = (activation > 0) & (read > 0)
        factor = torch.where(alive, activation**_EVENNESS / read ** (1 - _EVENNESS), torch.ones(channels))
        for name in members:
            if name in weights:
                weights[name] /= factor[:, None, None, None]
            if name in biases:
                biases[name] /= factor
        for name, first in reading:
            weights[name][:, first : first + channels] *= factor[:, None, None]
    nodes = tuple(replace(n, weight=weights.get(n.name), bias=biases.get(n.name)) for n in graph.nodes)
    return replace(graph, nodes=nodes)


def sources(graph: Graph, node: Node) -> list[tuple[str, int]]:
    """What a node reads, behind concatenations, with the first channel that it takes there; nothing for what additions
    and concatenations only pass on."""
    if node.kind in ("add", "concat"):
        return []
    concatenations = {n.name: n for n in graph.nodes if n.kind == "concat"}
    found = []
    for name in node.inputs:
        first = 0
        parts = concatenations[name].inputs if name in concatenations else (name,)
        for part in parts:
            found.append((part, first))
            first += _channels(graph, part) if len(parts) > 1 else 0
    return found


def _channels(graph: Graph, name: str) -> int:
    node = next(n for n in graph.nodes if n.name == name)
    if node.kind == "concat":
        return sum(_channels(graph, part) for part in node.inputs)
    return len(node.weight) if node.weight is not None else _channels(graph, node.inputs[0])


@torch.no_grad()
def _channel_ranges(graph: Graph, samples: Sequence[Tensor]) -> dict[str, Tensor]:
    """The range of magnitudes of each channel of each tensor, see `_BEYOND_RANGE`; the largest of the samples'."""
    ranges: dict[str, Tensor] = {}
    for sample in samples:
        for name, values in graph.run(sample).items():
            magnitudes = values.abs().transpose(0, 1).flatten(1)
            place = max(1, math.ceil(magnitudes.shape[1] * (1 - _BEYOND_RANGE)))
            found = magnitudes.kthvalue(place, dim=1).values
            ranges[name] = torch.maximum(ranges[name], found) if name in ranges else found
    return ranges


@torch.no_grad()
def observe(graph: Graph, samples: Iterable[Tensor]) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each tensor over the samples."""
    ranges: dict[str, tuple[float, float]] = {}
    for sample in samples:
        for name, values in graph.run(sample).items():
            low, high = ranges.get(name, (math.inf, -math.inf))
            ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return ranges


# Shares of a tensor's whole range that are tried for it.
_SHARES = tuple(0.8**i for i in range(12))


@torch.no_grad()
def _best_quantisations(graph: Graph, samples: Sequence[Tensor]) -> dict[str, Quantisation]:
    """For each tensor the quantisation whose squared error on the samples is least; one for those that share it."""
    groups = shared_quantisations(graph)
    ranges = shared_ranges(graph, observe(graph, samples))
    candidates = {
        name: [quantisation_of_range(share * low, share * high) for share in _SHARES]
        for name, (low, high) in ranges.items()
    }
    errors = {root: torch.zeros(len(_SHARES), dtype=torch.float64) for root in groups.values()}
    for sample in samples:
        for name, values in graph.run(sample).items():
            for i, q in enumerate(candidates[name]):
                rounded = torch.fake_quantize_per_tensor_affine(values, q.scale, q.zero_point, LOWEST, HIGHEST)
                errors[groups[name]][i] += float((rounded - values).square().sum(dtype=torch.float64))
    return {name: candidates[name][int(errors[groups[name]].argmin())] for name in ranges}


def quantise_weights(graph: Graph, tensors: dict[str, Quantisation]) -> dict[str, QuantisedWeights]:
    """Weights per output channel, symmetric, -127 to 127; biases at the scale of the products."""
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
    """All of int8 for a range of values, and for 0."""
    low, high = min(low, 0.0), max(high, 0.0)  # zero must be exact: borders are padded with it
    scale = float(np.float32(max(high - low, SMALLEST_RANGE) / (HIGHEST - LOWEST)))
    return Quantisation(scale, int(np.clip(round(LOWEST - low / scale), LOWEST, HIGHEST)))


def shared_quantisations(graph: Graph) -> dict[str, str]:
    """By tensor, the one that stands for all that must have its quantisation: the inputs and the output of
    concatenations, maxima and upsampling, which then only move bytes."""
    return _ties(graph, ("concat", "maxpool", "upsample"))


def _ties(graph: Graph, kinds: tuple[str, ...]) -> dict[str, str]:
    """By tensor, the one that stands for all that operators of some kinds tie together: their inputs and outputs."""
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
    """Tensors whose quantisation is not learnt: input, outputs and sigmoids."""
    return {graph.input, *graph.outputs} | {node.name for node in graph.nodes if node.kind == "sigmoid"}


def shared_ranges(graph: Graph, ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """One range for all tensors of a group of `shared_quantisations`."""
    members: dict[str, list[str]] = {}
    for name, group in shared_quantisations(graph).items():
        members.setdefault(group, []).append(name)
    fixed = fixed_tensors(graph)
    tied = {}
    for names in members.values():
        if len(names) > 1 and fixed.intersection(names):
            raise ValueError(f"tensors of fixed range cannot be concatenated: {fixed.intersection(names)}")
        shared = (min(ranges[n][0] for n in names), max(ranges[n][1] for n in names))
        tied.update(dict.fromkeys(names, shared))
    return tied


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


# Weights move by a learning rate's worth a step, logarithms of scales by so many: they have further to go.
_SCALES_PACE = 10


class FakeQuantised(nn.Module):
    """A quantised graph in floating point that can be trained on: every weight and every tensor is rounded to
    its grid in the forward pass, and gradients pass straight through (quantisation-aware training).

    Each tensor's scale is learnt together with the weights, from what was found on the samples (Esser, McKinstry,
    Bablani, Appuswamy, Modha: "Learned step size quantization", ICLR 2020), as a multiple of its logarithm; zero points
    stay, and so do the scales that are fixed: of the input, the outputs and sigmoids. It gives one tensor, or a tuple
    where the graph has several outputs.
    """

    def __init__(self, quantised: QuantisedGraph) -> None:
        super().__init__()
        self._graph, self._tensors = quantised.graph, quantised.tensors
        self.weights, self.biases, self.log_scales = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for node in self._graph.nodes:
            if node.weight is not None:
                self.weights[node.name] = nn.Parameter(node.weight.clone())
            if node.bias is not None:
                self.biases[node.name] = nn.Parameter(node.bias.clone())
        self._groups = shared_quantisations(self._graph)
        for name in sorted({self._groups[name] for name in self._tensors} - fixed_tensors(self._graph)):
            self.log_scales[name] = nn.Parameter(torch.tensor(math.log(self._tensors[name].scale) / _SCALES_PACE))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        tensors = {self._graph.input: x}
        for node in self._trained_nodes(rounded=True):
            out = node.run(*(tensors[name] for name in node.inputs))
            zero_point = self._tensors[node.name].zero_point
            tensors[node.name] = _FakeQuantise.apply(out, self._log_scale(node.name), zero_point)
        outputs = tuple(tensors[name] for name in self._graph.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def quantised(self) -> QuantisedGraph:
        """The quantised graph with the weights and scales that were learnt."""
        nodes = tuple(self._trained_nodes(rounded=False))
        graph = replace(self._graph, nodes=nodes)
        learnt = {name for name in self._tensors if self._groups[name] in self.log_scales}
        tensors = {
            name: replace(q, scale=math.exp(float(self._log_scale(name).detach()))) if name in learnt else q
            for name, q in self._tensors.items()
        }
        return QuantisedGraph(graph, tensors, quantise_weights(graph, tensors))

    def _log_scale(self, name: str) -> Tensor:
        group = self._groups[name]
        if group in self.log_scales:
            return self.log_scales[group] * _SCALES_PACE
        return torch.tensor(math.log(self._tensors[name].scale))

    def _trained_nodes(self, *, rounded: bool) -> Iterator[Node]:
        for node in self._graph.nodes:
            if node.weight is None:
                yield node
                continue
            weight = self.weights[node.name] if rounded else self.weights[node.name].detach()
            if rounded:
                scale = weight.detach().abs().amax((1, 2, 3)).clamp_min(1e-9) / 127
                zeros = torch.zeros(len(scale), dtype=torch.int32)
                weight = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)
            bias = None if node.bias is None else self.biases[node.name]
            yield replace(node, weight=weight, bias=bias if rounded or bias is None else bias.detach())


class _FakeQuantise(torch.autograd.Function):
    """Values on the grid of a quantisation; gradients pass the rounding straight through, to the scale as well.

    With the quantised value y of x: dy/dx is 1 where x is within the range, else 0; dy/dlog(scale) is y - x within the
    range, else y.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_scale: Tensor, zero_point: int) -> Tensor:
        y, within = torch.ops.aten.fake_quantize_per_tensor_affine_cachemask(
            x, math.exp(float(log_scale)), zero_point, LOWEST, HIGHEST
        )
        ctx.save_for_backward(x, y, within)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, y, within = ctx.saved_tensors
        passed = gradients[0] * within
        to_scale = (gradients[0] * y).sum() - (passed * x).sum() if ctx.needs_input_grad[1] else None
        return passed, to_scale, None


class Integers(nn.Module):
    """The exact integer arithmetic of a quantised graph, for 0 to 1 in, real values out."""

    def __init__(self, quantised: QuantisedGraph) -> None:
        super().__init__()
        self._quantised = quantised

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = self._quantised.run_real(x)
        return outputs if len(outputs) > 1 else outputs[0]


def save_quantised(quantised: QuantisedGraph, path: Path) -> None:
    """Writes what quantisation found and learnt: the real weights, and the quantisation of each tensor."""
    state = {
        "tensors": {name: (q.scale, q.zero_point) for name, q in quantised.tensors.items()},
        "weights": {node.name: node.weight for node in quantised.graph.nodes if node.weight is not None},
        "biases": {node.name: node.bias for node in quantised.graph.nodes if node.bias is not None},
    }
    torch.save(state, path)


def load_quantised(path: Path, graph: Graph) -> QuantisedGraph:
    """Reads what `save_quantised` wrote, for a graph of the same structure; its own weights are replaced."""
    state = torch.load(path, weights_only=True)
    nodes = tuple(
        replace(node, weight=state["weights"].get(node.name), bias=state["biases"].get(node.name))
        for node in graph.nodes
    )
    tensors = {name: Quantisation(scale, zero_point) for name, (scale, zero_point) in state["tensors"].items()}
    loaded = replace(graph, nodes=nodes)
    return QuantisedGraph(loaded, tensors, quantise_weights(loaded, tensors))
