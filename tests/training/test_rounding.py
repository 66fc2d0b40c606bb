"""Weights that are rounded together: on int8's grid, and better than each to the nearest step."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")

import torch
from torch import nn

from edge_isp.training.graph import trace
from edge_isp.training.quantisation.aware_training import FakeQuantised
from edge_isp.training.quantisation.post_training import quantise
from edge_isp.training.quantisation.rounding import round_weights, rounded


def smooth_pictures(count: int = 4) -> list[torch.Tensor]:
    """Neighbours are nearly equal, and one plane is constant in each picture."""
    torch.manual_seed(1)
    pictures = []
    for _ in range(count):
        coarse = torch.rand(2, 4, 4, 4)
        planes = nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")
        pictures.append(torch.cat([planes, torch.rand(2, 1, 1, 1).expand(2, 1, 32, 32)], 1))
    return pictures


def network() -> nn.Module:
    """Kernels as demosaicing has them: few large weights, many small ones."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(5, 16, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1))
    with torch.no_grad():
        for convolution in made:
            assert isinstance(convolution, nn.Conv2d)
            convolution.weight.copy_(0.3 * torch.randn_like(convolution.weight) ** 3)
    return made.eval()


def test_rounding_together_is_better_than_each_alone() -> None:
    samples = smooth_pictures()
    graph = trace(network())
    nearest = quantise(graph, samples)
    together = round_weights(nearest, samples)
    unseen = smooth_pictures(8)[4:]

    def error(of: object) -> float:
        total = 0.0
        for x in unseen:
            exact = nearest.graph.run(x)[nearest.graph.outputs[0]]
            total += float((of.graph.run(x)[nearest.graph.outputs[0]] - exact).square().mean())  # type: ignore[attr-defined]
        return total

    # The rounded weights are those of the graph of `together`; those of `nearest` are rounded in its integers alone.
    alone = FakeQuantised(nearest).quantised()
    for node, original in zip(alone.graph.nodes, nearest.graph.nodes, strict=True):
        assert node.weight is not None
        assert original.weight is not None
        weights = alone.weights[node.name]
        node.weight.copy_(torch.from_numpy(weights.weight * weights.scale[:, None, None, None]))
    assert error(together) < error(alone) / 3


def test_what_was_rounded_lies_on_the_grid() -> None:
    samples = smooth_pictures()
    found = round_weights(quantise(trace(network()), samples), samples)
    for node in found.graph.nodes:
        assert node.weight is not None
        weights = found.weights[node.name]
        grid = torch.from_numpy(weights.weight * weights.scale[:, None, None, None])
        torch.testing.assert_close(node.weight, grid, atol=1e-6, rtol=1e-5)
        assert (abs(weights.weight).max((1, 2, 3)) == 127).all()


def test_inputs_that_do_not_depend_on_each_other_are_rounded_to_the_nearest() -> None:
    torch.manual_seed(5)
    weight = torch.randn(6, 4, 3, 3)
    found, error = rounded(weight, torch.eye(36, dtype=torch.float64))
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    torch.testing.assert_close(found, torch.round(weight / scale) * scale)
    torch.testing.assert_close((found - weight).flatten(1).double(), error, atol=1e-6, rtol=0)


def test_depthwise_and_fixed_weights_stay() -> None:
    torch.manual_seed(7)
    fixed = nn.Conv2d(5, 5, 3, padding=1, bias=False)
    fixed.weight.requires_grad_(False)
    made = nn.Sequential(nn.Conv2d(5, 5, 3, padding=1, groups=5), fixed, nn.Conv2d(5, 4, 1))
    samples = smooth_pictures(1)
    before = quantise(trace(made.eval()), samples)
    after = round_weights(before, samples)
    for old, new in list(zip(before.graph.nodes, after.graph.nodes, strict=True))[:2]:
        assert old.weight is not None
        assert new.weight is not None
        assert torch.equal(old.weight, new.weight)
