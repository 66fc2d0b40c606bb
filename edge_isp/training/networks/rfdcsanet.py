"""RFDCSANet: packed RAW to an RGB picture.

Zheng, Fan, Wu, Wu, Zhang: "Residual Feature Distillation Channel Spatial Attention Network for ISP on
Smartphone", ECCV Workshops 2022. The body of the paper leaves details open; what stands here is the
published structure (ECB, RFDB with CSA, head, long skip, tail) with ReLU, which int8 runtimes fuse, and an
image-space anchor: the input planes, replicated to where their colour belongs, are added to the output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_isp.training.networks.ecb import ECB

# The 12 output planes are the RGB values of the four pixels of a 2x2 cell, pixel by pixel:
# plane = (2 * y + x) * 3 + colour (depth-to-space as TensorFlow orders it).
PIXELS, COLOURS = 4, 3


class CSA(nn.Module):
    """Channel and spatial attention, side by side, on a residual.

    The channel gate comes from the mean over the picture (squeeze and excitation), the spatial gate from
    a 5x5 depthwise convolution of dilation 2 (CSANet, Hsyu et al., CVPR Workshops 2021).

    Args:
        channels: in and out.
        reduction: of the channel gate's inner channels.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)
        self.spatial = nn.Conv2d(channels, channels, 5, padding=4, dilation=2, groups=channels)
        self.spatial_mix = nn.Conv2d(channels, channels, 1)
        self.fuse = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = torch.mean(x, (2, 3), keepdim=True)
        channel_gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        spatial_gate = torch.sigmoid(self.spatial_mix(self.spatial(x)))
        return self.fuse(torch.cat([x * channel_gate, x * spatial_gate], 1)) + x


class RFDB(nn.Module):
    """Residual feature distillation block (Liu, Tang, Wu: "Residual Feature Distillation Network", ECCV
    Workshops 2020) with ECB for its convolutions and CSA instead of its attention.

    Args:
        channels: in and out, even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        distilled = channels // 2
        self.distil1 = nn.Conv2d(channels, distilled, 1)
        self.refine1 = ECB(channels, channels)
        self.distil2 = nn.Conv2d(channels, distilled, 1)
        self.refine2 = ECB(channels, channels)
        self.distil3 = nn.Conv2d(channels, distilled, 1)
        self.refine3 = ECB(channels, channels)
        self.distil4 = ECB(channels, distilled)
        self.fuse = nn.Conv2d(4 * distilled, channels, 1)
        self.attention = CSA(channels)

    def forward(self, x: Tensor) -> Tensor:
        refined1 = torch.relu(self.refine1(x) + x)
        refined2 = torch.relu(self.refine2(refined1) + refined1)
        refined3 = torch.relu(self.refine3(refined2) + refined2)
        distilled = torch.cat(
            [
                torch.relu(self.distil1(x)),
                torch.relu(self.distil2(refined1)),
                torch.relu(self.distil3(refined2)),
                torch.relu(self.distil4(refined3)),
            ],
            1,
        )
        out: Tensor = self.attention(self.fuse(distilled))
        return out


class RFDCSANet(nn.Module):
    """Packed RAW (batch, 4, height/2, width/2), planes R, Gr, Gb, B, white-balanced, in the square-root
    domain, 0 to 1; to 12 planes (batch, 12, height/2, width/2) of sRGB values, see `to_picture`.

    Args:
        channels: of the body.
        blocks: how many RFDBs.
    """

    def __init__(self, channels: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.head = ECB(4, channels)
        self.blocks = nn.ModuleList(RFDB(channels) for _ in range(blocks))
        self.fuse = nn.Conv2d(blocks * channels, channels, 1)
        self.body = ECB(channels, channels)
        self.tail = ECB(channels, PIXELS * COLOURS)
        self.anchor = nn.Conv2d(4, PIXELS * COLOURS, 1, bias=False)
        self.anchor.weight.requires_grad_(False)
        with torch.no_grad():
            self.anchor.weight.copy_(anchor_weight()[:, :, None, None])
            for parameter in self.tail.parameters():
                parameter.mul_(0.1)  # start at the anchor's picture

    def forward(self, x: Tensor) -> Tensor:
        head = torch.relu(self.head(x))
        outputs = []
        out = head
        for block in self.blocks:
            out = block(out)
            outputs.append(out)
        fused = torch.relu(self.fuse(torch.cat(outputs, 1)))
        planes: Tensor = self.tail(self.body(fused) + head) + self.anchor(x)
        return planes


def anchor_weight() -> Tensor:
    """(12, 4): each output plane is its colour in the 2x2 cell; green where the sensor has none is the
    mean of the cell's two greens."""
    weight = torch.zeros(PIXELS, COLOURS, 4)
    weight[:, 0, 0] = 1  # red
    weight[:, 2, 3] = 1  # blue
    weight[0, 1, 1:3] = 0.5
    weight[1, 1, 1] = 1  # Gr stands there
    weight[2, 1, 2] = 1  # Gb stands there
    weight[3, 1, 1:3] = 0.5
    return weight.reshape(PIXELS * COLOURS, 4)


def to_picture(planes: Tensor) -> Tensor:
    """12 planes (batch, 12, h, w) to RGB (batch, 3, 2h, 2w): depth-to-space, position-major.

    Args:
        planes: see `PIXELS`.
    """
    batch, _, height, width = planes.shape
    cells = planes.reshape(batch, 2, 2, COLOURS, height, width)
    return cells.permute(0, 3, 4, 1, 5, 2).reshape(batch, COLOURS, 2 * height, 2 * width)
