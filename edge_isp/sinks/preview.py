"""Small pictures of RAW frames at a rate of their own, made in a thread that nothing waits for."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import EdgeIspError
from edge_isp.frame import RawFrame
from edge_isp.frame_check import check_frame
from edge_isp.metering.meter import FrameMeter
from edge_isp.tasks.classical import ClassicalIsp

_log = logging.getLogger(__name__)

# The long side of a preview, in pixels, and its JPEG quality.
LONG_SIDE = 640
_QUALITY = 75


def preview_scale(width: int, height: int) -> float:
    """How much smaller a preview is than its frame, at most 1.

    Args:
        width: of the frame, in pixels.
        height: of the frame, in pixels.
    """
    return min(1.0, LONG_SIDE / max(width, height))


class Previewer:
    """Makes previews.

    Args:
        fps: at most, of each camera; 0 makes none.
        profile: of the sensor; None is the shipped profile of the frames' sensor.
        made: called with each preview, as `foxglove.CompressedImage` has it but for its time, with the frame's time
            stamp and the camera's name.
    """

    def __init__(
        self, fps: float, profile: SensorProfile | None, made: Callable[[dict[str, Any], int, str], object]
    ) -> None:
        self._period_ns = round(1e9 / fps) if fps else None
        self._made = made
        self._meter, self._developer = FrameMeter(profile), ClassicalIsp(profile)
        self._changed = threading.Condition()
        self._waiting: tuple[RawFrame, str] | None = None
        self._next_ns: dict[str, int] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._make_all, name="preview", daemon=True)
        self._thread.start()

    def offer(self, frame: RawFrame, camera: str) -> None:
        """Takes a copy of a frame, if it is time for a preview and none is being made.

        Args:
            frame: as the camera gave it.
            camera: its name.
        """
        now = time.monotonic_ns()
        if self._period_ns is None or now < self._next_ns.get(camera, 0) or self._waiting is not None:
            return
        frame, unusable = check_frame(frame)
        if any(each.name in ("data", "black_level") for each in unusable):
            return
        self._next_ns[camera] = now + self._period_ns
        with self._changed:
            self._waiting = frame.copy(), camera
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread after the present preview. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5.0)

    def _make_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                if self._waiting is None:
                    return
                frame, camera = self._waiting
            try:
                self._made(self._preview(frame, camera), int(frame.timestamp_ns), camera)
            except EdgeIspError as error:
                _log.warning("no preview: %s", error)
            with self._changed:
                self._waiting = None

    def _preview(self, frame: RawFrame, camera: str) -> dict[str, Any]:
        picture = self._developer.develop(self._meter.complete(frame))
        scale = preview_scale(frame.format.width, frame.format.height)
        image = Image.fromarray(picture.rgb)
        if scale < 1:
            image = image.resize(
                (max(round(image.width * scale), 1), max(round(image.height * scale), 1)), reducing_gap=1.0
            )
        return {
            "frame_id": camera,
            "format": "jpeg",
            "data": base64.b64encode(replace(picture, rgb=np.asarray(image)).jpeg(_QUALITY)).decode("ascii"),
        }
