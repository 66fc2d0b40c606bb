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
from PIL import Image

from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.profile import SensorProfile, load_profile
from edge_isp.calibration.simulation import Imperfections, SensorModel
from edge_isp.cameras.base import ControlLimits
from edge_isp.cameras.faults import Corrupt, ExposureChange, FaultScript, Late, Truncate
from edge_isp.cameras.photo import load_photo
from edge_isp.errors import CameraDisconnectedError, CameraError, CameraTimeoutError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack

# The camera's way over the photograph, in seconds: there and back in x, in y, and in and out.
_PAN_PERIODS_S = (11.0, 7.0)
_ZOOM_PERIOD_S = 13.0
_ZOOM = 1.5

# Frames from the one that was read last to the one where a new setting shows, as with Sony's sensors: the next
# frame is being exposed already, but can still be amplified otherwise.
_DELAYS = {"exposure_ns": 2, "analogue_gain": 1}
# Exposures of the sensor that is simulated: shortest, and at the start.
_SHORTEST_EXPOSURE_NS = 20_000
_FIRST_EXPOSURE_NS = 10_000_000
_GREATEST_GAIN = 16.0


class SyntheticCamera:
    """Delivers CSI-2 packed frames of a moving view over a photograph, noise and all.

    Args:
        photo: path of an sRGB photograph.
        width, height: of the frames, in pixels, even.
        fps: frames a second. A frame that cannot be made in time is lost, as a slow reader loses a
            camera's: `sequence` leaves its number out and the next has `FrameStatus.GAP`. None delivers
            every frame as fast as it can be made.
        sensor: a profile, or the name of a shipped one.
        colour_temperature_k: of the light; see also `illuminate`.
        analogue_gain: at the start; it makes the noise. The scene is lit so that this gain and the first exposure
            (10 ms, or the frame period) bring its white to white level.
        frames: how many to deliver; None goes on for ever.
        seed: of the noise. Frame i depends on the arguments, on i, and on what was asked of `control` and
            `illuminate` before it.
        imperfections: whether to show what the profile knows of a real sensor and lens: shading, defective pixels,
            and so on; see `edge_isp.calibration.simulation.Imperfections`.
        faults: what goes wrong, frame by frame; see `edge_isp.testing.FaultScript`.

    Attributes:
        live: whether frames come in their own time, see `Camera`.

    Raises:
        CameraDisconnectedError: by its script the camera is away.
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
        faults: FaultScript | None = None,
    ) -> None:
        if fps is not None and not fps > 0:
            raise CameraError(f"synthetic camera: fps must be positive, found {fps}")
        if not analogue_gain >= 1:
            raise CameraError(f"synthetic camera: analogue_gain must be at least 1, found {analogue_gain}")
        self._faults = faults or FaultScript(())
        if self._faults.opening_fails():
            raise CameraDisconnectedError("synthetic camera: it is away, as its script says; open it again")
        profile = sensor if isinstance(sensor, SensorProfile) else load_profile(sensor)
        self._model = SensorModel(profile)
        packing = Packing.CSI2P if profile.bit_depth in (10, 12) else Packing.U16
        self.format = RawFormat(width, height, Cfa(profile.cfa), profile.bit_depth, packing)
        self._photo = load_photo(Path(photo), width, height)
        self._source = str(photo)
        self._fps, self._frames, self._seed = fps, frames, seed
        self.live = fps is not None
        self._imperfections = Imperfections(seed) if imperfections else None
        self._colour_temperature_k, self._light = colour_temperature_k, 1.0
        period_ns = round(1e9 / (fps or 30.0))
        self._limits = ControlLimits((_SHORTEST_EXPOSURE_NS, period_ns), (1.0, max(_GREATEST_GAIN, analogue_gain)))
        self._settings: dict[str, float] = {
            "exposure_ns": min(_FIRST_EXPOSURE_NS, period_ns),
            "analogue_gain": analogue_gain,
        }
        self._first_exposure = math.prod(self._settings.values())
        self._changes: list[tuple[int, str, float]] = []  # from which frame on, what, its value
        self._closed = threading.Event()
        self._connected = True
        self._next = self._faults.next_frame
        self._first = self._next  # its time is that of the first `read`
        self._start_ns: int | None = None
        self._last: RawFrame | None = None

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """The next frame; see `Camera.read`.

        Raises:
            CameraTimeoutError: there is none within `timeout_s`.
            CameraDisconnectedError: the camera is gone, as its script says.
        """
        if self._closed.is_set():
            return None
        self._check_connected()
        index, timestamp_ns = self._schedule()
        while self._faults.dropped(index):
            index += 1
            timestamp_ns += round(1e9 / self._fps) if self._fps else 0
        if self._frames is not None and index >= self._frames:
            return None
        faults = self._faults.of(index)
        due_ns = timestamp_ns + sum(fault.delay_ns for fault in faults if isinstance(fault, Late))
        wait_s = (due_ns - time.monotonic_ns()) / 1e9
        if timeout_s is not None and wait_s > timeout_s:
            self._closed.wait(timeout_s)
            if self._closed.is_set():
                return None
            raise CameraTimeoutError(f"synthetic camera: no frame within {timeout_s} s")
        if wait_s > 0 and self._closed.wait(wait_s):
            return None
        if self._faults.disconnects(index):
            self._connected = False
            self._faults.next_frame = index
            self._check_connected()
        status = FrameStatus.OK if index == self._next else FrameStatus.GAP
        timestamp_ns += self._faults.offset_ns(index)
        if self._last is not None and timestamp_ns <= self._last.timestamp_ns:
            status |= FrameStatus.BAD_TIMESTAMP
        self._next = index + 1
        self._last = self._render(index, timestamp_ns, status)
        return self._last

    @property
    def limits(self) -> ControlLimits:
        """Exposures up to the frame period (1/30 s where there is none), gains up to 16; see `Camera.limits`."""
        return self._limits

    def control(
        self,
        *,
        exposure_ns: int | None = None,
        analogue_gain: float | None = None,
        fps: float | None = None,
        colour_gains: tuple[float, float] | None = None,
        auto_exposure: bool | None = None,
        auto_white_balance: bool | None = None,
    ) -> None:
        """Sets exposure and gain, of the second and of the first frame after the one read last; see `Camera.control`.

        Raises:
            CameraError: anything else is asked for, or a value is out of `limits`.
        """
        self._check_connected()
        if any(setting is not None for setting in (fps, colour_gains, auto_exposure, auto_white_balance)):
            raise CameraError("synthetic camera: only exposure_ns and analogue_gain can be set")
        asked = {"exposure_ns": exposure_ns, "analogue_gain": analogue_gain}
        changes = [(self._next - 1 + _DELAYS[name], name, value) for name, value in asked.items() if value is not None]
        self._limits.check(exposure_ns=exposure_ns, analogue_gain=analogue_gain)
        self._changes += changes

    def illuminate(self, *, light: float | None = None, colour_temperature_k: float | None = None) -> None:
        """Changes the light on the scene, from the next frame on.

        Args:
            light: how much of it, over that at the start.
            colour_temperature_k: its colour temperature.
        """
        if light is not None:
            self._light = light
        if colour_temperature_k is not None:
            self._colour_temperature_k = colour_temperature_k

    def close(self) -> None:
        """Ends the stream; a `read` that waits returns None."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_connected(self) -> None:
        if not self._connected:
            raise CameraDisconnectedError(
                "synthetic camera: it is gone, as its script says; close it, and open it again with the same script"
            )

    def _schedule(self) -> tuple[int, int]:
        """Number and time of the frame to deliver next: the newest that is due, or the one to come."""
        now = time.monotonic_ns()
        if self._start_ns is None:
            self._start_ns = now
        if self._fps is None:
            return self._next, now
        due = self._first + int((now - self._start_ns) * self._fps / 1e9)
        index = max(self._next, due)
        return index, self._start_ns + round((index - self._first) * 1e9 / self._fps)

    def _render(self, index: int, timestamp_ns: int, status: FrameStatus) -> RawFrame:
        settings = self._settings
        settings.update({name: value for start, name, value in self._changes if start <= index})
        self._changes = [change for change in self._changes if change[0] > index]
        faults = self._faults.of(index)
        for fault in faults:
            if isinstance(fault, ExposureChange):
                asked = {"exposure_ns": fault.exposure_ns, "analogue_gain": fault.analogue_gain}
                settings.update({name: value for name, value in asked.items() if value is not None})
        codes = self._model.codes(
            self._view(index / (self._fps or 30.0)),
            np.random.default_rng([self._seed, index]),
            colour_temperature_k=self._colour_temperature_k,
            exposure=self._light * math.prod(settings.values()) / self._first_exposure,
            analogue_gain=settings["analogue_gain"],
            imperfections=self._imperfections,
        )
        data = pack(codes, packing=self.format.packing, bit_depth=self.format.bit_depth)
        for fault in faults:
            if isinstance(fault, Truncate):
                rest = slice(fault.size_bytes, None)
                data.reshape(-1)[rest] = 0 if self._last is None else self._last.data.reshape(-1)[rest]
                status |= FrameStatus.TRUNCATED
            elif isinstance(fault, Corrupt):
                rows = slice(len(data) // 3, 2 * len(data) // 3)
                data[rows] = np.random.default_rng([self._seed, index, 1]).integers(0, 256, data[rows].shape, np.uint8)
                status |= FrameStatus.CORRUPTED
        profile = self._model.profile
        drifted = self._imperfections is not None
        return RawFrame(
            data=data,
            format=self.format,
            source=self._source,
            sequence=index,
            timestamp_ns=timestamp_ns,
            black_level=profile.black_level_at(settings["analogue_gain"]) if drifted else profile.black_level,
            white_level=profile.white_level,
            sensor=profile.name,
            exposure_ns=round(settings["exposure_ns"]),
            analogue_gain=settings["analogue_gain"],
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
