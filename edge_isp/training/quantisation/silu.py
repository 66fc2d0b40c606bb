"""Networks with SiLU, y = x * sigmoid(x), as integers.

SiLU lets no factor through, so that the channels of what it reads cannot be equalised as those before a ReLU are (see
`quantisation.equalise`): where one channel reaches 100 and its neighbour 1, a step of int8 is as large as all that the
neighbour says. A second convolution helps: one makes the values, each channel divided by a factor, the other makes the
gates, whose range is short because a sigmoid saturates; their product is divided by the factor, and the weights that
read it are multiplied. In floating point that is the same function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_isp.training.graph import Graph, Node
from edge_isp.training.quantisation.arithmetic import (
    HIGHEST,
    LOWEST,
    SIGMOID_OUTPUT,
    UNIT_RANGE,
    Quantisation,
    QuantisedGraph,
    load_quantised,
    quantisation_of_range,
    quantise_weights,
    shared_quantisations,
)
from edge_isp.training.quantisation.post_training import observe, shared_ranges, sources

# Where the largest channel's range is more than this many times the median channel's, a SiLU gets a convolution for its
# gates.
UNEVEN = 8.0
# What a SiLU makes of lower values is next to nothing.
_LOWEST = -4.0
# Of a channel's magnitudes, the one that all but this share lie below counts as its range.
_BEYOND_RANGE = 1e-4
# A channel that is hardly ever active must still be able to.
_SMALLEST_FACTOR = 1 / 64

GATE_SUFFIX = "_gate"


@dataclass(frozen=True, slots=True)
class Silu:
    """Names of its tensors: product = value * sigmoid(gate); value and gate are one, or made by two convolutions.

    Attributes:
        value: what the gate is multiplied with.
        gate: what the sigmoid reads.
        sigmoid: the gate's sigmoid.
        product: the output.
    """

    value: str
    gate: str
    sigmoid: str
    product: str


def find_silus(graph: Graph) -> list[Silu]:
    """The SiLUs of a graph, those with a convolution for their gates among them.

    Args:
        graph: of a merged network.
    """
    nodes = {node.name: node for node in graph.nodes}
    found = []
    for node in graph.nodes:
        if node.kind != "mul" or node.inputs[1] not in nodes or nodes[node.inputs[1]].kind != "sigmoid":
            continue
        value, (gate,) = node.inputs[0], nodes[node.inputs[1]].inputs
        if value == gate or gate == value + GATE_SUFFIX:
            found.append(Silu(value, gate, node.inputs[1], node.name))
    return found


def equalise_silus(graph: Graph, samples: Sequence[Tensor]) -> Graph:
    """The same function with convolutions for the gates of SiLUs whose channels are uneven, see `UNEVEN`.

    Args:
        graph: of a merged network.
        samples: inputs: (batch, channels, height, width).
    """
    ranges = channel_ranges(graph, samples)
    uneven = {name: found for name, found in ranges.items() if found.max() > UNEVEN * found.median()}
    return split_gates(graph, {name: uneven[name] for name in sorted(uneven) if _read_by_convolutions(graph, name)})


@torch.no_grad()
def channel_ranges(graph: Graph, samples: Sequence[Tensor]) -> dict[str, Tensor]:
    """By product of a SiLU, the `active_range` of each channel of what it reads; the largest of the samples'.

    Args:
        graph: of a merged network.
        samples: inputs: (batch, channels, height, width).
    """
    ranges: dict[str, Tensor] = {}
    for sample in samples:
        tensors = graph.run(sample)
        for silu in find_silus(graph):
            found = active_range(tensors[silu.value].transpose(0, 1).flatten(1))
            ranges[silu.product] = torch.maximum(ranges[silu.product], found) if silu.product in ranges else found
    return ranges


def active_range(values: Tensor) -> Tensor:
    """The range of magnitudes of each channel (channels, values) of what a SiLU reads, as far as it matters.

    See `_LOWEST` and `_BEYOND_RANGE`.

    Args:
        values: (channels, values).
    """
    magnitudes = values.clamp_min(_LOWEST).abs()
    place = max(1, math.ceil(magnitudes.shape[1] * (1 - _BEYOND_RANGE)))
    return magnitudes.kthvalue(place, dim=1).values


def split_gates(graph: Graph, ranges: Mapping[str, Tensor]) -> Graph:
    """The same function with convolutions for the gates of some SiLUs.

    Args:
        graph: of a merged network.
        ranges: by product of a SiLU, the ranges of its channels: they become as large as the largest.

    Raises:
        ValueError: a product is read by something else than convolutions.
    """
    weights = {node.name: node.weight for node in graph.nodes if node.weight is not None}
    factors: dict[str, Tensor] = {}
    gates: dict[str, str] = {}
    for silu in find_silus(graph):
        if silu.product not in ranges:
            continue
        if not _read_by_convolutions(graph, silu.product):
            raise ValueError(f"{silu.product}: is read by something else than convolutions")
        own = ranges[silu.product]
        factor = torch.where(own.max() > 0, own / own.max(), torch.ones_like(own)).clamp_min(_SMALLEST_FACTOR)
        factors[silu.value], gates[silu.sigmoid] = factor, silu.value + GATE_SUFFIX
        _multiply_readers(graph, weights, silu.product, factor)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in gates:
            node = replace(node, inputs=(gates[node.name],))
        elif node.weight is not None:
            node = replace(node, weight=weights[node.name])
        if node.name in factors:
            nodes.append(_divided(node, factors[node.name]))
            node = replace(node, name=node.name + GATE_SUFFIX)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _multiply_readers(graph: Graph, weights: dict[str, Tensor], product: str, factor: Tensor) -> None:
    """Replaces in `weights` those of the convolutions that read a product by ones that are `factor` times as large."""
    for node in graph.nodes:
        for name, first in sources(graph, node):
            if name == product:
                read = factor.new_ones(weights[node.name].shape[1 if node.groups == 1 else 0])
                read[first : first + len(factor)] = factor
                by_input = read[None, :] if node.groups == 1 else read[:, None]
                weights[node.name] = weights[node.name] * by_input[:, :, None, None]


def _divided(convolution: Node, factor: Tensor) -> Node:
    """A convolution whose output channels are divided by a factor each."""
    assert convolution.weight is not None
    bias = None if convolution.bias is None else convolution.bias / factor
    return replace(convolution, weight=convolution.weight / factor[:, None, None, None], bias=bias)


def _read_by_convolutions(graph: Graph, name: str) -> bool:
    """Whether nothing else reads a tensor, behind a concatenation."""

    def readers(tensor: str) -> list[Node]:
        return [node for node in graph.nodes if tensor in node.inputs]

    behind = [reader for node in readers(name) for reader in (readers(node.name) if node.kind == "concat" else [node])]
    passed = {name, *(node.name for node in readers(name) if node.kind == "concat")}
    return all(node.kind == "conv" for node in behind) and not passed.intersection(graph.outputs)


def quantise_silu_network(graph: Graph, samples: Iterable[Tensor], *, logits: Sequence[str] = ()) -> QuantisedGraph:
    """Post-training quantisation of a network with SiLU.

    Uneven SiLUs are equalised, and each tensor gets the range of least squared error behind the SiLU that reads it.

    Args:
        graph: its input is 0 to 1.
        samples: float inputs (batch, channels, height, width).
        logits: outputs that a sigmoid follows: of them, what is below `LOWEST_LOGIT` is not distinguished.
    """
    samples = list(samples)
    graph = equalise_silus(graph, samples)
    return _quantised(graph, _best_quantisations(graph, samples, logits))


def min_max_quantised(graph: Graph, samples: Iterable[Tensor]) -> QuantisedGraph:
    """The simplest quantisation after training, to compare with: all of each tensor's range.

    Args:
        graph: of a merged network.
        samples: inputs: (batch, channels, height, width).
    """
    ranges = shared_ranges(graph, observe(graph, samples))
    return _quantised(graph, {name: quantisation_of_range(low, high) for name, (low, high) in ranges.items()})


def _quantised(graph: Graph, tensors: dict[str, Quantisation]) -> QuantisedGraph:
    tensors = {**tensors, graph.input: UNIT_RANGE}
    tensors.update({node.name: SIGMOID_OUTPUT for node in graph.nodes if node.kind == "sigmoid"})
    return QuantisedGraph(graph, tensors, quantise_weights(graph, tensors))


def load_quantised_silu_network(path: Path, graph: Graph) -> QuantisedGraph:
    """Reads what `save_quantised` wrote of a network with SiLU.

    Args:
        path: of the file.
        graph: of the network; convolutions for gates are added where the file has them.
    """
    made = torch.load(path, weights_only=True)["weights"]
    split = [silu for silu in find_silus(graph) if silu.value + GATE_SUFFIX in made]
    return load_quantised(path, split_gates(graph, {silu.product: torch.ones(len(made[silu.value])) for silu in split}))


# Lower logits are probabilities of less than 1/3000.
LOWEST_LOGIT = -8.0
# Beyond this a sigmoid is 0 or 1 to int8.
_SATURATED = 8.0
# Shares of a tensor's range that are tried for it, and how many of its values are looked at.
_SHARES = tuple(0.85**i for i in range(14))
_VALUES_A_SAMPLE = 4096


@torch.no_grad()
def _best_quantisations(graph: Graph, samples: Sequence[Tensor], logits: Sequence[str]) -> dict[str, Quantisation]:
    """By tensor, see `quantise_silu_network`; one for those that share it."""
    ranges = shared_ranges(graph, observe(graph, samples))
    values = _some_values(graph, samples)
    seen = _seen_through(graph, values)
    gates = {silu.gate for silu in find_silus(graph) if silu.gate != silu.value}
    members: dict[str, list[str]] = {}
    for name, group in shared_quantisations(graph).items():
        members.setdefault(group, []).append(name)
    found: dict[str, Quantisation] = {}
    for names in members.values():
        low, high = ranges[names[0]]
        if gates.intersection(names):
            low, high = max(low, -_SATURATED), min(high, _SATURATED)
        if set(logits).intersection(names):
            low = max(low, LOWEST_LOGIT)
        if set(graph.outputs).intersection(names):  # what is far from the rest there is what was looked for
            best = quantisation_of_range(low, high)
        else:
            best = _least_error(low, high, [(values[name], seen.get(name, _unchanged)) for name in names])
        found.update(dict.fromkeys(names, best))
    return found


def _least_error(low: float, high: float, read: Sequence[tuple[Tensor, Callable[[Tensor], Tensor]]]) -> Quantisation:
    """The quantisation of a part of a range whose squared error is least: both ends are moved together, then each.

    Args:
        read: values, and what is made of them.
    """

    def error(low_share: float, high_share: float) -> float:
        q = quantisation_of_range(low * low_share, high * high_share)
        total = 0.0
        for values, seen in read:
            rounded = torch.fake_quantize_per_tensor_affine(values, q.scale, q.zero_point, LOWEST, HIGHEST)
            total += float((seen(rounded) - seen(values)).square().sum(dtype=torch.float64))
        return total

    share = min(_SHARES, key=lambda s: error(s, s))
    low_share = min(_SHARES, key=lambda s: error(s, share))
    high_share = min(_SHARES, key=lambda s: error(low_share, s))
    return quantisation_of_range(low * low_share, high * high_share)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _gated(value: Tensor, gate: Tensor) -> Tensor:
    return value * torch.sigmoid(gate)


def _seen_through(graph: Graph, values: Mapping[str, Tensor]) -> dict[str, Callable[[Tensor], Tensor]]:
    """What SiLUs make of the tensors that they read, as functions of some of their values."""
    seen: dict[str, Callable[[Tensor], Tensor]] = {}
    for silu in find_silus(graph):
        if silu.gate == silu.value:
            seen[silu.value] = F.silu
        else:
            seen[silu.value] = partial(torch.mul, torch.sigmoid(values[silu.gate]))
            seen[silu.gate] = partial(_gated, values[silu.value])
    return seen


def _some_values(graph: Graph, samples: Sequence[Tensor]) -> dict[str, Tensor]:
    """Values of each tensor at random places: the same places in tensors of one shape."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {}
    for sample in samples:
        places: dict[torch.Size, Tensor] = {}
        for name, values in graph.run(sample).items():
            if values.shape not in places:
                places[values.shape] = torch.randint(values.numel(), (_VALUES_A_SAMPLE,), generator=generator)
            found.setdefault(name, []).append(values.flatten()[places[values.shape]])
    return {name: torch.cat(parts) for name, parts in found.items()}
