"""Ranges of tensors chosen by what they do to the result, not to the tensor.

The range of least squared error (`post_training`) weighs all channels and values alike. How much a clipped or a
coarsely rounded value costs in the end, only the end tells: here each range in turn is made smaller and larger, and the
one with the least loss is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from edge_isp.training.quantisation.arithmetic import QuantisedGraph, fixed_tensors, shared_quantisations
from edge_isp.training.quantisation.aware_training import FakeQuantised

# Factors on a range that are tried.
_FACTORS = (0.7, 0.84, 1.2, 1.44)


@torch.no_grad()
def search_ranges(quantised: QuantisedGraph, loss: Callable[[FakeQuantised], float]) -> QuantisedGraph:
    """The same network with the ranges of least loss; weights are not rounded meanwhile.

    Args:
        quantised: with the ranges to start from.
        loss: of a network, on samples that stay the same.
    """
    groups = shared_quantisations(quantised.graph)
    fixed = {groups[name] for name in fixed_tensors(quantised.graph)}
    least = loss(FakeQuantised(quantised, exact_weights=True))
    for root in dict.fromkeys(groups[name] for name in (node.name for node in quantised.graph.nodes)):
        if root in fixed:
            continue
        for direction in (_FACTORS[1::-1], _FACTORS[2:]):
            start = quantised
            for factor in direction:
                tried = _scaled(start, {name for name in groups if groups[name] == root}, factor)
                found = loss(FakeQuantised(tried, exact_weights=True))
                if found >= least:
                    break
                least, quantised = found, tried
    return quantised


def _scaled(quantised: QuantisedGraph, names: set[str], factor: float) -> QuantisedGraph:
    """With other scales of some tensors; integers of weights are made later."""
    tensors = {
        name: replace(q, scale=q.scale * factor) if name in names else q for name, q in quantised.tensors.items()
    }
    return replace(quantised, tensors=tensors)
