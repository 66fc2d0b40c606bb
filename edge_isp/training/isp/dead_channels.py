"""Reinitialisation of dead channels of a network in training."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Rectified(Protocol):
    """A network that knows which of its convolutions a ReLU follows."""

    def rectified(self) -> Iterable[nn.Module]:
        """Those convolutions (plain, or ECBs), in the order in which they run."""
        ...


@torch.no_grad()
def reinitialise_dead_channels(network: nn.Module, x: Tensor) -> int:
    """Draws the weights of dead channels again; returns how many there were.

    A channel that its ReLU holds at 0 everywhere has no gradient and stays so. Most are born dead: inputs are never
    negative, so that the half of all kernels with a negative sum are negative nearly everywhere. The new bias puts the
    channel's mean over `x` at 0. A network that does not know its `rectified` convolutions is left as it is.

    Args:
        network: is changed in place.
        x: a batch of its inputs.
    """
    convolutions = list(network.rectified()) if isinstance(network, Rectified) else []
    if not convolutions:
        return 0
    reinitialised = 0

    def draw_dead_again(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        nonlocal reinitialised
        dead = output.amax((0, 2, 3)) <= 0
        if not dead.any():
            return None
        reinitialised += int(dead.sum())
        _draw_again(module, dead)
        _own_bias(module, len(dead))[dead] -= module.forward(*inputs).mean((0, 2, 3))[dead]
        drawn: Tensor = module.forward(*inputs)
        return drawn

    hooks = [module.register_forward_hook(draw_dead_again) for module in convolutions]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return reinitialised


def _draw_again(module: nn.Module, channels: Tensor) -> None:
    """Initialises what belongs to some output channels alone (an ECB's inner convolution belongs to all of them)."""
    fresh = copy.deepcopy(module)
    for part in fresh.modules():
        if isinstance(part, nn.Conv2d):
            part.reset_parameters()
    for parameter, new in zip(module.parameters(), fresh.parameters(), strict=True):
        if len(parameter) == len(channels):
            parameter[channels] = new[channels]


def _own_bias(module: nn.Module, channels: int) -> Tensor:
    return next(p for p in module.parameters() if p.shape == (channels,))
