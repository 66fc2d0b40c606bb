"""Raspberry Pi cameras, and any other that libcamera drives, through picamera2: the sensor's RAW buffers, lent."""

from __future__ import annotations

import itertools
import logging
import math
import mmap
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import SensorProfile, profile_of
from edge_isp.cameras.base import CameraBase, CameraDevice, ControlLimits, Controls
from edge_isp.cameras.continuity import Continuity, Staleness
from edge_isp.cameras.picamera2 import metadata as libcamera_metadata
from edge_isp.cameras.picamera2.devices import (
    camera_number,
    close_device,
    is_gone,
    list_devices,
    open_device,
    sensor_modes,
    translated,
)
from edge_isp.cameras.picamera2.import_check import import_picamera2
from edge_isp.cameras.picamera2.modes import (
    SensorMode,
    choose_mode,
    parse_mode,
    parse_packing,
    parse_size,
    raw_format,
    sensor_window,
    size_text,
    white_level,
)
from edge_isp.cameras.picamera2.settings import (
    Advertised,
    Autofocus,
    Hdr,
    Sync,
    advertised_controls,
    check_colour_gains,
    focus_controls,
    hdr_controls,
    other_controls,
    sync_controls,
    tuning_of,
)
from edge_isp.cameras.picamera2.transform import exif_orientation, make_transform, rotated
from edge_isp.cameras.sensor_name import sensor_name
from edge_isp.corrections import Origins
from edge_isp.errors import CameraDisconnectedError, CameraError, CameraTimeoutError, FormatError
from edge_isp.frame import FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import Flips
from edge_isp.sensor_window import SensorWindow

_log = logging.getLogger(__name__)

# picamera2 keeps one finished frame to hand out at once, and the sensor fills another meanwhile.
_BUFFERS_OF_THE_CAMERA = 2

# picamera2 always asks for a picture of the ISP, and libcamera's automatic exposure and white balance need it. Where
# nobody wants it, it is small, so that it costs little.
_UNUSED_PICTURE = {"format": "YUV420", "size": (640, 480)}
# Where the camera has no ScalerCrop, libcamera has no ISP but makes the picture with the CPU.
_UNUSED_PICTURE_OF_THE_CPU = {"format": "XBGR8888", "size": (160, 120)}
# picamera2's name for bytes in the order red, green, blue.
_RGB = "BGR888"

_DEFAULT_FPS = 30.0
# While a frame is waited for: how often to look whether the camera is still there.
_LOOK_S = 0.25


