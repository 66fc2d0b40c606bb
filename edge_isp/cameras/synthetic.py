"""A photograph, panned and zoomed through the forward sensor model, as a camera."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edge_isp.calibration.forward import Imperfections, SensorModel
from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.profile import SensorProfile, load_profile
from edge_isp.errors import CameraError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack

# The camera's way over the photograph, in seconds: there and back in x, in y, and in and out.
_PAN_PERIODS_S = (11.0, 7.0)
_ZOOM_PERIOD_S = 13.0
_ZOOM = 1.5


class SyntheticCamera:
    """Delivers CSI-2 packed frames of a moving view over a photograph, noise and all.

    Args:
        photo: path of an sRGB photograph.
        width, height: of the frames, in pixels, even.
        fps: frames a second. A frame that cannot be made in time is lost, as a slow reader loses a
            camera's: `sequence` leaves its number out and the next has `FrameStatus.GAP`. None delivers
            every frame as fast as it can be made.
        sensor: a profile, or the name of a shipped one.
        colour_temperature_k: of the light.
        analogue_gain: makes the noise.
        frames: how many to deliver; None goes on for ever.
        seed: of the noise. Frame i depends on the arguments and on i only.
        imperfections: whether to show what the profile knows of a real sensor and lens: shading, defective pixels,
            and so on; see `edge_isp.calibration.forward.Imperfections`.

    Raises:
        CameraError: the photograph cannot be read or is smaller than a frame.
        FormatError: the size is odd.
        ProfileError: there is no such profile, or it cannot be simulated.
    """

    def __init__(
        self,
        photo: str | Path,
        *,
        width: int = 640,
        height: int = 480,
        fps: float | None = 15.0,
        sensor: str | SensorProfile = "imx219",
        colour_temperature_k: float = 5700.0,
        analogue_gain: float = 1.0,
        frames: int | None = None,
        seed: int = 0,
        imperfections: bool = False,
    ) -> None:
        if fps is not None and not fps > 0:
            raise CameraError(f"synthetic camera: fps must be positive, found {fps}")
        if not analogue_gain >= 1:
            raise CameraError(f"synthetic camera: analogue_gain must be at least 1, found {analogue_gain}")
        profile = sensor if isinstance(sensor, SensorProfile) else load_profile(sensor)
        self._model = SensorModel(profile)
        packing = Packing.CSI2P if profile.bit_depth in (10, 12) else Packing.U16
        self.format = RawFormat(width, height, Cfa(profile.cfa), profile.bit_depth, packing)
        self._photo = _load(Path(photo), width, height)
        self._source = str(photo)
        self._fps, self._frames, self._seed = fps, frames, seed
        self._colour_temperature_k, self._analogue_gain = colour_temperature_k, analogue_gain
        self._imperfections = Imperfections(seed) if imperfections else None
        self._closed = threading.Event()
        self._next = 0
        self._start_ns: int | None = None

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """The next frame; see `Camera.read`."""
        if self._closed.is_set():
            return None
        index, timestamp_ns = self._schedule()
        if self._frames is not None and index >= self._frames:
            return None
        wait_s = (timestamp_ns - time.monotonic_ns()) / 1e9
        if timeout_s is not None and wait_s > timeout_s:
            self._closed.wait(timeout_s)
            raise CameraError(f"synthetic camera: no frame within {timeout_s} s")
        if wait_s > 0 and self._closed.wait(wait_s):
            return None
        status = FrameStatus.OK if index == self._next else FrameStatus.GAP
        self._next = index + 1
        return self._render(index, timestamp_ns, status)

    def close(self) -> None:
        """Ends the stream; a `read` that waits returns None."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _schedule(self) -> tuple[int, int]:
        """Number and time of the frame to deliver next: the newest that is due, or the one to come."""
        now = time.monotonic_ns()
        if self._start_ns is None:
            self._start_ns = now
        if self._fps is None:
            return self._next, now
        due = int((now - self._start_ns) * self._fps / 1e9)
        index = max(self._next, due)
        return index, self._start_ns + round(index * 1e9 / self._fps)

    def _render(self, index: int, timestamp_ns: int, status: FrameStatus) -> RawFrame:
        codes = self._model.codes(
            self._view(index / (self._fps or 30.0)),
            np.random.default_rng([self._seed, index]),
            colour_temperature_k=self._colour_temperature_k,
            analogue_gain=self._analogue_gain,
            imperfections=self._imperfections,
        )
        profile = self._model.profile
        drifted = self._imperfections is not None
        return RawFrame(
            data=pack(codes, packing=self.format.packing, bit_depth=self.format.bit_depth),
            format=self.format,
            source=self._source,
            sequence=index,
            timestamp_ns=timestamp_ns,
            black_level=profile.black_level_at(self._analogue_gain) if drifted else profile.black_level,
            white_level=profile.white_level,
            sensor=profile.name,
            analogue_gain=self._analogue_gain,
            colour_gains=profile.colour_gains(self._colour_temperature_k),
            colour_temperature_k=self._colour_temperature_k,
            status=status,
        )

    def _view(self, time_s: float) -> NDArray[np.float32]:
        """Linear light of the window that the camera sees at a time."""
        width, height = self.format.width, self.format.height
        widest = min(self._photo.width / width, self._photo.height / height)
        zoom = 1 + (_ZOOM - 1) * _swing(time_s, _ZOOM_PERIOD_S)
        scale = max(widest / zoom, min(1.0, widest))
        box_width, box_height = width * scale, height * scale
        x = (self._photo.width - box_width) * _swing(time_s, _PAN_PERIODS_S[0])
        y = (self._photo.height - box_height) * _swing(time_s, _PAN_PERIODS_S[1])
        box = (x, y, min(x + box_width, self._photo.width), min(y + box_height, self._photo.height))
        view = self._photo.resize((width, height), Image.Resampling.BICUBIC, box=box)
        return srgb_decode(np.asarray(view, np.float32) / np.float32(255)).astype(np.float32)


def _swing(time_s: float, period_s: float) -> float:
    """0 to 1 and back, smoothly, once a period."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * time_s / period_s)


def _load(path: Path, width: int, height: int) -> Image.Image:
    try:
        with Image.open(path) as image:
            photo = image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise CameraError(f"{path}: cannot be read as a photograph: {error}") from error
    if photo.width < width or photo.height < height:
        raise CameraError(f"{path}: must be at least {width}x{height} pixels, found {photo.width}x{photo.height}")
    return photo
