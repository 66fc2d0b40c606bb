"""What a user gets out of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture made from one RAW frame.

    Attributes:
        rgb: uint8 (height, width, 3), sRGB; belongs to whoever holds it.
        source, sequence, timestamp_ns: of the frame, see `RawFrame`.
    """

    rgb: NDArray[np.uint8]
    source: str
    sequence: int
    timestamp_ns: int
