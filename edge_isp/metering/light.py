"""What a RAW frame says about the light: the brightness, the colours and the noise of its blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.frame import RawFrame
from edge_isp.kernels.blocks import block_statistics

# Light from this share of the range on counts as clipped: its colour is lost.
_CLIPPED = 0.98
# Blocks are averaged side by side to at most this many across, so that large frames cost no more than small ones.
_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class Light:
    """What a frame says about the light.

    Attributes:
        green: mean of green, linear, 0 to 1; clipped codes count as what they are.
        colours: float64 (rows, columns, 3): mean red, green and blue of blocks, linear, 0 to 1.
        clipped: bool (rows, columns): whether a code of the block is clipped, so that its colour is lost.
        noise_light: float64 (n,): mean green of the smaller blocks that the noise is measured in, linear.
        noise: float64 (n,): variance of green in them, of linear light; detail adds to it.
    """

    green: float
    colours: NDArray[np.float64]
    clipped: NDArray[np.bool_]
    noise_light: NDArray[np.float64]
    noise: NDArray[np.float64]


def measure(frame: RawFrame) -> Light:
    """The light of a frame, from the statistics of its blocks.

    Args:
        frame: whose data is read.

    Raises:
        ValueError: the frame's bytes or levels do not fit its format.
    """
    black, white = np.asarray(frame.black_level, np.float64), frame.white_level
    if black.shape != (4,) or not np.all(black < white):
        raise ValueError(f"black_level must be four codes below white_level {white}, found {frame.black_level}")
    seen = block_statistics(frame.data, frame.format.layout, limits=tuple(black + _CLIPPED * (white - black)))
    light = (seen.means - black) / (white - black)
    green = (light[..., 1] + light[..., 2]) / 2
    colours = np.stack([light[..., 0], green, light[..., 3]], axis=-1)
    clipped = seen.clipped > 0
    scale = (2 * white - black[1] - black[2]) / 2
    measured = ~clipped & np.isfinite(seen.noise)
    return Light(
        green=float(green.mean()),
        colours=_side_by_side(colours),
        clipped=_side_by_side(clipped[..., None].astype(np.float64))[..., 0] > 0,
        noise_light=green[measured],
        noise=seen.noise[measured] / scale**2,
    )


def _side_by_side(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows, columns, channels), averaged side by side to at most `_COLUMNS`; what is left at the right is left out."""
    rows, columns, channels = blocks.shape
    group = -(-columns // _COLUMNS)
    kept = blocks[:, : columns // group * group]
    averaged: NDArray[np.float64] = kept.reshape(rows, columns // group, group, channels).mean(axis=2)
    return averaged
