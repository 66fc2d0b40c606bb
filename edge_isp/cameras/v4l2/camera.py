"""Any camera that Linux drives and that delivers Bayer frames: V4L2, with the driver's buffers lent without a copy."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import profile_of, shipped_profiles
from edge_isp.cameras.base import CameraBase, CameraDevice, CameraMode, ControlLimits, Controls
from edge_isp.cameras.continuity import Continuity, Staleness
from edge_isp.cameras.delayed_controls import DelayedControls, delays_of
from edge_isp.cameras.sensor_name import sensor_name
from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from edge_isp.cameras.v4l2.compact import CompactLayout, expand
from edge_isp.cameras.v4l2.controls import V4l2Controls
from edge_isp.cameras.v4l2.device import CaptureDevice, NotACaptureDeviceError, V4l2Device
from edge_isp.cameras.v4l2.drivers import Stamp, traits_of
from edge_isp.cameras.v4l2.formats import BAYER_FORMATS, BufferLayout, choose_format, raw_format
from edge_isp.cameras.v4l2.media import (
    PadFormat,
    Pipeline,
    apply_setup,
    read_setup,
    source_of_node,
    subdevice_size,
)
from edge_isp.cameras.v4l2.sensor import SensorSettings
from edge_isp.cameras.v4l2.stream import BUFFERS_OF_THE_DRIVER, BufferStream, FilledBuffer
from edge_isp.cameras.v4l2.window import sensor_window
from edge_isp.corrections import Origins
from edge_isp.errors import CameraError
from edge_isp.frame import FrameStatus, Packing, RawFrame

_log = logging.getLogger(__name__)

# Between two readings of two clocks.
_CLOCK_NOISE_NS = 100_000_000
# Every so many rows of the first frame are looked at.
_CHECKED_ROWS = 7


class V4l2Camera(CameraBase):
    """Delivers the RAW frames of a video device, in order and without copying them.

    Args:
        device: number or path of the video device (0 is "/dev/video0"; "/dev/v4l/by-path/..." stays the same when the
            camera is plugged in again). Not with a `setup` file, which names it.
        setup: TOML file that sets up a media pipeline first; see docs/cameras.md.
        width: of the frames, in pixels; by default as the device is set.
        height: of the frames, in pixels; by default as the device is set.
        fps: frames per second; by default as the device is set.
        pixel_format: V4L2's four characters ("RG10", "pRAA"); by default as the device is set if that is Bayer, else
            the most bits, and of these the smallest packing.
        bit_depth: of the sensor. Of formats with as many bits one is chosen; in a 16-bit format fewer bits are
            left-aligned, as on Raspberry Pi 5.
        packing: "u16-left" where the driver stores the sensor's bits as the upper ones of 16 though the format's name
            says otherwise, as on Jetson; or "u8", "u16" or "csi2p", to choose a format by it.
        sensor: its name ("imx219"), for black level and gain; by default that of the sensor's sub-device.
        black_level: code of no light at the format's bit depth, where there is no profile of the sensor.
        buffers: how many the driver is asked for. Two fewer frames can be held at a time.
        control: controls of the driver to set first, by the names of `v4l2-ctl --list-ctrls`, such as
            {"vertical_flip": 1}; in a specification `control.vertical_flip=1`. They override those of a `setup` file.

    Attributes:
        format: of the frames, as the driver set it.
        controls: of the sensor's sub-device, or of the video device where the driver has them there.

    `sequence` counts frames; a lost one is missing in it, by the driver's count and by the time stamps (see
    `Continuity`), and the next frame has `FrameStatus.GAP`. `timestamp_ns` is the start of the first row's exposure:
    the driver's stamp, less what lies between the two by the sensor's controls. Which moment a driver stamps is known
    (`edge_isp.cameras.v4l2.drivers`); most stamp the end of the frame.

    Exposure is set in whole lines and gain in the sensor's steps. Frames report a new exposure from the second frame
    after `control` on, and a new gain from the first or second, as libcamera knows it of the sensor.

    Raises:
        CameraError: there is no such device, or it cannot do what is asked.
        CameraDisconnectedError: it is gone.
        FormatError: it has no Bayer format.
    """

    settable: ClassVar[tuple[str, ...]] = ("exposure_ns", "analogue_gain", "fps")
    settable_hint: ClassVar[str] = "for automatic exposure and white balance use AutoExposure"

    def __init__(
        self,
        device: str | int | None = None,
        *,
        setup: str | Path | None = None,
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
        pixel_format: str | None = None,
        bit_depth: int | None = None,
        packing: str | None = None,
        sensor: str | None = None,
        black_level: float | None = None,
        buffers: int = 6,
        control: Mapping[str, int | str] | None = None,
    ) -> None:
        if buffers <= BUFFERS_OF_THE_DRIVER:
            raise CameraError(
                f"camera 'v4l2': buffers must be at least {BUFFERS_OF_THE_DRIVER + 1}, since the driver keeps "
                f"{BUFFERS_OF_THE_DRIVER} for itself, found {buffers}"
            )
        if fps is not None and not 0 < fps < math.inf:
            raise CameraError(f"camera 'v4l2': fps must be a positive number, found {fps}")
        wanted_packing = _packing(packing)
        given = {name: _control_value(value) for name, value in (control or {}).items()}
        pipeline = _pipeline(device, setup, given)
        path, sensor_path = pipeline.video, pipeline.sensor
        super().__init__(f"v4l2:{path}")
        self._reading = threading.Lock()  # held while the device is waited for
        self._continuity, self._staleness = Continuity(), Staleness()
        self._last_sequence = -1
        self._subdevice: V4l2Device | None = None
        self._device = CaptureDevice(path)
        self._stream = BufferStream(self._device, self.source, self.closed)
        self._traits = traits_of(self._device.driver)
        self._compact: CompactLayout | None = None
        self._codes_are_checked = False
        try:
            if sensor_path is not None:
                self._subdevice = V4l2Device(sensor_path)
            self.controls = V4l2Controls(self._subdevice or self._device)
            given = given if setup is None else {}  # else set with those of the file
            # Those that change the layout come before the format, like a flip, which changes the colour order.
            first = [name for name in given if self.controls.describe(name).changes_layout]
            self.controls.set({name: given[name] for name in first})
            source_pad = pipeline.source
            if source_pad is None and setup is None and self._device.follows_media_controller:
                source_pad = source_of_node(path)
            buffer_layout = self._set_format(width, height, pixel_format, bit_depth, wanted_packing, source_pad)
            self.controls.refresh()
            self.controls.set({name: value for name, value in given.items() if name not in first})
            self._sensor = sensor or (sensor_name(v4l2_kernel.node_name(sensor_path)) if sensor_path else None)
            self._black_level, self._white_level = self._levels(black_level)
            origin = "call" if black_level is not None else f"profile '{self._sensor}'"
            self._origins = Origins().with_others(black_level=origin, white_level=origin)
            size = subdevice_size(self._subdevice) if self._subdevice else (self.format.width, self.format.height)
            self._settings = SensorSettings(self.controls, self._sensor, *size, self.source)
            self._window = sensor_window(
                self._device, self._subdevice, self.controls, self.format, profile_of(self._sensor)
            )
            if fps is not None:
                self._set_rate(fps)
            self._noted_changes = self.controls.changes
            self._conditions = DelayedControls(delays_of(self._sensor), self._settings.known())
            self._stream.start(buffer_layout, buffers)
            self._opened = True
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """Returns the next frame; see `Camera.read`. Frames wait in the driver's buffers while nobody reads.

        Args:
            timeout_s: longest time to wait, in seconds; None waits without a limit.

        Raises:
            CameraTimeoutError: no frame within `timeout_s`.
            CameraDisconnectedError: the camera is gone.
            CameraError: the driver has failed, or as many frames are held as the camera can spare.
        """
        with self._reading:
            filled = self._stream.next(timeout_s)
            return None if filled is None else self._frame(filled)

    @property
    def limits(self) -> ControlLimits:
        """As the sensor's driver reports them; the longest exposure is that of the frame period.

        Raises:
            CameraError: exposure and gain of this camera cannot be set in these units, or it is closed.
        """
        self._check_open()
        return self._settings.limits()

    def export_dma_buf(self, frame: RawFrame) -> int:
        """The buffer of a frame that is held, as a DMA-BUF for a GPU, an NPU or an encoder.

        Args:
            frame: of this camera, not yet released.

        Returns:
            A new file descriptor, the caller's to close (`os.close`). Its content is the frame's until `release`.

        Raises:
            CameraError: the frame is not held, or the driver cannot export buffers.
        """
        return self._stream.export(frame)

    @staticmethod
    def devices() -> list[CameraDevice]:
        """The machine's video devices that capture, each with its Bayer modes or the reason why it has none."""
        found = []
        for path in v4l2_kernel.nodes("video"):
            spec = f"v4l2:{path}"
            try:
                with CaptureDevice(path) as device:
                    codes = device.codes()
                    modes = tuple(mode for code in codes if code in BAYER_FORMATS for mode in _modes(device, code))
                    bayer = any(code in BAYER_FORMATS for code in codes)
                    problem = None if bayer else f"no Bayer format: it delivers {', '.join(codes) or 'nothing'}"
                    found.append(CameraDevice(spec, f"{device.card} ({device.driver}, {device.bus})", modes, problem))
            except NotACaptureDeviceError:
                continue  # an output, an encoder or a decoder
            except CameraError as error:
                found.append(CameraDevice(spec, path, (), str(error)))
        return found

    def _check_limits(self, controls: Controls) -> None:
        if controls.fps is None:  # the limits follow the frame rate: `_apply` checks them where it changes
            super()._check_limits(controls)

    def _apply(self, controls: Controls) -> None:
        if controls.fps is not None:
            before = self._rate()
            self._set_rate(controls.fps)
            try:
                super()._check_limits(controls)
            except CameraError:
                if before is not None:
                    self._set_rate(before)
                raise
        codes = self._settings.codes(exposure_ns=controls.exposure_ns, analogue_gain=controls.analogue_gain)
        if codes:
            self.controls.set(codes)

    def _release(self) -> None:
        """Stops the stream and closes the device. Frames still held stay readable; their memory goes with the last."""
        self._stream.wake()  # a `read` that waits ends
        with self._reading:
            try:
                self._stream.close()
            finally:
                self._device.close()
                if self._subdevice is not None:
                    self._subdevice.close()

    def _set_format(
        self,
        width: int | None,
        height: int | None,
        pixel_format: str | None,
        bit_depth: int | None,
        packing: Packing | None,
        source_pad: PadFormat | None,
    ) -> BufferLayout:
        """Chooses a format, sets it, and reads back what came of it.

        Of a device behind a media controller, format and size follow the pad that it is linked to.
        """
        current = self._device.format()
        codes = self._device.codes()
        if source_pad is not None and self._device.follows_media_controller:
            codes = self._device.codes(source_pad.code) or codes
            for name, asked, there in (("width", width, source_pad.width), ("height", height, source_pad.height)):
                if asked not in (None, there):
                    raise CameraError(
                        f"{self.source}: {name} must be {there}, since the pad that it is linked to is set to "
                        f"{source_pad}; change it in the set-up file; found {asked}"
                    )
            width, height = source_pad.width, source_pad.height
        code = choose_format(codes, current.code, pixel_format, bit_depth, packing, self.source)
        wanted = (width or current.width, height or current.height)
        found = self._device.set_format(code, *wanted)
        if found.code != code or (width, height) != (
            found.width if width else None,
            found.height if height else None,
        ):
            sizes = ", ".join(str(each) for each in self._device.sizes(code)) or "not reported"
            raise CameraError(
                f"{self.source}: asked for {code} {wanted[0]}x{wanted[1]}, but the driver made it "
                f"{found.code} {found.width}x{found.height}; sizes of {code}: {sizes}"
            )
        self.format, self._compact = raw_format(found, BAYER_FORMATS[code], bit_depth, packing, self.source)
        if self._compact is None:
            return BufferLayout(self.format.height, self.format.stride, self.format.row_bytes)
        stride = found.bytes_per_line or found.size_bytes // found.height
        return BufferLayout(self.format.height, stride, self._compact.row_bytes(self.format.width))

    def _levels(self, black_level: float | None) -> tuple[tuple[float, float, float, float], float]:
        """Black and white level at the format's bit depth."""
        layout = self.format
        if black_level is not None:
            return (black_level, black_level, black_level, black_level), float(2**layout.bit_depth - 1)
        profile = profile_of(self._sensor)
        if profile is not None:
            profile = profile.at_bit_depth(layout.bit_depth)
            return profile.black_level, profile.white_level
        raise CameraError(
            f"{self.source}: V4L2 reports no black level, and there is no sensor profile of "
            f"'{self._sensor or 'none'}'; give the sensor (sensor=..., one of {', '.join(shipped_profiles())}) "
            "or its black level (black_level=...)"
        )

    def _rate(self) -> float | None:
        """The frame rate that is set, where the video device or the sensor reports it."""
        rate, period_ns = self._device.rate(), self._settings.period_ns
        if rate is not None:
            return float(rate)
        return None if period_ns is None else 1e9 / period_ns

    def _set_rate(self, fps: float) -> None:
        """Asks the video device for a frame rate, or sets the sensor's blanking."""
        before = self._device.rate()
        found = self._device.set_rate(fps)
        if found is None:
            self._settings.set_rate(fps)
        elif abs(found / Fraction(fps) - 1) > 0.01:
            if before is not None:
                self._device.set_rate(float(before))  # what is refused changes nothing
            rates = self._device.rates(self._device.format().code, self.format.width, self.format.height)
            there_are = ", ".join(f"{float(rate):g}" for rate in rates) or "not reported"
            raise CameraError(
                f"{self.source}: asked for {fps:g} frames/s, but the driver made it {float(found):g}; "
                f"rates at {self.format.width}x{self.format.height}: {there_are}"
            )
        self._continuity.restart_period(round(1e9 / fps))

    def _note_settings(self) -> None:
        """Notes which frames have the exposure and gain that were set since the last one, however they were set."""
        if self.controls.changes != self._noted_changes:
            self._noted_changes = self.controls.changes
            self._conditions.set(self._last_sequence, self._settings.known())

    def _frame(self, filled: FilledBuffer) -> RawFrame:
        """The frame of a filled buffer, which the frame holds from now on."""
        sequence, status = self._continuity.next(filled.sequence, filled.timestamp_ns)
        if filled.corrupted:
            status |= FrameStatus.CORRUPTED
        if filled.truncated:
            status |= FrameStatus.TRUNCATED
        self._note_settings()
        self._last_sequence = sequence
        conditions = self._conditions.at(sequence)
        exposure_ns = round(conditions["exposure_ns"]) if "exposure_ns" in conditions else None
        timestamp_ns = self._exposure_start(filled, exposure_ns)
        status |= self._staleness.next(timestamp_ns + (exposure_ns or 0))
        lent = self._compact is None and not self._traits.shared_buffers
        frame = RawFrame(
            data=filled.data if lent else self._copied(filled),
            format=self.format,
            source=self.source,
            sequence=sequence,
            timestamp_ns=timestamp_ns,
            black_level=self._black_level,
            white_level=self._white_level,
            sensor=self._sensor,
            exposure_ns=exposure_ns,
            analogue_gain=conditions.get("analogue_gain"),
            window=self._window,
            status=status,
            origins=self._origins,
            on_release=(lambda: self._stream.give_back(filled.index)) if lent else None,
        )
        self._check_codes(frame)
        if lent:
            self._stream.lend(filled.index, frame)
        return frame

    def _exposure_start(self, filled: FilledBuffer, exposure_ns: int | None) -> int:
        """When the first row began to be exposed, from what the driver stamps."""
        timestamp_ns = filled.timestamp_ns
        if self._traits.boottime:
            suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
            # Whatever lies between the two readings of the clock is no suspension.
            timestamp_ns -= suspended_ns if suspended_ns > _CLOCK_NOISE_NS else 0
        stamp = Stamp.EXPOSURE_START if filled.stamped_at_start else self._traits.stamp
        if exposure_ns is None or stamp is Stamp.EXPOSURE_START:
            return timestamp_ns
        readout_ns = (self._settings.readout_ns or 0) if stamp is Stamp.FRAME_END else 0
        return timestamp_ns - readout_ns - exposure_ns

    def _copied(self, filled: FilledBuffer) -> NDArray[np.uint8]:
        """A frame's bytes in memory of its own, as the kernels read them; its buffer is the driver's again."""
        data = filled.data.copy() if self._compact is None else expand(filled.data, self._compact, self.format.width)
        self._stream.lend(filled.index, None)
        self._stream.give_back(filled.index)
        return data

    def _check_codes(self, frame: RawFrame) -> None:
        """Warns once where codes do not fit into the bits that they should have: the first frame shows it."""
        layout = self.format
        if self._codes_are_checked or layout.packing is not Packing.U16 or layout.bit_depth == 16:
            return
        self._codes_are_checked = True
        rows = frame.data[::_CHECKED_ROWS, : layout.row_bytes]
        highest = int(rows.view("<u2").max())
        if highest >= 2**layout.bit_depth:
            _log.warning(
                "%s: codes exceed the bit depth: the highest is %d, %d bits hold %d at most; where the sensor's bits "
                "are the upper ones of 16, as Jetson and Rockchip boards may store them, open the camera with "
                "packing=u16-left",
                self.source,
                highest,
                layout.bit_depth,
                2**layout.bit_depth - 1,
            )


