"""What a sensor's controls mean in nanoseconds and as a gain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edge_isp.cameras.base import ControlLimits
from edge_isp.cameras.v4l2.controls import V4l2Controls
from edge_isp.errors import CameraError

# The least unit of V4L2_CID_EXPOSURE_ABSOLUTE.
_ABSOLUTE_NS = 100_000


@dataclass(frozen=True, slots=True)
class GainCode:
    """How a sensor's driver counts analogue gain.

    Attributes:
        gain: the gain of a code.
        code: the code of a gain.
    """

    gain: Callable[[int], float]
    code: Callable[[float], float]


def _reciprocal(scale: int) -> GainCode:
    """gain = scale / (scale - code), as Sony's sensors of Raspberry Pi cameras have it."""
    return GainCode(lambda code: scale / (scale - code), lambda gain: scale - scale / gain)


def _decibel(step_db: float) -> GainCode:
    """gain = 10 ** (code * step / 20 dB)."""
    return GainCode(lambda code: 10 ** (code * step_db / 20), lambda gain: math.log10(gain) * 20 / step_db)


def _linear(scale: int) -> GainCode:
    """gain = code / scale."""
    return GainCode(lambda code: code / scale, lambda gain: gain * scale)


# Of the register that the kernel's driver passes on, by the sensors' data sheets.
GAIN_CODES: dict[str, GainCode] = {
    "imx219": _reciprocal(256),
    "imx477": _reciprocal(1024),
    "imx500": _reciprocal(1024),
    "imx708": _reciprocal(1024),
    "imx290": _decibel(0.3),
    "imx462": _decibel(0.3),
    "imx296": _decibel(0.1),
    "ov5647": _linear(16),
}


class SensorSettings:
    """Exposure, gain and frame rate of a sensor, through its driver's controls.

    Args:
        controls: of the sensor's sub-device, or of the video device where the driver has them there.
        sensor: its name, where it is known; each sensor has a code of its own for the gain.
        width: of the frames that the sensor delivers, in pixels; its lines are longer by the horizontal blanking.
        height: of the frames that the sensor delivers, in pixels.
        where: the camera, for messages.
    """

    def __init__(self, controls: V4l2Controls, sensor: str | None, width: int, height: int, where: str) -> None:
        self._controls, self._where, self._height = controls, where, height
        self._gain = GAIN_CODES.get((sensor or "").split("_")[0])
        self._sensor = sensor
        self._line_ns: float | None = None
        if "pixel_rate" in controls and "horizontal_blanking" in controls:
            pixels_per_line, pixels_per_s = width + controls.get("horizontal_blanking"), controls.get("pixel_rate")
            # A driver that does not know its clock says 0.
            self._line_ns = pixels_per_line * 1e9 / pixels_per_s if pixels_per_s > 0 else None

    @property
    def readout_ns(self) -> int | None:
        """From the first row's readout to the last's, where the sensor's line time is known."""
        return None if self._line_ns is None else round(self._height * self._line_ns)

    @property
    def period_ns(self) -> int | None:
        """The frame period, where the sensor's blanking is known."""
        if self._line_ns is None or "vertical_blanking" not in self._controls:
            return None
        return round((self._height + self._controls.get("vertical_blanking")) * self._line_ns)

    def exposure_ns(self) -> int | None:
        """What is set, where the driver reports it in time or in lines of a known length."""
        unit_ns = self._exposure_unit()
        return None if unit_ns is None else round(self._controls.get(unit_ns[0]) * unit_ns[1])

    def analogue_gain(self) -> float | None:
        """What is set, where the sensor's code is known."""
        if self._gain is None or "analogue_gain" not in self._controls:
            return None
        return self._gain.gain(self._controls.get("analogue_gain"))

    def known(self) -> dict[str, float]:
        """The exposure and gain that are set, by name; one that the driver does not report is missing."""
        values = {"exposure_ns": self.exposure_ns(), "analogue_gain": self.analogue_gain()}
        return {name: value for name, value in values.items() if value is not None}

    def limits(self) -> ControlLimits:
        """What the driver allows at the present frame rate.

        Raises:
            CameraError: exposure or gain cannot be set in these units.
        """
        unit, gain = self._exposure_unit(), self._gain
        if unit is None or gain is None or "analogue_gain" not in self._controls:
            raise CameraError(
                f"{self._where}: exposure and gain of this camera cannot be set in nanoseconds and as a gain: that "
                f"takes a known sensor, found '{self._sensor or 'none'}', and its controls exposure, pixel_rate, "
                "horizontal_blanking and analogue_gain; use controls.set(...) with the driver's own numbers"
            )
        self._controls.refresh()
        exposure, code = self._controls.describe(unit[0]), self._controls.describe("analogue_gain")
        return ControlLimits(
            # Rounded inwards, so that what is allowed can be set.
            (-int(-exposure.least * unit[1] // 1), int(exposure.greatest * unit[1])),
            (gain.gain(code.least), gain.gain(code.greatest)),
        )

    def set_rate(self, fps: float) -> None:
        """Sets vertical blanking for a frame rate.

        Args:
            fps: frames per second.

        Raises:
            CameraError: the frame rate of this sensor cannot be set, or not to this value.
        """
        if self._line_ns is None or "vertical_blanking" not in self._controls:
            raise CameraError(f"{self._where}: the frame rate of this camera cannot be set")
        self._controls.refresh()
        blanking = self._controls.describe("vertical_blanking")
        lines = 1e9 / fps / self._line_ns  # infinite for the least of rates
        wanted = round(lines) - self._height if math.isfinite(lines) else None
        if wanted is None or not blanking.least <= wanted <= blanking.greatest:
            slowest, fastest = (
                1e9 / (self._line_ns * (self._height + lines)) for lines in (blanking.greatest, blanking.least)
            )
            raise CameraError(
                f"{self._where}: fps must be from {slowest:.2f} to {fastest:.2f} at this size, found {fps:g}"
            )
        step = max(1, blanking.step)
        self._controls.set({"vertical_blanking": blanking.least + (wanted - blanking.least) // step * step})

    def codes(self, *, exposure_ns: int | None, analogue_gain: float | None) -> dict[str, int]:
        """Controls to set for an exposure and a gain that are within `limits`.

        Args:
            exposure_ns: exposure time; None leaves it as it is.
            analogue_gain: gain; None leaves it as it is.
        """
        values = {}
        unit = self._exposure_unit()
        if exposure_ns is not None and unit is not None:
            values[unit[0]] = self._nearest(unit[0], exposure_ns / unit[1])
        if analogue_gain is not None and self._gain is not None:
            values["analogue_gain"] = self._nearest("analogue_gain", self._gain.code(analogue_gain))
        return values

    def _nearest(self, name: str, value: float) -> int:
        control = self._controls.describe(name)
        step = max(1, control.step)
        steps = round((value - control.least) / step)
        return max(control.least, min(control.greatest, control.least + steps * step))

    def _exposure_unit(self) -> tuple[str, float] | None:
        """The control and its unit in nanoseconds."""
        if "exposure" in self._controls and self._line_ns is not None:
            return "exposure", self._line_ns
        if "exposure_time_absolute" in self._controls:
            return "exposure_time_absolute", _ABSOLUTE_NS
        return None
