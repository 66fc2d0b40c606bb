"""The picture without a network: demosaicing, colour matrix and tone curve, for example to draw detections on."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_isp.calibration.frame_colour import colour_matrix
from edge_isp.calibration.profile import SensorProfile, profile_of
from edge_isp.calibration.tone import check_tone, tone_curve, tone_table
from edge_isp.frame import RawFrame
from edge_isp.kernels.demosaic import LINEAR_WHITE, TONE_ENTRIES, develop
from edge_isp.kernels.tables import encoding_table
from edge_isp.orientation import upright_picture
from edge_isp.results import Picture
from edge_isp.tasks.encoding import darkening, levels, normalised_gains


class ClassicalIsp:
    """Develops frames with `kernels.demosaic.develop`, Malvar-He-Cutler, in the colours of the sensor's profile.

    Args:
        profile: of the sensor; None is the shipped profile of the frame's sensor. Without a profile colours are off.
        tone: see `IspTask`.

    Raises:
        ProfileError: there is no such tone.
    """

    def __init__(self, profile: SensorProfile | None = None, *, tone: str = "camera") -> None:
        check_tone(tone)
        self._profile, self._tone = profile, tone
        self._tables: Any = None
        self._tables_of: tuple[Any, ...] | None = None

    def develop(self, frame: RawFrame) -> Picture:
        """A frame's picture, of its size.

        Args:
            frame: with colour gains, see `metering.meter.complete_frame`.

        Raises:
            FormatError: it has none.
        """
        gains = normalised_gains(frame)
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
        profile = profile_of(frame.sensor, self._profile)
        develop(
            frame.data,
            rgb,
            frame.format.layout,
            tables=self._tables,
            matrix=colour_matrix(frame, profile),
            tone=tone_table(tone_curve(self._tone, profile), TONE_ENTRIES, darkening(frame)),
        )
        return Picture(upright_picture(rgb, frame.orientation), frame.source, frame.sequence, frame.timestamp_ns)
