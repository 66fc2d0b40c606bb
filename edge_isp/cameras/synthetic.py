"""A photograph, panned and zoomed in front of a simulated sensor, as a camera."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from edge_isp.calibration.profile import SensorProfile, load_profile
from edge_isp.calibration.simulation import Imperfections
from edge_isp.cameras.base import CameraBase, ControlLimits, Controls
from edge_isp.cameras.delayed_controls import DELAYS, DelayedControls
from edge_isp.cameras.faults import Corrupt, ExposureChange, Fault, FaultScript, Late, Truncate
from edge_isp.cameras.scene import SceneRenderer, load_scene
from edge_isp.corrections import Origins
from edge_isp.errors import CameraDisconnectedError, CameraError, CameraTimeoutError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import Flips
from edge_isp.sensor_window import SensorWindow

# Exposures of the sensor that is simulated: shortest, and at the start.
_SHORTEST_EXPOSURE_NS = 20_000
_FIRST_EXPOSURE_NS = 10_000_000
_GREATEST_GAIN = 16.0
# Beyond these, times and noise overflow.
_LOWEST_FPS, _HIGHEST_FIRST_GAIN = 1e-3, 1000
# Frame rate that exposure and motion follow where frames are delivered without a pace.
_FPS_WITHOUT_PACE = 30.0


class SyntheticCamera(CameraBase):
    """Delivers CSI-2 packed frames of a moving view over a photograph, with the noise of a sensor.

    Args:
        photo: path of an sRGB photograph.
        width: of the frames, in pixels, even.
        height: of the frames, in pixels, even.
        fps: frames per second. A frame that nobody reads before the next one is due is lost, as in any camera:
            `sequence` leaves its number out and the next frame has `FrameStatus.GAP`. None delivers every frame as
            fast as it can be made.
        sensor: a profile, or the name of a shipped one.
        colour_temperature_k: of the light at the start; see also `illuminate`.
        analogue_gain: at the start; it determines the noise. The scene is lit so that this gain and the first exposure
            (10 ms, or the frame period) bring its white to white level.
        frames: how many to deliver; None goes on without an end.
        seed: of the noise. Frame i depends on the arguments, on i, and on what was asked of `control` and
            `illuminate` before it.
        imperfections: whether to show what the profile knows of a real sensor and lens: shading, defective pixels,
            and so on; see `edge_isp.calibration.simulation.Imperfections`. A frame shows the whole sensor.
        faults: what goes wrong, frame by frame; see `edge_isp.testing.FaultScript`.

    Attributes:
        live: whether frames come at their own pace; see `Camera`.
        format: of the frames.
        skipped: frames that this camera could not make in time, and left out. The next frame has
            `FrameStatus.SKIPPED`.

    Raises:
        CameraDisconnectedError: by its script the camera is away.
        CameraError: the photograph cannot be read or is smaller than a frame, or a value is out of range.
        FormatError: the size is odd.
        ProfileError: there is no such profile, or it cannot be simulated.
    """

    settable: ClassVar[tuple[str, ...]] = ("exposure_ns", "analogue_gain")

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
        super().__init__(f"synthetic:{photo}")
        if fps is not None and not _LOWEST_FPS <= fps < math.inf:
            raise CameraError(f"{self.source}: fps must be positive, at least {_LOWEST_FPS}, found {fps}")
        if not 1 <= analogue_gain <= _HIGHEST_FIRST_GAIN:
            raise CameraError(
                f"{self.source}: analogue_gain must be at least 1, at most {_HIGHEST_FIRST_GAIN}, found {analogue_gain}"
            )
        if seed < 0:
            raise CameraError(f"{self.source}: seed must not be negative, found {seed}")
        if not 0 < colour_temperature_k < math.inf:
            raise CameraError(f"{self.source}: colour_temperature_k must be positive, found {colour_temperature_k}")
        self._faults = faults or FaultScript(())
        if self._faults.opening_fails():
            raise CameraDisconnectedError(f"{self.source}: it is away, as its script says; open it again")
        profile = sensor if isinstance(sensor, SensorProfile) else load_profile(sensor)
        packing = Packing.CSI2P if profile.bit_depth in (10, 12) else Packing.U16
        self.format = RawFormat(width, height, Cfa(profile.cfa), profile.bit_depth, packing)
        whole = profile.size or (width, height)
        self._window = SensorWindow(0, 0, *whole, whole, Flips(vertical=False, horizontal=False))
        self._renderer = SceneRenderer(
            load_scene(Path(photo), (width, height)),
            profile,
            self.format,
            seed=seed,
            imperfections=Imperfections(seed, window=self._window) if imperfections else None,
        )
        self._photo, self._profile, self._imperfect, self._seed = str(photo), profile, imperfections, seed
        self._fps, self._frames = fps, frames
        self.live = fps is not None
        self._colour_temperature_k, self._light = colour_temperature_k, 1.0
        period_ns = round(1e9 / (fps or _FPS_WITHOUT_PACE))
        self._limits = ControlLimits((_SHORTEST_EXPOSURE_NS, period_ns), (1.0, max(_GREATEST_GAIN, analogue_gain)))
        first_exposure_ns = min(_FIRST_EXPOSURE_NS, period_ns)
        self._first_exposure = first_exposure_ns * analogue_gain
        self._settings = DelayedControls(DELAYS, {"exposure_ns": first_exposure_ns, "analogue_gain": analogue_gain})
        self._connected = True
        self._next = self._faults.next_frame
        self._first = self._next  # its time is that of the first `read`
        self._start_ns: int | None = None
        self._last: RawFrame | None = None
        self.skipped = 0
        self._skipped_before = 0  # of the frames that are missing before the next one
        # Compiles or loads the kernels and prepares the light, so that the first frames are in time.
        self._renderer.render(
            0, time_s=0.0, colour_temperature_k=colour_temperature_k, exposure=1.0, analogue_gain=analogue_gain
        )

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """Returns the next frame; see `Camera.read`.

        Args:
            timeout_s: longest time to wait, in seconds; None waits without a limit.

        Raises:
            CameraTimeoutError: there is none within `timeout_s`.
            CameraDisconnectedError: the camera is gone, as its script says.
        """
        if self.closed.is_set():
            return None
        self._check_connected()
        index, timestamp_ns = self._schedule()
        while self._faults.dropped(index):
            index += 1
            timestamp_ns += round(1e9 / self._fps) if self._fps else 0
        if self._frames is not None and index >= self._frames:
            return None
        if not self._wait(self._due_ns(index, timestamp_ns), timeout_s):
            return None
        if self._faults.disconnects(index):
            self._connected = False
            self._faults.next_frame = index
            self._check_connected()
        status = FrameStatus.OK if index == self._next else FrameStatus.GAP
        if self._skipped_before:
            status |= FrameStatus.SKIPPED
            self._skipped_before = 0
        timestamp_ns += self._faults.offset_ns(index)
        if self._last is not None and timestamp_ns <= self._last.timestamp_ns:
            status |= FrameStatus.BAD_TIMESTAMP
        self._next = index + 1
        due_before = self._newest_due()
        self._last = self._render(index, timestamp_ns, status)
        # What became due while this frame was made, but for the newest, can no longer be read.
        self._skipped_before = max(0, self._newest_due() - max(self._next, due_before))
        self.skipped += self._skipped_before
        return self._last

    @property
    def limits(self) -> ControlLimits:
        """Exposures up to the frame period (1/30 s where there is no pace), gains up to 16; see `Camera.limits`."""
        return self._limits

    def control(self, controls: Controls) -> None:
        """Sets exposure and gain. Exposure shows in the second frame after the one read last, gain in the first.

        Args:
            controls: `exposure_ns` and `analogue_gain`.

        Raises:
            CameraDisconnectedError: the camera is gone, as its script says.
            CameraError: anything else is asked for, or a value is out of `limits`.
        """
        self._check_connected()
        super().control(controls)

    def illuminate(self, *, light: float | None = None, colour_temperature_k: float | None = None) -> None:
        """Changes the light on the scene, from the next frame on.

        Args:
            light: amount of light, relative to that at the start; None leaves it as it is.
            colour_temperature_k: its colour temperature; None leaves it as it is.

        Raises:
            CameraError: a value is not positive.
        """
        for name, value in (("light", light), ("colour_temperature_k", colour_temperature_k)):
            if value is not None and not 0 <= value < math.inf:
                raise CameraError(f"{self.source}: {name} must be a positive number, found {value}")
        if light is not None:
            self._light = light
        if colour_temperature_k is not None:
            self._colour_temperature_k = colour_temperature_k

    def _apply(self, controls: Controls) -> None:
        self._settings.set(self._next - 1, {name: getattr(controls, name) for name in controls.names()})

    def _check_connected(self) -> None:
        if not self._connected:
            raise CameraDisconnectedError(
                f"{self.source}: it is gone, as its script says; close it, and open it again with the same script"
            )

    def _schedule(self) -> tuple[int, int]:
        """Number and time of the frame to deliver next: the newest that is due, or the one to come."""
        if self._start_ns is None:
            self._start_ns = time.monotonic_ns()
        if self._fps is None:
            return self._next, time.monotonic_ns()
        index = max(self._next, self._newest_due())
        return index, self._start_ns + round((index - self._first) * 1e9 / self._fps)

    def _newest_due(self) -> int:
        """Number of the newest frame that is due; without a pace none is, before it is asked for."""
        if self._fps is None or self._start_ns is None:
            return self._first
        return self._first + int((time.monotonic_ns() - self._start_ns) * self._fps / 1e9)

    def _due_ns(self, index: int, timestamp_ns: int) -> int:
        return timestamp_ns + sum(fault.delay_ns for fault in self._faults.of(index) if isinstance(fault, Late))

    def _wait(self, due_ns: int, timeout_s: float | None) -> bool:
        """Waits until a frame is due; False where the camera is closed meanwhile."""
        wait_s = (due_ns - time.monotonic_ns()) / 1e9
        if timeout_s is not None and wait_s > timeout_s:
            self.closed.wait(timeout_s)
            if self.closed.is_set():
                return False
            raise CameraTimeoutError(f"{self.source}: no frame within {timeout_s} s")
        return wait_s <= 0 or not self.closed.wait(wait_s)

    def _render(self, index: int, timestamp_ns: int, status: FrameStatus) -> RawFrame:
        faults = self._faults.of(index)
        exposure_ns, gain = self._settings_of(index, faults)
        data = self._renderer.render(
            index,
            time_s=index / (self._fps or _FPS_WITHOUT_PACE),
            colour_temperature_k=self._colour_temperature_k,
            exposure=self._light * exposure_ns * gain / self._first_exposure,
            analogue_gain=gain,
        )
        for fault in faults:
            if isinstance(fault, Truncate):
                rest = slice(fault.size_bytes, None)
                data.reshape(-1)[rest] = 0 if self._last is None else self._last.data.reshape(-1)[rest]
                status |= FrameStatus.TRUNCATED
            elif isinstance(fault, Corrupt):
                rows = slice(len(data) // 3, 2 * len(data) // 3)
                data[rows] = np.random.default_rng([self._seed, index, 1]).integers(0, 256, data[rows].shape, np.uint8)
                status |= FrameStatus.CORRUPTED
        profile = self._profile
        return RawFrame(
            data=data,
            format=self.format,
            source=self._photo,
            sequence=index,
            timestamp_ns=timestamp_ns,
            black_level=profile.black_level_at(gain) if self._imperfect else profile.black_level,
            white_level=profile.white_level,
            sensor=profile.name,
            exposure_ns=round(exposure_ns),
            analogue_gain=gain,
            colour_gains=profile.colour_gains(self._colour_temperature_k),
            colour_temperature_k=self._colour_temperature_k,
            window=self._window,
            lens_shading=self._imperfect,
            status=status,
            origins=Origins("simulation"),
        )

    def _settings_of(self, index: int, faults: tuple[Fault, ...]) -> tuple[float, float]:
        """Exposure and gain of a frame."""
        for fault in faults:
            if isinstance(fault, ExposureChange):
                self._settings.override(index, fault.settings())
        settings = self._settings.at(index)
        return settings["exposure_ns"], settings["analogue_gain"]
