"""Quantisation after training: channels are equalised, and each tensor gets the range of least squared error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edge_isp.training.graph import Graph, Node
from edge_isp.training.quantisation.arithmetic import (
    HIGHEST,
    LOWEST,
    SIGMOID_OUTPUT,
    UNIT_RANGE,
    Quantisation,
    QuantisedGraph,
    fixed_tensors,
    quantisation_of_range,
    quantise_weights,
    shared_quantisations,
    sigmoids,
    ties,
)


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
    tensors.update(dict.fromkeys(sigmoids(graph), SIGMOID_OUTPUT))
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

    Args:
        graph: of a merged network.
        samples: inputs: (batch, channels, height, width).
    """
    ranges = _channel_ranges(graph, samples)
    group = ties(graph, ("add",))
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
    and concatenations only pass on.

    Args:
        graph: that the node is in.
        node: that reads.
    """
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
    """Smallest and largest value of each tensor over the samples.

    Args:
        graph: of a merged network.
        samples: inputs: (batch, channels, height, width).
    """
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


def shared_ranges(graph: Graph, ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """One range for all tensors of a group of `shared_quantisations`.

    Args:
        graph: of a merged network.
        ranges: smallest and largest value of each tensor, by name.
    """
    members: dict[str, list[str]] = {}
    for name, group in shared_quantisations(graph).items():
        members.setdefault(group, []).append(name)
    fixed, of_sigmoids = fixed_tensors(graph), sigmoids(graph)
    tied = {}
    for names in members.values():
        if len(names) > 1 and fixed.intersection(names) and not of_sigmoids.issuperset(names):
            raise ValueError(f"tensors of fixed range cannot be concatenated: {fixed.intersection(names)}")
        shared = (min(ranges[n][0] for n in names), max(ranges[n][1] for n in names))
        tied.update(dict.fromkeys(names, shared))
    return tied
