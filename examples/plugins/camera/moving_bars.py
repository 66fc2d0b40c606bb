"""A camera for edge_isp: colour bars that move, at a rate of their own. It has nothing that can be set."""

from __future__ import annotations

import time

import numpy as np

from edge_isp import CameraBase, CameraError, RawFormat, RawFrame
from edge_isp.frame import Cfa, Packing


class MovingBars(CameraBase):
    """Eight bars of rising brightness.

    Args:
        size: of the frames, such as "640x480".
        fps: frames per second.
        frames: how many there are; None never ends.
    """

    def __init__(self, size: str = "640x480", *, fps: float = 30.0, frames: int | None = None) -> None:
        super().__init__(f"moving-bars:{size}")
        width, _, height = size.partition("x")
        if not (width.isdigit() and height.isdigit() and fps > 0):
            raise CameraError(f"{self.source}: expected a size such as 640x480 and fps above 0, found fps={fps}")
        self._format = RawFormat(int(width), int(height), Cfa.RGGB, 10, Packing.U16)
        self._period_ns, self._frames = round(1e9 / fps), frames
        self._next, self._start_ns = 0, time.monotonic_ns()

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """See `edge_isp.Camera.read`."""
        if self.closed.is_set() or self._next == self._frames:
            return None
        due_ns = self._start_ns + self._next * self._period_ns
        if self.closed.wait(max(0, due_ns - time.monotonic_ns()) / 1e9):
            return None
        number, self._next = self._next, self._next + 1
        x = (np.arange(self._format.width) + 4 * number) % self._format.width
        row = (64 + 8 * x // self._format.width * 120).astype("<u2")
        data = np.ascontiguousarray(np.broadcast_to(row, (self._format.height, len(row)))).view(np.uint8)
        levels = (64.0, 64.0, 64.0, 64.0)
        return RawFrame(data, self._format, self.source, number, due_ns, levels, 1023.0, colour_gains=(1.0, 1.0))
