"""The picture without a network: demosaicing, colour matrix and tone curve, for what needs a picture to be seen on."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_isp.calibration.light import srgb_encode
from edge_isp.calibration.profile import SensorProfile
from edge_isp.frame import RawFrame
from edge_isp.kernels.demosaic import LINEAR_WHITE, TONE_ENTRIES, develop
from edge_isp.kernels.tables import encoding_table
from edge_isp.results import Picture
from edge_isp.tasks.colour import SensorProfiles, colour_matrix
from edge_isp.tasks.encoding import levels, white_balance


class ClassicalIsp:
    """Develops frames with `kernels.demosaic.develop`, Malvar-He-Cutler, in the colours of the sensor's profile.

    Args:
        profile: of the sensor; by default the shipped one of the frame's sensor; without one colours are off.
    """

    def __init__(self, profile: SensorProfile | None = None) -> None:
        self._profiles = SensorProfiles(profile)
        self._tone = np.rint(255 * srgb_encode(np.linspace(0, 1, TONE_ENTRIES))).astype(np.uint8)
        self._tables: Any = None
        self._tables_of: tuple[Any, ...] | None = None

    def develop(self, frame: RawFrame) -> Picture:
        """A frame's picture, of its size."""
        gains = white_balance(frame)
        key = (levels(frame), gains)
        if key != self._tables_of:
            self._tables_of = key
            self._tables = encoding_table(
                bit_depth=frame.format.bit_depth,
                black_level=frame.black_level,
                white_level=frame.white_level,
                gains=gains,
                curve="linear",
                scale=1 / LINEAR_WHITE,
                zero_point=0,
                dtype=np.uint16,
            )
        rgb = np.empty((frame.format.height, frame.format.width, 3), np.uint8)
        matrix = colour_matrix(frame, self._profiles.of(frame))
        develop(frame.data, rgb, frame.format.layout, tables=self._tables, matrix=matrix, tone=self._tone)
        return Picture(rgb, frame.source, frame.sequence, frame.timestamp_ns)
