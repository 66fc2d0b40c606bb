"""Metering: what a frame does not say of its light and its noise is found in the frame itself."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from edge_isp.calibration.profile import UNKNOWN_NOISE, Noise, SensorProfile, profile_of
from edge_isp.frame import RawFrame
from edge_isp.metering.light import Light, measure
from edge_isp.metering.noise import estimate_analogue_gain
from edge_isp.metering.white_balance import WhiteBalance, WhiteBalanceLoop, daylight, stated_white_balance

_log = logging.getLogger(__name__)

# In a stream: how much of the difference to a frame's gain, in stops, is made up for at once; more where it is large.
# What is too little to be seen is not followed, so that tables are not made anew for it.
_FAST, _SLOW = 0.5, 0.1
_FAR_STOPS, _STILL_STOPS = 1.0, 0.1


def complete_frame(frame: RawFrame, profile: SensorProfile | None = None) -> RawFrame:
    """A single frame with white balance and noise: see `FrameMeter.complete`.

    Args:
        frame: whose data is read if it lacks one of them. The result shares its lease: either may be released, once.
        profile: the sensor's; None is the shipped profile of the frame's sensor, if there is one.

    Raises:
        ValueError: the frame's bytes or levels do not fit its format.
    """
    return FrameMeter(profile).complete(frame)


class FrameMeter:
    """Gives the frames of a stream what they lack: colour gains and, without an analogue gain, the noise.

    Estimates are smoothed over the stream; another source begins anew.

    Args:
        profile: the sensor's; None is the shipped profile of the sensor that a frame names, if there is one.
        noise: whether the noise is needed: a detector does without.
    """

    def __init__(self, profile: SensorProfile | None = None, *, noise: bool = True) -> None:
        self._given, self._needs_noise = profile, noise
        self._stream: tuple[str, str | None] | None = None  # source and sensor
        self._profile: SensorProfile | None = None
        self._on_curve: SensorProfile | None = None  # the profile, if white balance follows its AWB curve
        self._white_balance = WhiteBalanceLoop(None)
        self._noise = _NoiseLoop(UNKNOWN_NOISE)
        self._warned_of: set[str | None] = set()  # sensors without an AWB curve

    def complete(self, frame: RawFrame, *, light: Light | None = None, locked: bool = False) -> RawFrame:
        """The frame with white balance and noise; itself if it has both, without reading its data.

        A frame that states the light's colour temperature gets the gains of the AWB curve there. Where no frame so far
        has shown enough light, white balance is that of daylight. The noise, as `RawFrame.noise_profile`, is measured
        where the frame states neither it nor the analogue gain of a sensor whose noise is known.

        Args:
            frame: whose data is read if it lacks one of them. The result shares its lease.
            light: of the frame, where it was measured already.
            locked: whether white balance stays as it is.

        Raises:
            ValueError: the frame's bytes or levels do not fit its format.
        """
        self._follow(frame)
        balance = None
        if frame.colour_gains is None:
            balance = stated_white_balance(frame, self._on_curve)
            if balance is None and not (locked and self._white_balance.balance is not None):
                self._warn_of(frame)
                light = light or measure(frame)
                self._white_balance.adjust(light)
            balance = balance or self._white_balance.balance or daylight(self._on_curve)
        noise_profile = frame.noise_profile
        if self._needs_noise and _unknown_noise(frame, self._profile):
            light = light or measure(frame)
            noise_profile = self._noise.adjust(light)
        return _with(frame, balance, noise_profile)

    def _follow(self, frame: RawFrame) -> None:
        """Begins anew where the frame is another stream's."""
        stream = (frame.source, frame.sensor)
        if stream == self._stream:
            return
        self._stream = stream
        profile = self._profile = profile_of(frame.sensor, self._given)
        # Without its infrared filter a sensor sees grey off its curve; libcamera takes grey world for these, too.
        unfiltered = self._given is None and "noir" in (frame.sensor or "").lower().split("_")
        self._on_curve = None if unfiltered or profile is None or not profile.awb_curve else profile
        self._white_balance = WhiteBalanceLoop(self._on_curve)
        self._noise = _NoiseLoop(profile.noise if profile is not None and profile.noise is not None else UNKNOWN_NOISE)

    def _warn_of(self, frame: RawFrame) -> None:
        if self._on_curve is None and frame.sensor not in self._warned_of:
            self._warned_of.add(frame.sensor)
            _log.warning(
                "%s: it has no colour gains, and no AWB curve of sensor %s is known: white balance takes the frame for "
                "grey",
                frame.source,
                f"'{frame.sensor}'" if frame.sensor else "(not named)",
            )


class _NoiseLoop:
    """The noise of a stream's frames, smoothed: variance = first * light + second."""

    def __init__(self, noise: Noise) -> None:
        self._noise = noise
        self._stops: float | None = None  # of the gain
        self._shown: float | None = None

    def adjust(self, light: Light) -> tuple[float, float]:
        gain = estimate_analogue_gain(light, self._noise)
        if gain is not None:
            stops = math.log2(gain)
            if self._stops is None:
                self._stops = stops
            step = stops - self._stops
            self._stops += (_FAST if abs(step) > _FAR_STOPS else _SLOW) * step
            if self._shown is None or abs(self._stops - self._shown) > _STILL_STOPS:
                self._shown = self._stops
        shown = 2 ** (self._shown or 0.0)
        return self._noise.shot * shown, self._noise.read_variance(shown)


def _unknown_noise(frame: RawFrame, profile: SensorProfile | None) -> bool:
    known = frame.analogue_gain is not None and profile is not None and profile.noise is not None
    return frame.noise_profile is None and not known


def _with(frame: RawFrame, balance: WhiteBalance | None, noise_profile: tuple[float, float] | None) -> RawFrame:
    if balance is not None:
        temperature_k = frame.colour_temperature_k or balance.colour_temperature_k
        frame = replace(frame, colour_gains=balance.colour_gains, colour_temperature_k=temperature_k)
    return frame if noise_profile == frame.noise_profile else replace(frame, noise_profile=noise_profile)