def _packing(packing: str | None) -> Packing | None:
    try:
        return None if packing is None else Packing(packing)
    except ValueError:
        raise CameraError(f"camera 'v4l2': packing must be one of {', '.join(Packing)}, found '{packing}'") from None


def _control_value(value: int | str) -> int | str:
    """A number, or what an item of a menu is called."""
    try:
        return int(value)
    except ValueError:
        return value


def _pipeline(device: str | int | None, setup: str | Path | None, given: Mapping[str, int | str]) -> Pipeline:
    """The video device and the sensor's sub-device; a set-up file is applied, and given controls override its."""
    if setup is not None:
        if device is not None:
            raise CameraError(f"camera 'v4l2': give a device or a set-up file, not both; found {device} and {setup}")
        found = read_setup(setup)
        return apply_setup(replace(found, controls={**found.controls, **given}))
    if device is None:
        raise CameraError(
            "camera 'v4l2': give a device, such as v4l2:0, or setup=FILE; list them with: edge-isp devices"
        )
    text = str(device)
    return Pipeline(f"/dev/video{text}" if text.isdecimal() else text, None, None)


def _modes(device: CaptureDevice, code: str) -> Sequence[CameraMode]:
    """Sizes and rates of a format."""
    modes = []
    for sizes in device.sizes(code):
        greatest = (sizes.width[1], sizes.height[1])
        rates = tuple(float(rate) for rate in device.rates(code, *greatest))
        modes.append(CameraMode(code, str(sizes), rates))
    return modes or [CameraMode(code, "", ())]
