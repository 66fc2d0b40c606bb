"""RFDCSANet for calibrated colour: packed RAW and its noise to what a linear demosaicing gets wrong.

The network works in white-balanced camera colour, in the square-root domain, so that it need not know the sensor's
colour matrix: that is applied after it, exactly, by the kernels. What it puts out is a residual on Malvar-He-Cutler
demosaicing of its own input, twice as fine as 8 bits of the colour itself would be.

Of the published structure (see `rfdcsanet`) this keeps the re-parameterised edges and the distillation of features,
cut to what int8 runs fast: residual connections inside the merged convolutions, cells of 2x2 or of 4x4 pixels, and the
attention (CSA) only where it is asked for, with gates from fixed windows, so that tiles give what the whole frame
gives. The sensor's noise is a further input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from edge_isp.kernels.residual_codes import COARSE_STEP, FINE_STEP
from edge_isp.training.networks.ecb import ECB
from edge_isp.training.networks.rfdcsanet import COLOURS, PIXELS
from edge_isp.training.networks.windowed_csa import WindowedCSA, with_merged_residual

# Planes R, Gr, Gb, B, then the noise of each.
INPUT_PLANES = 8

# Of cells of 4x4 pixels: the four planes of each of the four 2x2 cells, then the noise of the four planes.
INPUT_PLANES_4X4 = 20
OUTPUT_PLANES_4X4 = 4 * PIXELS * COLOURS

# Of a residual in fine and in coarse steps, see `edge_isp.kernels.residual`: first the fine planes.
OUTPUT_PLANES_IN_TWO = 2 * PIXELS * COLOURS

# Channels in, channels out, whether the input is passed on as well: to a 3x3 convolution.
Convolution = Callable[[int, int, bool], nn.Module]


def edges(inputs: int, outputs: int, identity: bool) -> nn.Module:
    """An ECB.

    Args:
        inputs: channels.
        outputs: channels.
        identity: whether the input is passed on as well.
    """
    return ECB(inputs, outputs, identity=identity)


class DistillationBlock(nn.Module):
    """RFDB without attention: each refinement is preceded by a 1x1 convolution that distils a part of the features.

    A last 1x1 convolution puts the parts together, and the block's input with them: the residual connection is a part
    of its weights. An addition of its own would round its summand to 8 bits; that cost 2 dB.

    Args:
        channels: in and out.
        distilled: channels of each part.
        refinements: 3x3 convolutions with a residual connection.
        convolution: makes the 3x3 convolutions.
        attention: makes what follows of the channels (CSA); None for nothing.
    """

    def __init__(
        self,
        channels: int,
        distilled: int,
        refinements: int,
        convolution: Convolution,
        *,
        attention: Callable[[int], nn.Module] | None,
    ) -> None:
        super().__init__()
        self.distil = nn.ModuleList(nn.Conv2d(channels, distilled, 1) for _ in range(refinements))
        self.refine = nn.ModuleList(convolution(channels, channels, True) for _ in range(refinements))
        self.last = convolution(channels, distilled, False)
        self.fuse = nn.Conv2d((refinements + 1) * distilled + channels, channels, 1)
        with torch.no_grad():
            self.fuse.weight[:, -channels:] += torch.eye(channels)[:, :, None, None]
        self.attention = attention(channels) if attention is not None else None

    def forward(self, x: Tensor) -> Tensor:
        parts, refined = [], x
        for distil, refine in zip(self.distil, self.refine, strict=True):
            parts.append(torch.relu(distil(refined)))
            refined = torch.relu(refine(refined))
        parts.append(torch.relu(self.last(refined)))
        fused: Tensor = self.fuse(torch.cat([*parts, x], 1))
        return torch.relu(fused if self.attention is None else self.attention(fused))

    def rectified(self) -> Iterator[nn.Module]:
        """The convolutions that a ReLU follows."""
        for distil, refine in zip(self.distil, self.refine, strict=True):
            yield distil
            yield refine
        yield self.last
        if self.attention is None:
            yield self.fuse

    @torch.no_grad()
    def become_identity(self) -> None:
        """Sets the weights so that what comes in, being positive, goes out again."""
        channels = len(self.fuse.weight)
        self.fuse.weight.zero_()
        self.fuse.weight[:, -channels:] = torch.eye(channels)[:, :, None, None]
        assert self.fuse.bias is not None
        self.fuse.bias.zero_()


class CalibratedRFDCSANet(nn.Module):
    """(batch, 8, height/2, width/2): the planes R, Gr, Gb, B, white-balanced, in the square-root domain, 0 to 1, then
    the noise of each; to 12 planes of the residual, see `edge_isp.training.isp.colour`. On cells of 4x4 pixels:
    (batch, 20, height/4, width/4) to 48 planes.

    Args:
        channels: see `DistillationBlock`.
        distilled: see `DistillationBlock`.
        refinements: see `DistillationBlock`.
        convolution: see `DistillationBlock`.
        attention: see `DistillationBlock`.
        blocks: how many of them.
        inputs: planes; 4 where the noise is left out.
        outputs: planes.
    """

    def __init__(
        self,
        channels: int = 32,
        distilled: int = 16,
        refinements: int = 2,
        blocks: int = 1,
        *,
        inputs: int = INPUT_PLANES,
        outputs: int = PIXELS * COLOURS,
        convolution: Convolution = edges,
        attention: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.head = convolution(inputs, channels, False)
        self.blocks = nn.ModuleList(
            DistillationBlock(channels, distilled, refinements, convolution, attention=attention) for _ in range(blocks)
        )
        self.tail = convolution(channels, outputs, False)
        with torch.no_grad():
            for parameter in self.tail.parameters():
                parameter.mul_(0.1)  # start at the linear demosaicing's picture

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Takes over the weights of this network or of one with fewer blocks: further blocks start as identities.

        Weights on cells of 4x4 pixels may have been trained inside a module that rearranges cells, as its "net"; those
        of a CSA may be the published one's; those of the output planes may be without coarse ones.

        Args:
            weights: by name, as in `state_dict`.

        Raises:
            RuntimeError: they are another network's.
        """
        weights = {name.removeprefix("net."): value for name, value in weights.items()}
        if any(isinstance(module, WindowedCSA) for module in self.modules()):
            weights = with_merged_residual(weights, self.state_dict())
        own_tail, tail = (of.get("tail.plain.bias") for of in (self.state_dict(), weights))
        if own_tail is not None and tail is not None and len(own_tail) == 2 * len(tail):
            weights |= with_coarse_planes(weights)
        last = max((int(name.split(".")[1]) for name in weights if name.startswith("blocks.")), default=-1)
        for block in self.blocks[last + 1 :]:
            assert isinstance(block, DistillationBlock)
            block.become_identity()
        own = {name: value for name, value in self.state_dict().items() if name.startswith("blocks.")}
        self.load_state_dict({**own, **weights})

    def rectified(self) -> Iterator[nn.Module]:
        """The convolutions that a ReLU follows."""
        yield self.head
        for block in self.blocks:
            assert isinstance(block, DistillationBlock)
            yield from block.rectified()

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.head(x))
        for block in self.blocks:
            out = block(out)
        planes: Tensor = self.tail(out)
        return planes


