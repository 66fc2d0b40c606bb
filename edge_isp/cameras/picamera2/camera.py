"""Raspberry Pi cameras, through picamera2: the sensor's RAW buffers, lent without a copy."""

from __future__ import annotations

import itertools
import mmap
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import SensorProfile, profile_of
from edge_isp.cameras.base import CameraBase, CameraDevice, ControlLimits, Controls
from edge_isp.cameras.continuity import Continuity
from edge_isp.cameras.picamera2.devices import camera_number, list_devices, open_device
from edge_isp.cameras.picamera2.import_check import import_picamera2
from edge_isp.cameras.picamera2.modes import (
    choose_mode,
    parse_packing,
    raw_format,
    raw_modes,
    sensor_window,
    size_text,
    smallest_packing,
    white_level,
)
from edge_isp.corrections import Origins
from edge_isp.errors import CameraError, CameraTimeoutError, FormatError
from edge_isp.frame import FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import Flips

# picamera2 keeps one finished frame to hand out at once, and the sensor fills another meanwhile.
_BUFFERS_OF_THE_CAMERA = 2

# The picture of the Raspberry Pi's own ISP is not used, but picamera2 always asks for one, and the automatic
# exposure and white balance of libcamera need it. It is small, so that it costs little.
_ISP_PICTURE = {"format": "YUV420", "size": (640, 480)}


