"""What a RAW frame says about the light: brightness and colours, zone by zone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_isp.frame import RawFrame
from edge_isp.kernels.statistics import statistics

# A frame is measured in this many zones down and across, and each zone in about this many rows of cells.
_ZONES = (3, 4)
_ROWS_IN_ZONE = 16
# A zone with more of its codes clipped, or with a darker mean, says nothing about colour.
_MOST_CLIPPED = 0.5
_DARK = 0.005


@dataclass(frozen=True, slots=True)
class Light:
    """What a frame says about the light.

    Attributes:
        green: mean of green, linear, 0 to 1; clipped codes count as white level.
        colours: float64 (zones, 2): natural logarithms of red over green and blue over green of the zones that are
            neither dark nor clipped.
    """

    green: float
    colours: NDArray[np.float64]


def measure(frame: RawFrame) -> Light:
    """The light of a frame, from the statistics of its zones.

    Args:
        frame: whose data is read.

    Raises:
        ValueError: the frame's bytes or levels do not fit its format.
    """
    layout, white = frame.format.layout, frame.white_level
    zones_high, zones_wide = min(_ZONES[0], layout.height // 2), min(_ZONES[1], layout.width // 2)
    cells_high, cells_wide = layout.height // 2 // zones_high, layout.width // 2 // zones_wide
    black = np.array(frame.black_level)
    greens, colours = [], []
    for zone in range(zones_high * zones_wide):
        row, column = divmod(zone, zones_wide)
        seen = statistics(
            frame.data,
            replace(
                layout,
                width=2 * cells_wide,
                height=2 * cells_high,
                left=2 * cells_wide * column,
                top=2 * cells_high * row,
            ),
            step=max(1, cells_high // _ROWS_IN_ZONE),
            black_level=frame.black_level,
            white_level=white,
        )
        light = (np.array(seen.means) - black) / (white - black)
        greens.append((light[1] + light[2]) / 2)
        if max(seen.clipped) < _MOST_CLIPPED and light.min() > _DARK:
            red, blue = seen.grey_world_gains
            colours.append((-math.log(red), -math.log(blue)))
    return Light(float(np.mean(greens)), np.array(colours).reshape(-1, 2))