def with_coarse_planes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a tail (an ECB) that gives a residual as those of one that gives it in fine and in coarse planes.

    Args:
        weights: by name, as in `state_dict`.
    """
    ratio = FINE_STEP / COARSE_STEP
    twice = {}
    for name, value in weights.items():
        if not name.startswith("tail."):
            continue
        if name == "tail.squeeze.weight":  # each half reads its own middle channels
            none = torch.zeros_like(value)
            twice[name] = torch.cat([torch.cat([value, none], 1), torch.cat([none, ratio * value], 1)])
        else:
            inner = "pointwise" in name or "expand" in name
            twice[name] = torch.cat([value, value if inner else ratio * value])
    return twice


class PlainNetwork(nn.Module):
    """The baseline that RFDCSANet is compared with at equal time: ECBs, one after the other.

    The last one has a residual connection from the head.

    Args:
        channels: of each layer.
        layers: between head and tail.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.head = ECB(INPUT_PLANES, channels)
        self.layers = nn.ModuleList(ECB(channels, channels) for _ in range(layers))
        self.tail = ECB(channels, PIXELS * COLOURS)
        with torch.no_grad():
            for parameter in self.tail.parameters():
                parameter.mul_(0.1)

    def rectified(self) -> Iterator[nn.Module]:
        """The convolutions that a ReLU follows; not the last one, whose output is added to the head's before."""
        yield self.head
        yield from self.layers[:-1]

    def forward(self, x: Tensor) -> Tensor:
        head = out = torch.relu(self.head(x))
        for layer in self.layers[:-1]:
            out = torch.relu(layer(out))
        planes: Tensor = self.tail(torch.relu(self.layers[-1](out) + head))
        return planes


class PlainConvolution(nn.Module):
    """A 3x3 convolution instead of an ECB; see `Convolution`.

    Args:
        inputs: channels.
        outputs: channels.
        identity: whether the input is added to the output.
    """

    def __init__(self, inputs: int, outputs: int, identity: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.identity = identity

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convolution(x)
        return out + x if self.identity else out
