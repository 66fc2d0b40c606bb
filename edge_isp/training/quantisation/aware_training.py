"""Quantisation-aware training: a quantised graph in floating point, whose rounding is trained through."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from edge_isp.training.graph import Node
from edge_isp.training.quantisation.arithmetic import (
    HIGHEST,
    LOWEST,
    QuantisedGraph,
    fixed_tensors,
    quantise_weights,
    shared_quantisations,
)

# Per step, weights move by one learning rate, logarithms of scales by this many: they have further to go.
_SCALES_PACE = 10


class FakeQuantised(nn.Module):
    """A quantised graph in floating point that can be trained on: every weight and every tensor is rounded to
    its grid in the forward pass, and gradients pass straight through (quantisation-aware training).

    Each tensor's scale is learnt together with the weights, from what was found on the samples (Esser, McKinstry,
    Bablani, Appuswamy, Modha: "Learned step size quantization", ICLR 2020), as a multiple of its logarithm; zero points
    stay, and so do the scales that are fixed: of the input, the outputs and sigmoids. It gives one tensor, or a tuple
    where the graph has several outputs.

    Args:
        quantised: what the training starts from.
        exact_weights: whether weights stay as they are in the forward pass, for a rounding that follows the training
            (see `rounding.round_weights`). Steps of the optimiser would undo one before it.
    """

    def __init__(self, quantised: QuantisedGraph, *, exact_weights: bool = False) -> None:
        super().__init__()
        self._exact_weights = exact_weights
        self._graph, self._tensors = quantised.graph, quantised.tensors
        self.weights, self.biases, self.log_scales = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for node in self._graph.nodes:
            if node.weight is not None:
                self.weights[node.name] = nn.Parameter(node.weight.clone(), requires_grad=node.trained)
            if node.bias is not None:
                self.biases[node.name] = nn.Parameter(node.bias.clone())
        self._groups = shared_quantisations(self._graph)
        fixed = {self._groups[name] for name in fixed_tensors(self._graph)}
        for name in sorted({self._groups[name] for name in self._tensors} - fixed):
            self.log_scales[name] = nn.Parameter(torch.tensor(math.log(self._tensors[name].scale) / _SCALES_PACE))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        # The mantissa of a half-precision number is shorter than what int8 sums up, and keeps no grid.
        with torch.autocast(x.device.type, enabled=False):
            tensors = {self._graph.input: x.float()}
            for node in self._trained_nodes(rounded=True):
                out = node.run(*(tensors[name] for name in node.inputs))
                zero_point = self._tensors[node.name].zero_point
                tensors[node.name] = _FakeQuantise.apply(out, self._log_scale(node.name), zero_point)
        outputs = tuple(tensors[name] for name in self._graph.outputs)
        if len(outputs) == 1:
            return outputs[0]
        return outputs

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
            if rounded and not self._exact_weights:
                scale = weight.detach().abs().amax((1, 2, 3)).clamp_min(1e-9) / 127
                zeros = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
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
