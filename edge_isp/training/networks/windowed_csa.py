"""CSA whose channel gates come from fixed windows of the picture, so that tiles that begin with a window give what the
whole picture gives.

The published gates read the mean of the whole picture (`rfdcsanet.CSA`): the same place then looks different in a
tile, and the whole frame has to be there before a single pixel is finished.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A window is halved to one cell this many times: 16x16 cells.
HALVINGS = 4


def halving(channels: int) -> nn.Conv2d:
    """Means of 2x2 cells: a convolution whose weights stay; its first row and column are 0.

    int8 runtimes have no kernel for average pooling that is as fast.

    Args:
        channels: in and out.
    """
    convolution = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
    convolution.weight.requires_grad_(False)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[:, :, 1:, 1:] = 1 / 4
    return convolution


class WindowedCSA(nn.Module):
    """Channel and spatial attention, side by side, on a residual that is a part of the last convolution's weights.

    Height and width are multiples of a window's side, 2**HALVINGS.

    Args:
        channels: in and out.
        reduction: of the channel gate's inner channels.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.halvings = nn.ModuleList(halving(channels) for _ in range(HALVINGS))
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)
        self.spatial = nn.Conv2d(channels, channels, 5, padding=4, dilation=2, groups=channels)
        self.spatial_mix = nn.Conv2d(channels, channels, 1)
        # An addition of its own would round its summand to 8 bits.
        self.fuse = nn.Conv2d(3 * channels, channels, 1)
        with torch.no_grad():
            self.fuse.weight[:, -channels:] += torch.eye(channels)[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        mean = x
        for halve in self.halvings:
            mean = halve(mean)
        channel_gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        for _ in self.halvings:
            channel_gate = F.interpolate(channel_gate, scale_factor=2, mode="nearest")
        spatial_gate = torch.sigmoid(self.spatial_mix(self.spatial(x)))
        out: Tensor = self.fuse(torch.cat([x * channel_gate, x * spatial_gate, x], 1))
        return out


def with_merged_residual(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network with published CSA (`rfdcsanet.CSA`) as one with `WindowedCSA` has them.

    The addition becomes an identity in the weights of the convolution before it; weights of `halving` are the
    network's own.

    Args:
        weights: by name; those of a `WindowedCSA` are left as they are.
        own: the network's own, by name.
    """
    adapted = {name: value for name, value in own.items() if ".attention.halvings." in name}
    for name, value in weights.items():
        adapted[name] = value
        if name.endswith(".attention.fuse.weight") and value.shape[1] == 2 * value.shape[0]:
            adapted[name] = torch.cat([value, torch.eye(len(value))[:, :, None, None].to(value)], 1)
    return adapted