class Picamera2Camera(CameraBase):
    """Delivers the RAW frames of a camera that libcamera drives, without copying them.

    Args:
        camera: its number, in the order of `rpicam-hello --list-cameras`.
        width: of a sensor mode, in pixels. Without width and height: the widest view at `fps`, then the most bits and
            pixels.
        height: of a sensor mode, in pixels.
        mode: of the sensor, "WIDTHxHEIGHT:BITS" or "WIDTHxHEIGHT", in the place of width, height and bit_depth.
        fps: frames per second; the sensor mode must reach it. By default 30, or as many as the mode has; what the
            sensor does where libcamera does not let it be set.
        bit_depth: of the sensor mode; by default the most there are.
        packing: "csi2p" or "u16" on Raspberry Pi 4 and earlier, "u16-left" or "pisp-comp1" (lossy) on Raspberry
            Pi 5; by default the smallest without loss that libcamera gives.
        buffers: how many the driver gets. Two fewer frames can be held at a time.
        main: "WIDTHxHEIGHT" of the picture of the board's own ISP, lent with each frame as `RawFrame.isp_picture`. By
            default there is none.
        af: "continuous" focuses all the time, "auto" once at the start, "manual" stays at `lens_position`. By default
            "continuous" where the camera has a lens that can be focused.
        lens_position: where the lens stays, in dioptres: the reciprocal of the distance in metres (0 is infinity).
        hflip: whether frames are read out mirrored from left to right.
        vflip: whether frames are read out mirrored from top to bottom.
        rotation: of the frames, 0 or 180 degrees, which is both flips.
        hdr: "sensor" (Camera Module 3) or one of libcamera's modes for Raspberry Pi 5: "single-exposure",
            "multi-exposure", "night"; "off" switches it off. By default as it is.
        tuning: path of a tuning file of libcamera, or the name of one that comes with it ("imx219_noir.json").
        sync: "server" or "client", for two Raspberry Pis that expose at the same moments.
        control: any other controls of libcamera by their names, such as {"AwbMode": "Daylight"}; in a specification
            `control.AwbMode=Daylight`.

    Attributes:
        format: of the frames, as libcamera set it.
        synchronised: whether libcamera synchronises the camera with another one (`sync`).

    `sequence` counts the sensor's frames; those that were lost, or that libcamera discarded as damaged, are
    missing in it, and the next frame has `FrameStatus.GAP`. `timestamp_ns` is when the first row began to be
    exposed: libcamera's SensorTimestamp (when its readout begins) less the exposure.

    Raises:
        CameraError: picamera2 is missing or broken, there is no such camera or sensor mode, a setting is not one of
            this camera's, or another program has the camera.
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
        mode: str | None = None,
        fps: float | None = None,
        bit_depth: int | None = None,
        packing: str | None = None,
        buffers: int = 6,
        main: str | None = None,
        af: Autofocus | None = None,
        lens_position: float | None = None,
        hflip: bool = False,
        vflip: bool = False,
        rotation: Literal[0, 180] = 0,
        hdr: Hdr | None = None,
        tuning: str | Path | None = None,
        sync: Sync | None = None,
        control: Mapping[str, Any] | None = None,
    ) -> None:
        number = camera_number(camera)
        super().__init__(f"picamera2:{number}")
        if fps is not None and not 0 < fps < math.inf:
            raise CameraError(f"{self.source}: fps must be a positive number, found {fps}")
        if buffers <= _BUFFERS_OF_THE_CAMERA:
            raise CameraError(
                f"{self.source}: buffers must be at least {_BUFFERS_OF_THE_CAMERA + 1}, since the camera keeps "
                f"{_BUFFERS_OF_THE_CAMERA} for itself, found {buffers}"
            )
        if mode is not None:
            if (width, height, bit_depth) != (None, None, None):
                raise CameraError(f"{self.source}: give either mode, or width, height and bit_depth")
            width, height, bit_depth = parse_mode(mode, self.source)
        flips = rotated(rotation, Flips(vertical=vflip, horizontal=hflip), self.source)
        wanted = parse_packing(packing, self.source)
        picture = None if main is None else parse_size(main, f"{self.source}: main")
        module = import_picamera2()
        if hdr is not None:
            _set_sensor_hdr(module, number, hdr == "sensor", self.source)
        self._picamera2 = open_device(module, number, self.source, tuning_of(tuning, module, self.source))
        self._lock = threading.Lock()  # of _waiting, _leases and _failure
        self._lease_numbers = itertools.count()  # libcamera's own numbers may begin anew
        self._leases: dict[int, Any] = {}
        # To give a buffer back: kind and text, raised by the next `read`.
        self._failure: tuple[type[CameraError], str] | None = None
        self._mapped: dict[int, NDArray[np.uint8]] = {}  # by file descriptor
        self._waiting: Any = None
        self._continuity, self._staleness = Continuity(), Staleness()
        self.synchronised = sync is not None
        self._cancelled_before: set[int] = set()
        try:
            self._sensor = sensor_name(self._picamera2.camera_properties.get("Model"))
            self._profile: SensorProfile | None = profile_of(self._sensor)
            named = f"{self.source}: {self._sensor}"
            chosen = choose_mode(
                sensor_modes(self._picamera2, self.source),
                width=width,
                height=height,
                bit_depth=bit_depth,
                fps=fps,
                usual_fps=_DEFAULT_FPS,
                source=named,
            )
            self.format = self._configure(chosen, wanted, picture, flips, buffers)
            if self._profile is not None:
                self._profile = self._profile.at_bit_depth(self.format.bit_depth)
            settings = focus_controls(af, lens_position, self._controls, named)
            settings |= hdr_controls(hdr, self._controls, named) | sync_controls(sync, self._controls, named)
            settings |= other_controls(control or {}, self._controls, named)
            self._period_ns: int | None = None
            if fps is not None or "FrameDurationLimits" in self._controls:
                usual_fps = min(_DEFAULT_FPS, chosen.fps or _DEFAULT_FPS)
                settings["FrameRate"] = self._checked_rate(usual_fps if fps is None else fps)
                self._period_ns = round(1e9 / settings["FrameRate"])
            self._window = self._window_of(chosen)
            self._start(settings)
            self._opened = True
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """Returns the newest frame that was not read yet, or the next one; see `Camera.read`.

        Args:
            timeout_s: longest time to wait, in seconds; None waits without a limit.

        Raises:
            CameraTimeoutError: no frame within `timeout_s`.
            CameraDisconnectedError: the camera is gone, or its cable is loose.
            CameraError: as many frames are held as the camera can spare, or libcamera has failed.
        """
        while not self.closed.is_set():
            self._check_leases()
            try:
                request = self._completed_request(timeout_s)
            except CameraError:
                if self.closed.is_set():
                    return None  # what fails while another thread closes the camera is no failure
                raise
            if request is None:
                return None
            try:
                with translated(f"{self.source}: a frame cannot be read", self._picamera2):
                    frame = self._frame(request)
            except BaseException:
                self._recycle(request)
                raise
            if frame is not None:
                return frame
            self._recycle(request)
        return None

    @property
    def limits(self) -> ControlLimits:
        """As libcamera reports them for the sensor mode; the longest exposure is the frame period.

        Raises:
            CameraError: exposure and gain of this camera cannot be set, or it is closed.
        """
        return self._limits_at(self._period_ns)

    @property
    def _controls(self) -> Mapping[str, Advertised]:
        """What libcamera advertises for this camera now, by name."""
        with translated(f"{self.source}: its controls cannot be read", self._picamera2):
            return advertised_controls(self._picamera2)

    def _limits_at(self, period_ns: int | None) -> ControlLimits:
        self._check_open()
        controls = self._controls
        try:
            exposure_us, gain = controls["ExposureTime"], controls["AnalogueGain"]
        except KeyError as error:
            raise CameraError(f"{self.source}: the exposure and gain of this camera cannot be set") from error
        shortest_ns, longest_ns = max(1, round(exposure_us.least)) * 1000, round(exposure_us.greatest * 1000)
        if period_ns is not None:
            longest_ns = min(longest_ns or period_ns, period_ns)
        return ControlLimits((shortest_ns, max(longest_ns, shortest_ns)), (float(gain.least), float(gain.greatest)))

    def _check_limits(self, controls: Controls) -> None:
        period_ns = self._period_ns
        if controls.fps is not None:
            period_ns = round(1e9 / self._checked_rate(controls.fps))
        if controls.colour_gains is not None:
            check_colour_gains(controls.colour_gains, self._controls, self.source)
        if controls.exposure_ns is not None or controls.analogue_gain is not None:
            self._limits_at(period_ns).check(controls)

    def _checked_rate(self, fps: float) -> float:
        """A frame rate that is one of the sensor mode's; raises CameraError for any other."""
        try:
            duration_us = self._controls["FrameDurationLimits"]
        except KeyError as error:
            raise CameraError(f"{self.source}: the frame rate of this camera cannot be set") from error
        slowest, fastest = 1e6 / duration_us.greatest, 1e6 / duration_us.least
        # libcamera rounds durations to microseconds, picamera2 rates to hundredths.
        if not slowest - 0.01 <= fps <= fastest + 0.01:
            raise CameraError(
                f"{self.source}: fps must be from {slowest:.2f} to {fastest:.2f} in this sensor mode, found {fps:g}"
            )
        return fps

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
        if unknown := settings.keys() - {*self._controls, "FrameRate"}:
            raise CameraError(f"{self.source}: libcamera offers no {', '.join(sorted(unknown))} for this camera")
        with translated(f"{self.source}: libcamera refuses {settings}", self._picamera2):
            self._picamera2.set_controls(settings)
        if controls.fps is not None:
            self._period_ns = round(1e9 / controls.fps)
            self._continuity.restart_period(self._period_ns)

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
        with suppress(Exception):  # a camera in any state is closed
            self._picamera2.cancel_all_and_flush()
        if waiting is not None:
            # A frame that was not asked for again after its time-out.
            with suppress(Exception):
                waiting.get_result(timeout=1.0).release()
        with self._lock:
            leases = list(self._leases.values())
            self._leases.clear()
        try:
            close_device(self._picamera2)
        except CameraError as error:
            _log.warning("%s", error)
        for request in leases:
            with suppress(Exception):  # picamera2 has no more use for it
                request.release()
        self._mapped.clear()

    def _configure(
        self,
        mode: SensorMode,
        packing: Packing | None,
        picture: tuple[int, int] | None,
        flips: Flips,
        buffers: int,
    ) -> RawFormat:
        """Sets the camera up and reads back what came of it."""
        # Unless asked otherwise, as libcamera lists it; but on Raspberry Pi 5 that is compressed with loss.
        on_pisp = self._picamera2.platform.name == "PISP"
        found = self._set_up(mode, packing or (Packing.U16_LEFT if on_pisp else None), picture, flips, buffers)
        self._sensor_bit_depth = int((found.get("sensor") or {}).get("bit_depth") or mode.bit_depth)
        layout = raw_format(found["raw"], self._sensor_bit_depth)
        if packing is not None and layout.packing is not packing:
            given = found["raw"]["format"]
            # What other requests give is found out, since it is the driver's business.
            others = (self._set_up(mode, each, picture, flips, buffers) for each in (Packing.CSI2P, Packing.U16))
            offers = {str(raw_format(each["raw"], self._sensor_bit_depth).packing) for each in others}
            raise CameraError(
                f"{self.source}: asked for packing '{packing}', but this board gives '{layout.packing}' "
                f"({given}); it has: {', '.join(sorted(offers))}"
            )
        whole = layout.packing in (Packing.U16_LEFT, Packing.PISP_COMP1) or layout.bit_depth == mode.bit_depth
        if (layout.width, layout.height) != mode.size or not whole:
            raise CameraError(
                f"{self.source}: asked for {size_text(mode.size)} of {mode.bit_depth} bits, but libcamera adjusted it "
                f"to {layout}"
            )
        self._picture = self._picture_of(found["main"], picture)
        self._orientation, self._applied = exif_orientation(flips, found.get("transform"))
        granted = int(self._picamera2.camera_configuration().get("buffer_count") or buffers)
        self._lendable = granted - _BUFFERS_OF_THE_CAMERA
        return layout

    def _set_up(
        self,
        mode: SensorMode,
        packing: Packing | None,
        picture: tuple[int, int] | None,
        flips: Flips,
        buffers: int,
    ) -> Mapping[str, Any]:
        """Configures the camera; returns what picamera2 says that it is set to. None asks for the format as listed."""
        name = mode.listed or mode.format
        if packing is not None:
            # libcamera takes a CSI-2 format for "packed, however you do it": on Raspberry Pi 5 that is PISP_COMP1.
            name = f"{mode.format}_CSI2P" if packing in (Packing.CSI2P, Packing.PISP_COMP1) else mode.format
        unused = _UNUSED_PICTURE if "ScalerCrop" in self._controls else _UNUSED_PICTURE_OF_THE_CPU
        with translated(f"{self.source}: the camera cannot be set up for {size_text(mode.size)}", self._picamera2):
            configuration = self._picamera2.create_video_configuration(
                main=dict(unused) if picture is None else {"format": _RGB, "size": picture},
                raw={"format": name, "size": mode.size},
                sensor={"output_size": mode.size, "bit_depth": mode.bit_depth},
                transform=make_transform(flips),
                buffer_count=buffers,
                queue=True,
                display=None,
                encode=None,
            )
            self._picamera2.configure(configuration)
            found: Mapping[str, Any] = self._picamera2.camera_configuration()
        if found.get("raw") is None:
            raise FormatError(f"{self.source}: not a camera with a RAW stream")
        return found

    def _picture_of(self, stream: Mapping[str, Any], wanted: tuple[int, int] | None) -> tuple[int, int, int] | None:
        """Width, height and stride of the ISP's picture; None where nobody wants it."""
        if wanted is None:
            return None
        width, height = stream["size"]
        if str(stream["format"]) != _RGB or (width, height) != wanted:
            raise CameraError(
                f"{self.source}: asked for main={size_text(wanted)} of {_RGB}, but libcamera adjusted it to "
                f"{width}x{height} of {stream['format']}"
            )
        return width, height, int(stream["stride"])

    def _window_of(self, mode: SensorMode) -> SensorWindow | None:
        """What the mode reads out: as libcamera advertises it now that the mode is set, else as its list had it."""
        crop = self._controls.get("ScalerCrop")
        view: Any = mode.view if crop is None or crop.greatest is None else crop.greatest
        pixels: Any = self._picamera2.camera_properties.get("PixelArraySize")
        # Where there is a profile, it says the size.
        size = (int(pixels[0]), int(pixels[1])) if self._profile is None and pixels else None
        return sensor_window(view, size, self._flips())

    def _start(self, settings: Mapping[str, Any]) -> None:
        with translated(f"{self.source}: the camera cannot be started", self._picamera2):
            self._picamera2.set_controls(dict(settings))
            # A buffer that was used before may still be marked.
            self._cancelled_before = self._cancelled()
            self._picamera2.start()

    def _check_leases(self) -> None:
        """Raises CameraError where a buffer could not be given back, or all that the camera can spare are held."""
        with self._lock:
            held, failure = len(self._leases), self._failure
        if failure is not None:
            kind, text = failure
            raise kind(text)
        if held >= self._lendable:
            raise CameraError(
                f"{self.source}: {held} frames are held, which is all that the camera can spare; "
                f"release one before reading the next, or open the camera with more than "
                f"buffers={self._lendable + _BUFFERS_OF_THE_CAMERA}"
            )

    def _completed_request(self, timeout_s: float | None) -> Any:
        """picamera2's next completed request, or None where the camera is closed meanwhile.

        A wait that timed out goes on with the next call, so that its frame is not lost.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            if self.closed.is_set():
                return None
            if self._waiting is None:
                with translated(f"{self.source}: a frame cannot be asked for", self._picamera2):
                    self._waiting = self._picamera2.capture_request(wait=False)
            waiting = self._waiting
        while True:
            left_s = _LOOK_S if deadline_s is None else max(0.0, min(_LOOK_S, deadline_s - time.monotonic()))
            with translated(f"{self.source}: no more frames come", self._picamera2):
                request = _result(waiting, left_s)
            if request is not None:
                break
            if self.closed.is_set():
                return None
            with translated(f"{self.source}: no more frames come", self._picamera2):
                self._check_presence()
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise CameraTimeoutError(
                    f"{self.source}: no frame within {timeout_s} s; see the kernel's messages (dmesg), and check that "
                    "the camera's cable is seated"
                )
        with self._lock:
            if self._waiting is not waiting:
                return None  # `close` has taken it
            self._waiting = None
        return request

    def _check_presence(self) -> None:
        """Raises CameraDisconnectedError where no frame can come any more: picamera2 itself would wait for ever."""
        if is_gone(self._picamera2):
            raise CameraDisconnectedError(
                f"{self.source}: the camera is gone; close it, and open it again when it is back"
            )
        if self._cancelled() - self._cancelled_before:
            raise CameraDisconnectedError(
                f"{self.source}: libcamera has stopped the camera: it is gone, or its cable is loose; see the kernel's "
                "messages (dmesg), close the camera, and open it again when it is back"
            )

    def _cancelled(self) -> set[int]:
        """Numbers of the RAW buffers that libcamera gave back unfilled: picamera2 drops their requests silently."""
        stream = self._picamera2.stream_map["raw"]
        buffers = self._picamera2.allocator.buffers(stream)
        return {number for number, each in enumerate(buffers) if each.metadata.status.name == "Cancelled"}

    def _frame(self, request: Any) -> RawFrame | None:
        """The frame of a completed request, which is the frame's from now on; None for one to skip."""
        buffer = request.request.buffers[request.stream_map["raw"]]
        described = buffer.metadata
        # picamera2 looks at one buffer of the request only, and which one that is changes from run to run.
        if any(libcamera_metadata.is_startup(each.metadata.status) for each in request.request.buffers.values()):
            return None
        metadata = request.get_metadata()
        status = FrameStatus.OK if described.status.name == "Success" else FrameStatus.CORRUPTED
        exposure_us = libcamera_metadata.positive(metadata.get("ExposureTime"))
        exposure_ns = None if exposure_us is None else round(exposure_us * 1000)
        readout_ns = int(metadata.get("SensorTimestamp") or described.timestamp)
        sequence, order = self._continuity.next(int(described.sequence), readout_ns)
        lease = next(self._lease_numbers)
        frame = RawFrame(
            data=self._view(buffer, self.format.frame_bytes).reshape(self.format.height, self.format.stride),
            format=self.format,
            source=self.source,
            sequence=sequence,
            timestamp_ns=readout_ns - (exposure_ns or 0),
            black_level=self._black_level(metadata.get("SensorBlackLevels")),
            white_level=white_level(self.format, self._sensor_bit_depth),
            sensor=self._sensor,
            exposure_ns=exposure_ns,
            analogue_gain=libcamera_metadata.positive(metadata.get("AnalogueGain")),
            digital_gain=libcamera_metadata.positive(metadata.get("DigitalGain")),
            colour_gains=libcamera_metadata.gains(metadata.get("ColourGains")),
            colour_temperature_k=libcamera_metadata.positive(metadata.get("ColourTemperature")),
            colour_matrix=libcamera_metadata.matrix(metadata.get("ColourCorrectionMatrix")),
            window=self._window,
            orientation=self._orientation,
            isp_picture=self._isp_picture(request),
            metadata=libcamera_metadata.others(metadata),
            status=status | order | self._staleness.next(readout_ns),
            origins=self._origins(metadata.get("SensorBlackLevels")),
            on_release=lambda: self._give_back(lease),
        )
        with self._lock:
            if self.closed.is_set():
                return None
            self._leases[lease] = request
        return frame

    def _isp_picture(self, request: Any) -> NDArray[np.uint8] | None:
        """The picture of the board's own ISP that belongs to a request."""
        if self._picture is None:
            return None
        width, height, stride = self._picture
        data = self._view(request.request.buffers[request.stream_map["main"]], height * stride)
        return data.reshape(height, stride)[:, : 3 * width].reshape(height, width, 3)

    def _give_back(self, lease: int) -> None:
        with self._lock:
            request = self._leases.pop(lease, None)
        if request is not None:
            self._recycle(request)

    def _recycle(self, request: Any) -> None:
        """Gives a request back to picamera2. A failure is raised by the next `read`: a consumer cannot mend it."""
        try:
            with translated(f"{self.source}: a buffer cannot be given back", self._picamera2):
                request.release()
        except CameraError as error:
            with self._lock:
                self._failure = type(error), str(error)

    def _view(self, buffer: Any, size: int) -> NDArray[np.uint8]:
        """The bytes of a buffer, mapped once.

        A mapping of our own rather than picamera2's, which cannot be closed while a view of it is in use.
        """
        plane = buffer.planes[0]
        if plane.fd not in self._mapped:
            if plane.length < size:
                raise FormatError(
                    f"{self.source}: a buffer of {plane.length} bytes cannot hold a frame of {self.format}, "
                    f"stride {self.format.stride}: {size} bytes"
                )
            try:
                mapping = mmap.mmap(plane.fd, plane.offset + size, mmap.MAP_SHARED, mmap.PROT_READ)
            except OSError as error:
                raise CameraError(f"{self.source}: a buffer cannot be mapped: {error.strerror}") from error
            self._mapped[plane.fd] = np.frombuffer(mapping, np.uint8, size, plane.offset)
        return self._mapped[plane.fd]

    def _flips(self) -> Flips | None:
        """How the sensor is read out, where its colour order does not show it: libcamera undoes how it is mounted."""
        if self._profile is None or self._profile.cfa_follows_flips:
            return None
        upside_down = int(self._picamera2.camera_properties.get("Rotation", 0)) == 180
        return Flips(vertical=upside_down != self._applied.vertical, horizontal=upside_down != self._applied.horizontal)

    def _origins(self, reported: Any) -> Origins:
        """Where a frame's values come from: see `_black_level`."""
        if libcamera_metadata.black_levels(reported, self.format.bit_depth) is not None or self._profile is None:
            return Origins()
        return Origins().with_others(black_level=f"profile '{self._profile.name}'")

    def _black_level(self, reported: Any) -> tuple[float, float, float, float]:
        """Codes at the format's bit depth: libcamera's levels (R, Gr, Gb, B on a 16-bit scale), or the profile's."""
        levels = libcamera_metadata.black_levels(reported, self.format.bit_depth)
        if levels is not None:
            return levels
        if self._profile is not None:
            return self._profile.black_level
        raise CameraError(
            f"{self.source}: the driver reports no black levels (SensorBlackLevels), and there is no sensor profile "
            f"of '{self._sensor}'; update libcamera with: sudo apt full-upgrade"
        )


def _result(waiting: Any, timeout_s: float) -> Any:
    """The result of a job of picamera2; None where there is none yet."""
    try:
        return waiting.get_result(timeout=timeout_s)
    except TimeoutError:
        return None


def _set_sensor_hdr(module: Any, number: int, enabled: bool, source: str) -> None:
    """Switches the HDR mode of a Camera Module 3's sensor, which changes its modes: to be done before it is opened."""
    with translated(f"{source}: the sensor's HDR mode cannot be set"):
        cameras = module.Picamera2.global_camera_info()
        info = cameras[number] if number < len(cameras) else {}
        if not str(info.get("Model", "")).startswith("imx708"):
            if enabled:
                raise CameraError(f"{source}: hdr=sensor is for the Camera Module 3 (imx708) only")
            return
        with import_module("picamera2.devices.imx708").IMX708(info["Num"]) as sensor:
            sensor.set_sensor_hdr_mode(enabled)
