"""Frames made by hand."""

from __future__ import annotations

import time

import numpy as np

from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame


def frame_of(sequence: int, *, status: FrameStatus = FrameStatus.OK) -> RawFrame:
    """A frame of 64x48 pixels, all of one value, taken now.

    Args:
        sequence: its number.
        status: what is wrong with it.
    """
    layout = RawFormat(64, 48, Cfa.RGGB, 10, Packing.U16)
    return RawFrame(
        data=np.full((layout.height, layout.stride), sequence % 4, np.uint8),
        format=layout,
        source="by hand",
        sequence=sequence,
        timestamp_ns=time.monotonic_ns(),
        black_level=(64.0,) * 4,
        white_level=1023.0,
        status=status,
    )
