"""RFDCSANet for calibrated colour: packed RAW and its noise to what a linear demosaicing gets wrong.

The network works in white-balanced camera colour, in the square-root domain, so that it need not know the sensor's
colour matrix: that is applied after it, exactly, by the kernels. What it puts out is a residual on Malvar-He-Cutler
demosaicing of its own input, twice as fine as 8 bits of the colour itself would be.

Of the published structure (see `rfdcsanet`) this keeps the re-parameterised edges and the distillation of features,
cut to what int8 runs fast: 32 channels, residual connections inside the merged convolutions. The attention is
replaced by the sensor's noise as a further input, which is what its gates would have had to guess.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge_isp.training.networks.ecb import ECB
from edge_isp.training.networks.rfdcsanet import COLOURS, PIXELS

# Planes R, Gr, Gb, B, then the noise of each.
INPUT_PLANES = 8


class DistillationBlock(nn.Module):
    """RFDB without attention: each refinement is preceded by a 1x1 convolution that distils a part of the features.

    Args:
        channels: in and out.
        distilled: channels of each part.
        refinements: 3x3 convolutions with a residual connection.
    """

    def __init__(self, channels: int, distilled: int, refinements: int) -> None:
        super().__init__()
        self.distil = nn.ModuleList(nn.Conv2d(channels, distilled, 1) for _ in range(refinements))
        self.refine = nn.ModuleList(ECB(channels, channels, identity=True) for _ in range(refinements))
        self.last = ECB(channels, distilled)
        self.fuse = nn.Conv2d((refinements + 1) * distilled, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for distil, refine in zip(self.distil, self.refine, strict=True):
            parts.append(torch.relu(distil(x)))
            x = torch.relu(refine(x))
        parts.append(torch.relu(self.last(x)))
        fused: Tensor = self.fuse(torch.cat(parts, 1))
        return fused


class CalibratedRFDCSANet(nn.Module):
    """(batch, 8, height/2, width/2): the planes R, Gr, Gb, B, white-balanced, in the square-root domain, 0 to 1, then
    the noise of each; to 12 planes of the residual, see `edge_isp.training.colour`.

    Args:
        channels, distilled, refinements: see `DistillationBlock`.
        blocks: how many of them, each with a residual connection.
    """

    def __init__(self, channels: int = 32, distilled: int = 16, refinements: int = 2, blocks: int = 1) -> None:
        super().__init__()
        self.head = ECB(INPUT_PLANES, channels)
        self.blocks = nn.ModuleList(DistillationBlock(channels, distilled, refinements) for _ in range(blocks))
        self.tail = ECB(channels, PIXELS * COLOURS)
        with torch.no_grad():
            for parameter in self.tail.parameters():
                parameter.mul_(0.1)  # start at the linear demosaicing's picture

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Takes over the weights of this network or of one with fewer blocks: further blocks start as identities.

        Raises:
            RuntimeError: they are another network's.
        """
        last = max((int(name.split(".")[1]) for name in weights if name.startswith("blocks.")), default=-1)
        with torch.no_grad():
            for block in self.blocks[last + 1 :]:
                assert isinstance(block, DistillationBlock)
                for parameter in block.fuse.parameters():
                    parameter.zero_()
        own = {name: value for name, value in self.state_dict().items() if name.startswith("blocks.")}
        self.load_state_dict({**own, **weights})

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.head(x))
        for block in self.blocks:
            out = torch.relu(block(out) + out)
        planes: Tensor = self.tail(out)
        return planes


class PlainNetwork(nn.Module):
    """The rival that RFDCSANet must beat at equal time: 3x3 convolutions, one after the other.

    Args:
        layers: between head and tail; the last one has a residual connection from the head.
        ecb: False for plain convolutions in the place of the re-parameterised ones.
    """

    def __init__(self, channels: int = 24, layers: int = 4, *, ecb: bool = True) -> None:
        super().__init__()

        def convolution(inputs: int, outputs: int) -> nn.Module:
            return ECB(inputs, outputs) if ecb else nn.Conv2d(inputs, outputs, 3, padding=1)

        self.head = convolution(INPUT_PLANES, channels)
        self.layers = nn.ModuleList(convolution(channels, channels) for _ in range(layers))
        self.tail = convolution(channels, PIXELS * COLOURS)
        with torch.no_grad():
            for parameter in self.tail.parameters():
                parameter.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        head = out = torch.relu(self.head(x))
        for layer in self.layers[:-1]:
            out = torch.relu(layer(out))
        planes: Tensor = self.tail(torch.relu(self.layers[-1](out) + head))
        return planes
