"""From a network's output to a picture: end to end, or calibrated.

End to end, the output is the picture. Calibrated, it is a residual in white-balanced camera colour; the colour matrix
and the transfer curve follow, as `kernels.residual` computes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_isp.kernels.residual_codes import (
    COARSE_STEP,
    FINE_SCALE,
    FINE_STEP,
    MALVAR_CELLS,
    RESIDUAL_SCALE,
    RESIDUAL_STEP,
    ROOT_WHITE,
)
from edge_isp.training.networks.rfdcsanet import to_picture
from edge_isp.training.quantisation.arithmetic import HIGHEST, UNIT_RANGE, Quantisation

# What an output of 1 adds to the square root of light.
RESIDUAL_UNIT = RESIDUAL_STEP / ROOT_WHITE / RESIDUAL_SCALE


@dataclass(frozen=True, slots=True)
class Colour:
    """How a network's output becomes a picture.

    Attributes:
        name: as the model's card has it.
        input_layout: as the card has it.
        output_layout: as the card has it.
        input_planes: of the network: 4 for the RAW alone, 8 for RAW and noise, 20 for both on cells of 4x4 pixels.
        output_planes: of the network.
        render: a network's output, the planes of a `Sample` and the colour matrices (batch, 3, 3) to sRGB
            (batch, 3, h, w).
        output: how the network's output is quantised.
        cell: side in pixels of the cells that the network computes on, 2 or 4.
    """

    name: str
    input_layout: str
    output_layout: str
    input_planes: int
    output_planes: int
    render: Callable[[Tensor, Tensor, Tensor], Tensor]
    output: Quantisation
    cell: int = 2

    def network_input(self, inputs: Tensor) -> Tensor:
        """What the network reads of the planes of a `Sample`.

        Cells of 4x4 pixels: plane 4 * p + 2 * y + x is the plane p (R, Gr, Gb, B) of the 2x2 cell (y, x) in it; the
        noise is that of the first.

        Args:
            inputs: (batch, 8, h, w) on cells of 2x2 pixels; for cells of 4x4, h and w are even.
        """
        if self.cell == 4:
            return torch.cat([F.pixel_unshuffle(inputs[:, :4], 2), inputs[:, 4:8, ::2, ::2]], 1)
        return inputs[:, : self.input_planes]


def end_to_end(output: Tensor, inputs: Tensor, matrix: Tensor) -> Tensor:
    """The 12 output planes as the picture that they are.

    Args:
        output: of the network: (batch, 12, h, w).
        inputs: of the network: (batch, planes, h, w).
        matrix: camera colour to linear sRGB: (batch, 3, 3).
    """
    del inputs, matrix
    return to_picture(output)


def calibrated(output: Tensor, inputs: Tensor, matrix: Tensor) -> Tensor:
    """Demosaicing plus residual, squared, through the colour matrix and the curve of sRGB.

    Args:
        output: of the network: (batch, 12, h, w).
        inputs: of the network: (batch, planes, h, w).
        matrix: camera colour to linear sRGB: (batch, 3, 3).
    """
    return _developed(output * RESIDUAL_UNIT + demosaiced(inputs[:, :4]), matrix)


def calibrated_in_two(output: Tensor, inputs: Tensor, matrix: Tensor) -> Tensor:
    """As `calibrated`, of a residual in fine and in coarse steps: the coarse planes count where the fine ones end.

    Args:
        output: of the network: (batch, 24, h, w).
        inputs: of the network: (batch, planes, h, w).
        matrix: camera colour to linear sRGB: (batch, 3, 3).
    """
    fine, coarse = output[:, :12], output[:, 12:]
    beyond = fine.abs() > (HIGHEST - 0.5) * FINE_SCALE
    return calibrated(torch.where(beyond, coarse * (COARSE_STEP / FINE_STEP), fine), inputs, matrix)


def calibrated_4x4(output: Tensor, inputs: Tensor, matrix: Tensor) -> Tensor:
    """As `calibrated`, of cells of 4x4 pixels: plane 4 * p + 2 * y + x is the plane p of 12 of the 2x2 cell (y, x).

    Args:
        output: of the network: (batch, 48, h / 2, w / 2).
        inputs: (batch, planes, h, w) on cells of 2x2 pixels.
        matrix: camera colour to linear sRGB: (batch, 3, 3).
    """
    return calibrated(F.pixel_shuffle(output, 2), inputs, matrix)


def without_anchor(output: Tensor, inputs: Tensor, matrix: Tensor) -> Tensor:
    """As `calibrated`, but the output is the whole colour: around a grey, since what is clipped at 0 learns nothing.

    Args:
        output: of the network: (batch, 12, h, w).
        inputs: of the network: (batch, planes, h, w).
        matrix: camera colour to linear sRGB: (batch, 3, 3).
    """
    del inputs
    return _developed(output + 0.5, matrix)


def _developed(roots: Tensor, matrix: Tensor) -> Tensor:
    linear = to_picture(roots).clamp(0, 1) ** 2
    return srgb(torch.einsum("bij,bjhw->bihw", matrix, linear))


def demosaiced(planes: Tensor) -> Tensor:
    """Malvar-He-Cutler demosaicing of the planes R, Gr, Gb, B to 12 planes; cells beyond the border repeat the last.

    Args:
        planes: (batch, 4, h, w).
    """
    kernel = torch.from_numpy(MALVAR_CELLS).to(planes) / 16
    return F.conv2d(F.pad(planes, (1, 1, 1, 1), mode="replicate"), kernel)


def srgb(linear: Tensor) -> Tensor:
    """Linear light to sRGB values, 0 to 1, clipped (IEC 61966-2-1).

    Args:
        linear: any shape.
    """
    x = linear.clamp(0, 1)
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


END_TO_END = Colour("end-to-end", "rggb", "planes12", 4, 12, end_to_end, UNIT_RANGE)
_RESIDUAL_RANGE = Quantisation(RESIDUAL_SCALE, 0)
CALIBRATED = Colour("calibrated", "rggb-noise", "residual12", 8, 12, calibrated, _RESIDUAL_RANGE)
CALIBRATED_IN_TWO = Colour(
    "calibrated", "rggb-noise", "residual24", 8, 24, calibrated_in_two, Quantisation(FINE_SCALE, 0)
)
CALIBRATED_4X4 = Colour("calibrated", "rggb4x4-noise", "residual48", 20, 48, calibrated_4x4, _RESIDUAL_RANGE, cell=4)
# For an ablation: what does the residual bring?
_AROUND_GREY = Quantisation(UNIT_RANGE.scale, 0)
WITHOUT_ANCHOR = Colour("calibrated-without-anchor", "rggb-noise", "planes12", 8, 12, without_anchor, _AROUND_GREY)
