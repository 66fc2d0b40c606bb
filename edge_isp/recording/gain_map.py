"""A frame's lens shading as GainMap opcodes of a DNG (Adobe DNG Specification 1.7, chapter 7).

A GainMap multiplies linear light by gains that are given at the points of a grid and are linear between them. A mosaic
has one for each of its four colour planes. The list's numbers are big-endian, whatever the file's are.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.frame_colour import colour_temperature_k
from edge_isp.calibration.profile import SensorProfile
from edge_isp.calibration.readout import sensor_window
from edge_isp.errors import ProfileError
from edge_isp.frame import RawFrame
from edge_isp.kernels.layout import CELL_PLANES, PLANE_COLOURS

_GAIN_MAP = 9
# A reader that does not know the opcode may pass it over; the opcode is of DNG 1.3.
_OPTIONAL = 1
_SINCE = (1, 3, 0, 0)

# Points of the grid: as many as the largest of libcamera's own tables has cells, and one more.
_ROWS, _COLUMNS = 33, 33


def gain_maps(frame: RawFrame, profile: SensorProfile | None) -> bytes:
    """The list of opcodes that corrects a frame's lens shading; b"" where the shading is not known.

    Args:
        frame: to correct; it has none where its `lens_shading` is False.
        profile: of its sensor, with `shading`; None where there is none.
    """
    if not frame.lens_shading or profile is None or profile.shading is None:
        return b""
    try:
        window = sensor_window(frame, profile)
    except ProfileError:  # nothing says which part of the sensor the frame shows
        return b""
    assert window.sensor_size is not None  # `sensor_window` has filled it in
    gains = profile.shading.gains_at(
        window.rows(np.linspace(0, 1, _ROWS)),
        window.columns(np.linspace(0, 1, _COLUMNS)),
        window.sensor_size,
        colour_temperature_k(frame, profile),
    )
    opcodes = [
        _opcode(frame, divmod(place, 2), gains[..., PLANE_COLOURS[plane]])
        for place, plane in enumerate(CELL_PLANES[frame.format.cfa])
    ]
    return struct.pack(">I", len(opcodes)) + b"".join(opcodes)


def _opcode(frame: RawFrame, place: tuple[int, int], gains: NDArray[np.floating[Any]]) -> bytes:
    """The GainMap of one place in the 2x2 cell; the grid's first and last points lie on the frame's edges."""
    height, width = frame.format.height, frame.format.width
    area = struct.pack(">8I", *place, height, width, 0, 1, 2, 2)  # top, left, bottom, right; planes; pitches
    grid = struct.pack(">2I4dI", _ROWS, _COLUMNS, 1 / (_ROWS - 1), 1 / (_COLUMNS - 1), 0.0, 0.0, 1)
    content = area + grid + gains.astype(">f4").tobytes()
    return struct.pack(">I4BII", _GAIN_MAP, *_SINCE, _OPTIONAL, len(content)) + content
