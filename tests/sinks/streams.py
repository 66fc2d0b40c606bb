"""Results with pictures that move, for tests of videos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_isp.results import FrameResult
from edge_isp.testing.sink import picture_result

PERIOD_NS = 33_333_333


def moving_result(number: int, *, timestamp_ns: int | None = None, size: tuple[int, int] = (128, 96)) -> FrameResult:
    """A bright block on a ramp, eight pixels farther with each number."""
    width, height = size
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[...] = np.linspace(16, 120, width).astype(np.uint8)[None, :, None]
    left = 8 * number % (width - 16)
    rgb[height // 4 : height // 2, left : left + 16] = (240, 200, 60)
    stamp = 5_000_000_000 + number * PERIOD_NS if timestamp_ns is None else timestamp_ns
    made = picture_result(number)
    picture = replace(made.picture, rgb=rgb, timestamp_ns=stamp)
    return replace(made, result=picture, timestamp_ns=stamp)


def replace_picture(result: FrameResult, rgb: NDArray[np.uint8]) -> FrameResult:
    """The result with other pixels."""
    return replace(result, result=replace(result.picture, rgb=rgb))