class Picamera2Camera(CameraBase):
    """Delivers the RAW frames of a camera that libcamera drives, without copying them.

    Args:
        camera: its number, in the order of `rpicam-hello --list-cameras`.
        width: of a sensor mode, in pixels. Without width and height: the widest view at `fps`, then the most bits and
            pixels.
        height: of a sensor mode, in pixels.
        fps: frames per second; the sensor mode must reach it.
        bit_depth: of the sensor mode; by default the most there are.
        packing: "csi2p" or "u16" on Raspberry Pi 4 and earlier, "u16-left" or "pisp-comp1" (lossy) on Raspberry
            Pi 5; by default the smallest without loss: "csi2p", on Raspberry Pi 5 "u16-left".
        buffers: how many the driver gets. Two fewer frames can be held at a time.

    Attributes:
        format: of the frames, as libcamera set it.

    `sequence` counts the sensor's frames; those that were lost, or that libcamera discarded as damaged, are
    missing in it, and the next frame has `FrameStatus.GAP`. `timestamp_ns` is when the first row began to be
    exposed: libcamera's SensorTimestamp (when its readout begins) less the exposure.

    Raises:
        CameraError: picamera2 is missing or broken, there is no such camera or sensor mode, or another program
            has the camera.
        FormatError: the camera has no Bayer sensor, or its layout is not known.
    """

    settable: ClassVar[tuple[str, ...]] = (
        "exposure_ns",
        "analogue_gain",
        "fps",
        "colour_gains",
        "auto_exposure",
        "auto_white_balance",
    )

    def __init__(
        self,
        camera: int | str = 0,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: float = 30.0,
        bit_depth: int | None = None,
        packing: str | None = None,
        buffers: int = 6,
    ) -> None:
        number = camera_number(camera)
        super().__init__(f"picamera2:{number}")
        if not fps > 0:
            raise CameraError(f"{self.source}: fps must be a positive number, found {fps}")
        if buffers <= _BUFFERS_OF_THE_CAMERA:
            raise CameraError(
                f"{self.source}: buffers must be at least {_BUFFERS_OF_THE_CAMERA + 1}, since the camera keeps "
                f"{_BUFFERS_OF_THE_CAMERA} for itself, found {buffers}"
            )
        wanted = parse_packing(packing, self.source)
        module = import_picamera2()
        self._picamera2 = open_device(module, number, self.source)
        self._lock = threading.Lock()  # of _waiting and _leases
        self._lease_numbers = itertools.count()  # libcamera's own numbers may begin anew
        self._leases: dict[int, Any] = {}
        self._period_ns = round(1e9 / fps)
        self._lendable = buffers - _BUFFERS_OF_THE_CAMERA
        self._mapped: dict[int, NDArray[np.uint8]] = {}  # by file descriptor
        self._waiting: Any = None
        self._continuity = Continuity()
        try:
            self._sensor = str(self._picamera2.camera_properties.get("Model", "")).lower() or None
            mode = choose_mode(
                raw_modes(self._picamera2.sensor_modes),
                width=width,
                height=height,
                bit_depth=bit_depth,
                fps=fps,
                source=f"{self.source}: {self._sensor}",
            )
            self.format = self._configure(mode, wanted, fps, buffers)
            self._profile = self._profile_at(self.format.bit_depth)
            self._window = sensor_window(mode, self._flips())
            self._start()
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """Returns the newest frame that was not read yet, or the next one; see `Camera.read`.

        Args:
            timeout_s: longest time to wait, in seconds; None waits without a limit.

        Raises:
            CameraTimeoutError: no frame within `timeout_s`.
            CameraError: as many frames are held as the camera can spare.
        """
        while not self.closed.is_set():
            if len(self._leases) >= self._lendable:
                raise CameraError(
                    f"{self.source}: {len(self._leases)} frames are held, which is all that the camera can spare; "
                    f"release one before reading the next, or open the camera with more than "
                    f"buffers={self._lendable + _BUFFERS_OF_THE_CAMERA}"
                )
            request = self._completed_request(timeout_s)
            if request is None:
                return None
            try:
                frame = self._frame(request)
            except BaseException:
                request.release()
                raise
            if frame is not None:
                return frame
            request.release()
        return None

    @property
    def limits(self) -> ControlLimits:
        """As libcamera reports them for the sensor mode; the longest exposure is the frame period.

        Raises:
            CameraError: exposure and gain of this camera cannot be set, or it is closed.
        """
        return self._limits_at(self._period_ns)

    def _limits_at(self, period_ns: int) -> ControlLimits:
        self._check_open()
        controls = self._picamera2.camera_controls
        try:
            (shortest_us, longest_us, _), (least, greatest, _) = controls["ExposureTime"], controls["AnalogueGain"]
        except KeyError as error:
            raise CameraError(f"{self.source}: the exposure and gain of this camera cannot be set") from error
        longest_ns = min(round(longest_us * 1000) or period_ns, period_ns)
        return ControlLimits((max(1, round(shortest_us)) * 1000, longest_ns), (float(least), float(greatest)))

    def _check_limits(self, controls: Controls) -> None:
        if controls.exposure_ns is not None or controls.analogue_gain is not None:
            self._limits_at(self._period_of(controls)).check(controls)

    def _period_of(self, controls: Controls) -> int:
        return self._period_ns if controls.fps is None else round(1e9 / controls.fps)

    def _apply(self, controls: Controls) -> None:
        """Passes settings to libcamera; exposure times are rounded down to whole microseconds."""
        settings: dict[str, Any] = {}
        if controls.fps is not None:
            settings["FrameRate"] = controls.fps
        if controls.auto_exposure is not None:
            settings["AeEnable"] = controls.auto_exposure
            if controls.auto_exposure:
                settings |= {"ExposureTime": 0, "AnalogueGain": 0}  # no longer fixed
        if controls.auto_white_balance is not None:
            settings["AwbEnable"] = controls.auto_white_balance
        if controls.colour_gains is not None:
            settings["ColourGains"] = controls.colour_gains
        if controls.exposure_ns is not None:
            settings["ExposureTime"] = controls.exposure_ns // 1000
        if controls.analogue_gain is not None:
            settings["AnalogueGain"] = controls.analogue_gain
        known = {*self._picamera2.camera_controls, "FrameRate"}
        if unknown := settings.keys() - known:
            raise CameraError(f"{self.source}: libcamera offers no {', '.join(sorted(unknown))} for this camera")
        try:
            self._picamera2.set_controls(settings)
        except RuntimeError as error:
            raise CameraError(f"{self.source}: libcamera refuses {settings}: {error}") from error
        if controls.fps is not None:
            self._period_ns = self._period_of(controls)
            self._continuity.restart_period()

    @staticmethod
    def devices() -> list[CameraDevice]:
        """The cameras that libcamera finds, each with its sensor's modes; each is opened for a moment.

        Raises:
            CameraError: picamera2 is missing or broken.
        """
        return list_devices(import_picamera2())

    def _release(self) -> None:
        """Stops the camera and releases it. Frames still held stay readable; their buffers return to the camera."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        self._picamera2.cancel_all_and_flush()
        if waiting is not None:
            with suppress(CancelledError, TimeoutError):
                waiting.get_result(timeout=1.0).release()  # a frame that was not asked for again after its time-out
        self._picamera2.stop()
        with self._lock:
            leases = list(self._leases.values())
            self._leases.clear()
        for request in leases:
            request.release()
        self._mapped.clear()
        self._picamera2.close()

    def _configure(self, mode: Mapping[str, Any], packing: Packing | None, fps: float, buffers: int) -> RawFormat:
        """Sets the camera up and reads back what came of it."""
        on_pisp = self._picamera2.platform.name == "PISP"
        if packing is None:
            packing = Packing.U16_LEFT if on_pisp else smallest_packing(mode["bit_depth"])
        # libcamera takes a CSI-2 format for "packed, however you do it": on Raspberry Pi 5 that is PISP_COMP1.
        packed = packing in (Packing.CSI2P, Packing.PISP_COMP1)
        unpacked = mode["unpacked"]
        configuration = self._picamera2.create_video_configuration(
            main=dict(_ISP_PICTURE),
            raw={"format": f"{unpacked}_CSI2P" if packed else unpacked, "size": mode["size"]},
            sensor={"output_size": mode["size"], "bit_depth": mode["bit_depth"]},
            controls={"FrameRate": fps},
            buffer_count=buffers,
            queue=True,
            display=None,
            encode=None,
        )
        try:
            self._picamera2.configure(configuration)
        except RuntimeError as error:
            raise CameraError(f"{self.source}: the camera cannot be set up for {size_text(mode)}: {error}") from error
        found = self._picamera2.camera_configuration()
        self._sensor_bit_depth = int((found.get("sensor") or mode)["bit_depth"])
        layout = raw_format(found["raw"], self._sensor_bit_depth)
        if layout.packing is not packing:
            offers = "u16-left, pisp-comp1" if on_pisp else "csi2p, u16"
            raise CameraError(
                f"{self.source}: asked for packing '{packing}', but this board gives '{layout.packing}' "
                f"({found['raw']['format']}); it has: {offers}"
            )
        if (layout.width, layout.height) != tuple(mode["size"]):
            raise CameraError(
                f"{self.source}: asked for {size_text(mode)}, but libcamera adjusted it to "
                f"{layout.width}x{layout.height}"
            )
        return layout

    def _start(self) -> None:
        try:
            self._picamera2.start()
        except (RuntimeError, OSError) as error:
            raise CameraError(
                f"{self.source}: the camera cannot be started: {error}; see the kernel's messages (dmesg)"
            ) from error

    def _completed_request(self, timeout_s: float | None) -> Any:
        """picamera2's next completed request, or None where the camera is closed meanwhile.

        A wait that timed out goes on with the next call, so that its frame is not lost.
        """
        with self._lock:
            if self.closed.is_set():
                return None
            if self._waiting is None:
                self._waiting = self._picamera2.capture_request(wait=False)
            waiting = self._waiting
        try:
            request = waiting.get_result(timeout=timeout_s)
        except TimeoutError:
            raise CameraTimeoutError(
                f"{self.source}: no frame within {timeout_s} s; see the kernel's messages (dmesg), and check that the "
                "camera's cable is seated"
            ) from None
        except CancelledError:
            return None
        with self._lock:
            if self._waiting is not waiting:
                return None  # `close` has taken it
            self._waiting = None
        return request

    def _frame(self, request: Any) -> RawFrame | None:
        """The frame of a completed request, which is the frame's from now on; None for one to skip."""
        buffer = request.request.buffers[request.stream_map["raw"]]
        described = buffer.metadata
        # Newer versions of picamera2 discard these themselves, and those with an error.
        if any(each.metadata.status.name == "Startup" for each in request.request.buffers.values()):
            return None
        metadata = request.get_metadata()
        status = FrameStatus.OK if described.status.name == "Success" else FrameStatus.CORRUPTED
        exposure_us, gain = metadata.get("ExposureTime"), metadata.get("AnalogueGain")
        exposure_ns = None if exposure_us is None else int(exposure_us) * 1000
        digital_gain = metadata.get("DigitalGain")
        readout_ns = int(metadata.get("SensorTimestamp") or described.timestamp)
        sequence, order = self._continuity.next(int(described.sequence), readout_ns)
        colour_gains, temperature_k = metadata.get("ColourGains"), metadata.get("ColourTemperature")
        lease = next(self._lease_numbers)
        frame = RawFrame(
            data=self._view(buffer),
            format=self.format,
            source=self.source,
            sequence=sequence,
            timestamp_ns=readout_ns - (exposure_ns or 0),
            black_level=self._black_level(metadata.get("SensorBlackLevels")),
            white_level=white_level(self.format, self._sensor_bit_depth),
            sensor=self._sensor,
            exposure_ns=exposure_ns,
            analogue_gain=None if gain is None else float(gain),
            digital_gain=None if digital_gain is None else float(digital_gain),
            colour_gains=(float(colour_gains[0]), float(colour_gains[1])) if colour_gains else None,
            colour_temperature_k=float(temperature_k) if temperature_k else None,
            window=self._window,
            status=status | order,
            origins=self._origins(metadata.get("SensorBlackLevels")),
            on_release=lambda: self._give_back(lease),
        )
        with self._lock:
            if self.closed.is_set():
                return None
            self._leases[lease] = request
        return frame

    def _give_back(self, lease: int) -> None:
        with self._lock:
            request = self._leases.pop(lease, None)
        if request is not None:
            request.release()

    def _view(self, buffer: Any) -> NDArray[np.uint8]:
        """The bytes of a buffer, uint8 (height, stride), mapped once.

        A mapping of our own rather than picamera2's, which cannot be closed while a view of it is in use.
        """
        plane = buffer.planes[0]
        if plane.fd not in self._mapped:
            needed = plane.offset + self.format.frame_bytes
            if plane.length < self.format.frame_bytes:
                raise FormatError(
                    f"{self.source}: a buffer of {plane.length} bytes cannot hold a frame of {self.format}, "
                    f"stride {self.format.stride}: {self.format.frame_bytes} bytes"
                )
            try:
                mapping = mmap.mmap(plane.fd, needed, mmap.MAP_SHARED, mmap.PROT_READ)
            except OSError as error:
                raise CameraError(f"{self.source}: a buffer cannot be mapped: {error.strerror}") from error
            data = np.frombuffer(mapping, np.uint8, self.format.frame_bytes, plane.offset)
            self._mapped[plane.fd] = data.reshape(self.format.height, self.format.stride)
        return self._mapped[plane.fd]

    def _profile_at(self, bit_depth: int) -> SensorProfile | None:
        profile = profile_of(self._sensor)
        return None if profile is None else profile.at_bit_depth(bit_depth)

    def _flips(self) -> Flips | None:
        """How the sensor is read out, where its colour order does not show it: libcamera undoes how it is mounted."""
        if self._profile is None or self._profile.cfa_follows_flips:
            return None
        upside_down = int(self._picamera2.camera_properties.get("Rotation", 0)) == 180
        return Flips(vertical=upside_down, horizontal=upside_down)

    def _origins(self, reported: Any) -> Origins:
        """Where a frame's values come from: see `_black_level`."""
        if (reported is not None and len(reported) == 4) or self._profile is None:
            return Origins()
        return Origins().with_others(black_level=f"profile '{self._profile.name}'")

    def _black_level(self, reported: Any) -> tuple[float, float, float, float]:
        """Codes at the format's bit depth: libcamera's levels (R, Gr, Gb, B on a 16-bit scale), or the profile's."""
        if reported is not None and len(reported) == 4:
            red, green_red, green_blue, blue = (level / 2.0 ** (16 - self.format.bit_depth) for level in reported)
            return red, green_red, green_blue, blue
        if self._profile is not None:
            return self._profile.black_level
        raise CameraError(
            f"{self.source}: the driver reports no black levels (SensorBlackLevels), and there is no sensor profile "
            f"of '{self._sensor}'; update libcamera with: sudo apt full-upgrade"
        )
