"""Raspberry Pi cameras, through picamera2: the sensor's RAW buffers, lent without a copy."""

from __future__ import annotations

import mmap
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import SensorProfile, load_profile, shipped_profiles
from edge_isp.cameras.base import CameraDevice, CameraMode, ControlLimits
from edge_isp.cameras.picamera2.import_check import import_picamera2
from edge_isp.errors import CameraError, CameraTimeoutError, FormatError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame

# picamera2 keeps one finished frame to hand out at once, and the sensor fills another meanwhile.
_BUFFERS_OF_THE_CAMERA = 2

# Nobody looks at the picture of the Raspberry Pi's own ISP, but picamera2 always asks for one, and the automatic
# exposure and white balance of libcamera need it. It is small, so that it costs little.
_ISP_PICTURE = {"format": "YUV420", "size": (640, 480)}


class Picamera2Camera:
    """Delivers the RAW frames of a camera that libcamera drives, without copying them.

    Args:
        camera: its number, in the order of `rpicam-hello --list-cameras`.
        width, height: of a sensor mode; without them, the widest view at `fps`, then the most bits and pixels.
        fps: frames a second; the sensor mode must reach it.
        bit_depth: of the sensor mode; by default the most there are.
        packing: "csi2p" or "u16" on Raspberry Pi 4 and earlier, "u16-left" or "pisp-comp1" (lossy) on Raspberry
            Pi 5; by default the smallest without loss: "csi2p", on Raspberry Pi 5 "u16-left".
        buffers: how many the driver gets. `buffers` - 2 frames can be held at a time.

    `sequence` counts the sensor's frames; those that were lost, or that libcamera discarded as damaged, are
    missing in it, and the next frame has `FrameStatus.GAP`. `timestamp_ns` is when the first row began to be
    exposed: libcamera's SensorTimestamp (when its readout begins) less the exposure.

    Raises:
        CameraError: picamera2 is missing or broken, there is no such camera or sensor mode, or another program
            has the camera.
        FormatError: the camera has no Bayer sensor, or its layout is not known.
    """

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
        number = _camera_number(camera)
        self._source = f"picamera2:{number}"
        if not fps > 0:
            raise CameraError(f"{self._source}: fps must be positive, found {fps}")
        if buffers <= _BUFFERS_OF_THE_CAMERA:
            raise CameraError(
                f"{self._source}: buffers must be at least {_BUFFERS_OF_THE_CAMERA + 1}, since the camera keeps "
                f"{_BUFFERS_OF_THE_CAMERA} for itself, found {buffers}"
            )
        wanted = _wanted_packing(packing, self._source)
        module = import_picamera2()
        self._picamera2 = _open(module, number, self._source)
        self._lock = threading.Lock()  # of _closed, _waiting and _leases
        self._leases: dict[int, Any] = {}
        self._closed = False
        self._period_ns = round(1e9 / fps)
        self._lendable = buffers - _BUFFERS_OF_THE_CAMERA
        self._mapped: dict[int, NDArray[np.uint8]] = {}  # by file descriptor
        self._waiting: Any = None
        self._last_sequence: int | None = None
        try:
            self._sensor = str(self._picamera2.camera_properties.get("Model", "")).lower() or None
            mode = self._mode(width, height, fps, bit_depth)
            self.format = self._configure(mode, wanted, fps, buffers)
            self._profile = self._profile_at(self.format.bit_depth)
            self._picamera2.start()
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """The newest frame that was not read yet, or the next one; see `Camera.read`.

        Raises:
            CameraTimeoutError: no frame within `timeout_s`.
            CameraError: as many frames are held as the camera can spare.
        """
        while not self._closed:
            if len(self._leases) >= self._lendable:
                raise CameraError(
                    f"{self._source}: {len(self._leases)} frames are held, which is all that the camera can spare; "
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
        """As libcamera gives them for the sensor mode; the longest exposure is that of the frame period."""
        return self._limits_at(self._period_ns)

    def _limits_at(self, period_ns: int) -> ControlLimits:
        self._check_open()
        controls = self._picamera2.camera_controls
        try:
            (shortest_us, longest_us, _), (least, greatest, _) = controls["ExposureTime"], controls["AnalogueGain"]
        except KeyError as error:
            raise CameraError(f"{self._source}: the exposure and gain of this camera cannot be set") from error
        longest_ns = min(round(longest_us * 1000) or period_ns, period_ns)
        return ControlLimits((max(1, round(shortest_us)) * 1000, longest_ns), (float(least), float(greatest)))

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
        """Hands settings to libcamera, rounded down to whole microseconds; see `Camera.control`."""
        self._check_open()
        settings: dict[str, Any] = {}
        period_ns = self._period_ns
        if fps is not None:
            if not fps > 0:
                raise CameraError(f"{self._source}: fps must be positive, found {fps}")
            period_ns = round(1e9 / fps)
            settings["FrameRate"] = fps
        if auto_exposure is not None:
            settings["AeEnable"] = auto_exposure
            if auto_exposure:
                settings |= {"ExposureTime": 0, "AnalogueGain": 0}  # no longer fixed
        if auto_white_balance is not None:
            settings["AwbEnable"] = auto_white_balance
        if colour_gains is not None:
            settings["ColourGains"] = colour_gains
        if exposure_ns is not None or analogue_gain is not None:
            self._limits_at(period_ns).check(exposure_ns=exposure_ns, analogue_gain=analogue_gain)
        if exposure_ns is not None:
            settings["ExposureTime"] = exposure_ns // 1000
        if analogue_gain is not None:
            settings["AnalogueGain"] = analogue_gain
        known = {*self._picamera2.camera_controls, "FrameRate"}
        if unknown := settings.keys() - known:
            raise CameraError(f"{self._source}: libcamera offers no {', '.join(sorted(unknown))} for this camera")
        self._picamera2.set_controls(settings)
        self._period_ns = period_ns

    def close(self) -> None:
        """Stops the camera and lets it go. Frames still held may be read on; their buffers are the camera's no more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            waiting, self._waiting = self._waiting, None
        self._picamera2.cancel_all_and_flush()
        if waiting is not None:
            with suppress(CancelledError, TimeoutError):
                waiting.get_result(timeout=1.0).release()  # a frame that nobody asked for again after its time-out
        self._picamera2.stop()
        with self._lock:
            leases = list(self._leases.values())
            self._leases.clear()
        for request in leases:
            request.release()
        self._mapped.clear()
        self._picamera2.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def devices() -> list[CameraDevice]:
        """The cameras that libcamera finds, each with its sensor's modes; every one is opened for it, for a moment.

        Raises:
            CameraError: picamera2 is missing or broken.
        """
        module = import_picamera2()
        found = []
        for number, info in enumerate(module.Picamera2.global_camera_info()):
            spec, name = f"picamera2:{number}", str(info["Model"])
            try:
                opened = _open(module, number, spec)
            except CameraError as error:
                found.append(CameraDevice(spec, name, (), str(error)))
                continue
            try:
                modes = [mode for mode in opened.sensor_modes if "size" in mode]
            finally:
                opened.close()
            found.append(
                CameraDevice(
                    spec,
                    name,
                    tuple(CameraMode(str(mode["unpacked"]), _size(mode), (float(mode["fps"]),)) for mode in modes),
                    None if modes else "not a camera with a RAW stream",
                )
            )
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise CameraError(f"{self._source}: the camera is closed")

    def _mode(self, width: int | None, height: int | None, fps: float, bit_depth: int | None) -> dict[str, Any]:
        """The sensor mode to use, as picamera2 describes it."""
        modes = [mode for mode in self._picamera2.sensor_modes if "size" in mode]
        if not modes:
            raise FormatError(f"{self._source}: not a camera with a RAW stream")
        fitting = [
            mode
            for mode in modes
            if width in (None, mode["size"][0])
            and height in (None, mode["size"][1])
            and bit_depth in (None, mode["bit_depth"])
            # What picamera2 says is rounded to hundredths.
            and fps <= mode["fps"] + 0.01
        ]
        if not fitting:
            asked = f"{width or 'any'}x{height or 'any'}, {bit_depth or 'any'} bits, {fps:g} frames/s"
            there_are = "; ".join(f"{_size(m)}, {m['bit_depth']} bits, {m['fps']:g} frames/s" for m in modes)
            raise CameraError(f"{self._source}: {self._sensor} has no mode of {asked}; it has: {there_are}")
        return max(fitting, key=_preference)

    def _configure(self, mode: dict[str, Any], packing: Packing | None, fps: float, buffers: int) -> RawFormat:
        """Sets the camera up and reads back what came of it."""
        on_pisp = self._picamera2.platform.name == "PISP"
        if packing is None:
            packing = Packing.U16_LEFT if on_pisp else _smallest_packing(mode["bit_depth"])
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
            raise CameraError(f"{self._source}: the camera cannot be set up for {_size(mode)}: {error}") from error
        found = self._picamera2.camera_configuration()
        self._sensor_bit_depth = int((found.get("sensor") or mode)["bit_depth"])
        layout = raw_format(found["raw"], self._sensor_bit_depth)
        if layout.packing is not packing:
            offers = "u16-left, pisp-comp1" if on_pisp else "csi2p, u16"
            raise CameraError(
                f"{self._source}: asked for packing '{packing}', but this board gives '{layout.packing}' "
                f"({found['raw']['format']}); it has: {offers}"
            )
        if (layout.width, layout.height) != tuple(mode["size"]):
            raise CameraError(
                f"{self._source}: asked for {_size(mode)}, but libcamera adjusted it to {layout.width}x{layout.height}"
            )
        return layout

    def _completed_request(self, timeout_s: float | None) -> Any:
        """picamera2's next completed request, or None where the camera is closed meanwhile.

        A wait that timed out goes on with the next call, so that its frame is not lost.
        """
        with self._lock:
            if self._closed:
                return None
            if self._waiting is None:
                self._waiting = self._picamera2.capture_request(wait=False)
            waiting = self._waiting
        try:
            request = waiting.get_result(timeout=timeout_s)
        except TimeoutError:
            raise CameraTimeoutError(
                f"{self._source}: no frame within {timeout_s} s; see the kernel's messages (dmesg), and whether the "
                "camera's cable sits well"
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
        sequence = int(described.sequence)
        if self._last_sequence is not None and sequence != self._last_sequence + 1:
            status |= FrameStatus.GAP
        exposure_us, gain = metadata.get("ExposureTime"), metadata.get("AnalogueGain")
        exposure_ns = None if exposure_us is None else int(exposure_us) * 1000
        readout_ns = int(metadata.get("SensorTimestamp") or described.timestamp)
        colour_gains, temperature_k = metadata.get("ColourGains"), metadata.get("ColourTemperature")
        frame = RawFrame(
            data=self._view(buffer),
            format=self.format,
            source=self._source,
            sequence=sequence,
            timestamp_ns=readout_ns - (exposure_ns or 0),
            black_level=self._black_level(metadata.get("SensorBlackLevels")),
            white_level=_white_level(self.format, self._sensor_bit_depth),
            sensor=self._sensor,
            exposure_ns=exposure_ns,
            analogue_gain=None if gain is None else float(gain),
            colour_gains=(float(colour_gains[0]), float(colour_gains[1])) if colour_gains else None,
            colour_temperature_k=float(temperature_k) if temperature_k else None,
            status=status,
            on_release=lambda: self._give_back(sequence),
        )
        with self._lock:
            if self._closed:
                return None
            self._leases[sequence] = request
        self._last_sequence = sequence
        return frame

    def _give_back(self, sequence: int) -> None:
        with self._lock:
            request = self._leases.pop(sequence, None)
        if request is not None:
            request.release()

    def _view(self, buffer: Any) -> NDArray[np.uint8]:
        """The bytes of a buffer, uint8 (height, stride), mapped once for all.

        A mapping of our own rather than picamera2's: that one cannot be closed while anybody looks at it.
        """
        plane = buffer.planes[0]
        if plane.fd not in self._mapped:
            needed = plane.offset + self.format.frame_bytes
            if plane.length < self.format.frame_bytes:
                raise FormatError(
                    f"{self._source}: a buffer of {plane.length} bytes cannot hold a frame of {self.format}, "
                    f"stride {self.format.stride}: {self.format.frame_bytes} bytes"
                )
            mapping = mmap.mmap(plane.fd, needed, mmap.MAP_SHARED, mmap.PROT_READ)
            data = np.frombuffer(mapping, np.uint8, self.format.frame_bytes, plane.offset)
            self._mapped[plane.fd] = data.reshape(self.format.height, self.format.stride)
        return self._mapped[plane.fd]

    def _profile_at(self, bit_depth: int) -> SensorProfile | None:
        if self._sensor not in shipped_profiles():
            return None
        return load_profile(self._sensor).at_bit_depth(bit_depth)

    def _black_level(self, reported: Any) -> tuple[float, float, float, float]:
        """Codes at the format's bit depth: libcamera's levels (R, Gr, Gb, B on a 16-bit scale), or the profile's."""
        if reported is not None and len(reported) == 4:
            red, green_red, green_blue, blue = (level / 2.0 ** (16 - self.format.bit_depth) for level in reported)
            return red, green_red, green_blue, blue
        if self._profile is not None:
            return self._profile.black_level
        raise CameraError(
            f"{self._source}: the driver reports no black levels (SensorBlackLevels), and there is no sensor profile "
            f"of '{self._sensor}'; update libcamera with: sudo apt full-upgrade"
        )


def raw_format(stream: Mapping[str, Any], sensor_bit_depth: int) -> RawFormat:
    """The layout of a RAW stream as picamera2 reports it after `configure`.

    Formats: "SRGGB10_CSI2P" is packed, "SRGGB10" right-aligned in 16 bits, "SRGGB16" left-aligned in 16 bits (all that
    is not compressed on Raspberry Pi 5, whatever the sensor's depth), "RGGB_PISP_COMP1" compressed to 8 bits.

    Args:
        stream: with "format", "size" (width, height) and "stride" in bytes.
        sensor_bit_depth: significant bits of a 16-bit code.

    Raises:
        FormatError: it is no Bayer format, or one that is not known.
    """
    name, (width, height) = str(stream["format"]), stream["size"]
    match = re.fullmatch(rf"S?({'|'.join(Cfa)})(\d*)(|_CSI2P|_PISP_COMP1)", name)
    if match is None:
        raise FormatError(
            f"camera 'picamera2': RAW format {name} is not known; expected a Bayer format such as SRGGB10"
        )
    cfa, bits, suffix = match.groups()
    if suffix == "_PISP_COMP1":
        packing, bit_depth = Packing.PISP_COMP1, 16
    elif suffix == "_CSI2P":
        packing, bit_depth = Packing.CSI2P, int(bits)
    elif bits == "16":
        packing, bit_depth = Packing.U16_LEFT, sensor_bit_depth
    else:
        packing, bit_depth = Packing.U8 if bits == "8" else Packing.U16, int(bits)
    return RawFormat(width, height, Cfa(cfa), bit_depth, packing, int(stream["stride"]))


def _white_level(layout: RawFormat, sensor_bit_depth: int) -> float:
    """The highest code of the sensor, at the format's bit depth."""
    return float((2**sensor_bit_depth - 1) << (layout.bit_depth - sensor_bit_depth))


def _smallest_packing(bit_depth: int) -> Packing:
    if bit_depth == 8:
        return Packing.U8
    return Packing.CSI2P if bit_depth in (10, 12) else Packing.U16


def _preference(mode: Mapping[str, Any]) -> tuple[int, int, int]:
    """Greater for better: the view, the bits, the pixels."""
    (_, _, view_width, view_height), (width, height) = mode["crop_limits"], mode["size"]
    return view_width * view_height, mode["bit_depth"], width * height


def _size(mode: Mapping[str, Any]) -> str:
    width, height = mode["size"]
    return f"{width}x{height}"


def _camera_number(camera: int | str) -> int:
    try:
        number = int(camera)
    except ValueError:
        number = -1
    if number < 0:
        raise CameraError(f"camera 'picamera2': expected the camera's number, from 0 on, found '{camera}'")
    return number


def _wanted_packing(packing: str | None, source: str) -> Packing | None:
    try:
        return None if packing is None else Packing(packing)
    except ValueError:
        raise CameraError(f"{source}: packing must be one of {', '.join(Packing)}, found '{packing}'") from None


def _open(module: Any, number: int, source: str) -> Any:
    """picamera2's object for a camera; what it raises is said in terms of what to do."""
    try:
        found = module.Picamera2.global_camera_info()
        if not found:
            raise CameraError(
                f"{source}: libcamera finds no camera; check the cable with the power off, then that "
                "/boot/firmware/config.txt has camera_auto_detect=1, and list cameras with: rpicam-hello --list-cameras"
            )
        if number >= len(found):
            there_are = ", ".join(f"{index} ({camera['Model']})" for index, camera in enumerate(found))
            raise CameraError(f"{source}: no camera of this number; there are: {there_are}")
        return module.Picamera2(number)
    except (RuntimeError, OSError) as error:
        causes = list(_causes(error))
        if any("busy" in str(cause).lower() for cause in causes):
            hint = "another program has the camera; find it with: sudo fuser -v /dev/media* /dev/video*"
        elif any(isinstance(cause, PermissionError) for cause in causes):
            hint = "this user may not use cameras; mend it with: sudo usermod -aG video $USER; then log in again"
        else:
            hint = "list cameras with: rpicam-hello --list-cameras"
        raise CameraError(f"{source}: cannot be opened: {causes[-1]}; {hint}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
