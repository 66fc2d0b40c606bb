"""Brightness and contrast of the pictures that are shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import srgb_decode, srgb_encode
from edge_isp.results import Picture


@dataclass(frozen=True, slots=True)
class Tone:
    """What is done to each picture before it is shown; results and recordings stay as they are.

    Attributes:
        brightness_ev: factor on the linear light, in stops, -4 to 4.
        contrast: -1 to 1; 0 leaves the picture as it is, 1 doubles the slope at mid-grey.
    """

    brightness_ev: float = 0.0
    contrast: float = 0.0

    def apply(self, picture: Picture) -> Picture:
        """A picture in this tone; the picture itself where nothing is to be changed.

        Args:
            picture: it is not changed.
        """
        if self == Tone():
            return picture
        rgb = np.take(_table(self), picture.rgb)
        return replace(picture, rgb=rgb)


@lru_cache(maxsize=4)
def _table(tone: Tone) -> NDArray[np.uint8]:
    light = np.clip(srgb_decode(np.linspace(0, 1, 256)) * 2**tone.brightness_ev, 0, 1)
    value = srgb_encode(light)
    slope = 2**tone.contrast
    # x^k / (x^k + (1 - x)^k): black, mid-grey and white stay where they are, the slope at mid-grey is k.
    up, down = value**slope, (1 - value) ** slope
    return np.rint(255 * up / (up + down)).astype(np.uint8)
