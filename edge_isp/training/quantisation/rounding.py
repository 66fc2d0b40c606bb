"""Weights rounded together, so that their errors cancel where the inputs are alike.

Rounding each weight to the nearest step is best only for inputs that do not depend on each other. Those of a picture
do: neighbouring pixels are nearly equal and the noise planes constant, so that the errors of a kernel add up over all
of it; in the first layer of `rfdcsanet-s` that cost 1.6 dB. Here weights are rounded one after the other, again and
again, each to the step at which the error of the convolution's output on samples is least given all others: coordinate
descent on e C e, with e the errors of the weights and C the covariance of the inputs. The mean error goes into the
bias.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_isp.training.graph import Node
from edge_isp.training.quantisation.arithmetic import HIGHEST, QuantisedGraph, quantise_weights

# Rounds over all weights; few change after the first ones.
_ROUNDS = 20

# Places of each sample that are looked at.
_PLACES = 4096

# Added to the variances, as a share of their mean, so that no input counts as known exactly from the others.
_DAMPING = 1e-4


@torch.no_grad()
def round_weights(quantised: QuantisedGraph, samples: Iterable[Tensor], *, seed: int = 0) -> QuantisedGraph:
    """The same network with weights that are rounded together; depthwise convolutions and fixed weights stay.

    Args:
        quantised: with the quantisation of each tensor.
        samples: inputs: (batch, channels, height, width).
        seed: of the places in the samples that are looked at.
    """
    graph = quantised.graph
    moments = _moments(quantised, samples, torch.Generator().manual_seed(seed))
    nodes = []
    for node in graph.nodes:
        if node.name in moments:
            mean, covariance = moments[node.name]
            assert node.weight is not None
            weight, error = rounded(node.weight, covariance)
            bias = torch.zeros(len(weight)) if node.bias is None else node.bias
            node = replace(node, weight=weight, bias=bias - (error @ mean).to(bias))
        nodes.append(node)
    graph = replace(graph, nodes=tuple(nodes))
    return replace(quantised, graph=graph, weights=quantise_weights(graph, quantised.tensors))


def rounded(weight: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Weights on the grid of int8, one scale for each output, and their errors (out, in * ky * kx).

    The largest weight of each output keeps its value, which makes the scale.

    Args:
        weight: (out, in, ky, kx).
        covariance: of the inputs: (in * ky * kx, in * ky * kx), float64.
    """
    exact = weight.flatten(1).double()
    scale = exact.abs().amax(1).clamp_min(1e-9) / HIGHEST
    largest = exact.abs().argmax(1)
    steps = torch.round(exact / scale[:, None])
    error = steps * scale[:, None] - exact
    slope = error @ covariance
    for _ in range(_ROUNDS):
        changed = False
        for j in range(exact.shape[1]):
            best = torch.round(steps[:, j] - slope[:, j] / covariance[j, j] / scale).clamp(-HIGHEST, HIGHEST)
            change = torch.where(largest == j, 0, best - steps[:, j])
            if bool(change.any()):
                changed = True
                steps[:, j] += change
                error[:, j] += change * scale
                slope += (change * scale)[:, None] * covariance[j]
        if not changed:
            break
    return (steps * scale[:, None]).reshape(weight.shape).to(weight), error


def _moments(
    quantised: QuantisedGraph, samples: Iterable[Tensor], generator: torch.Generator
) -> dict[str, tuple[Tensor, Tensor]]:
    """By convolution, mean and covariance of what its kernels read."""
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}
    for sample in samples:
        tensors = quantised.graph.run(sample)
        for node in quantised.graph.nodes:
            if node.weight is None or node.groups != 1 or not node.trained or node.stride != 1:
                continue
            source = quantised.tensors[node.inputs[0]]
            read = _read(node, source.dequantise(source.quantise(tensors[node.inputs[0]])), generator)
            total, products, count = sums.get(node.name, (0, 0, 0))
            sums[node.name] = (total + read.sum(0), products + read.T @ read, count + len(read))
    moments = {}
    for name, (total, products, count) in sums.items():
        mean = total / count
        covariance = products / count - torch.outer(mean, mean)
        covariance += torch.eye(len(mean), dtype=torch.float64) * (covariance.diagonal().mean() * _DAMPING + 1e-12)
        moments[name] = mean, covariance
    return moments


def _read(node: Node, x: Tensor, generator: torch.Generator) -> Tensor:
    """What a convolution reads at some places: (places, in * ky * kx), float64."""
    assert node.weight is not None
    columns = F.unfold(x, node.weight.shape[-1], padding=node.padding, dilation=node.dilation)
    places = columns.transpose(1, 2).flatten(0, 1)
    return places[torch.randperm(len(places), generator=generator)[:_PLACES]].double()
