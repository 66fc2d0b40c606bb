"""Metering: what a frame does not say of its light and its noise is found in the frame itself."""

from __future__ import annotations

import logging
from dataclasses import replace

from edge_isp.calibration.profile import UNKNOWN_NOISE, Noise, SensorProfile, profile_of
from edge_isp.frame import RawFrame
from edge_isp.metering.brightness import BrightnessLoop
from edge_isp.metering.light import Light, measure
from edge_isp.metering.noise import estimate_analogue_gain
from edge_isp.metering.smoothing import SmoothedGain
from edge_isp.metering.white_balance import WhiteBalance, WhiteBalanceLoop, daylight, stated_white_balance

_log = logging.getLogger(__name__)


def complete_frame(frame: RawFrame, profile: SensorProfile | None = None, *, auto_brightness: bool = False) -> RawFrame:
    """A single frame with white balance and noise: see `FrameMeter.complete`.

    Args:
        frame: whose data is read if it lacks one of them. The result shares its lease: either may be released, once.
        profile: the sensor's; None is the shipped profile of the frame's sensor, if there is one.
        auto_brightness: see `FrameMeter`.

    Raises:
        ValueError: the frame's bytes or levels do not fit its format.
    """
    return FrameMeter(profile, auto_brightness=auto_brightness).complete(frame)


class FrameMeter:
    """Gives the frames of a stream what they lack: colour gains and, without an analogue gain, the noise.

    Estimates are smoothed over the stream; another source begins anew.

    Args:
        profile: the sensor's; None is the shipped profile of the sensor that a frame names, if there is one.
        noise: whether the noise is needed: a detector does without.
        auto_brightness: whether frames get an automatic brightness, see `metering.brightness`.
    """

    def __init__(
        self, profile: SensorProfile | None = None, *, noise: bool = True, auto_brightness: bool = False
    ) -> None:
        self._given, self._needs_noise, self._auto_brightness = profile, noise, auto_brightness
        self._stream: tuple[str, str | None] | None = None  # source and sensor
        self._profile: SensorProfile | None = None
        self._on_curve: SensorProfile | None = None  # the profile, if white balance follows its AWB curve
        self._white_balance = WhiteBalanceLoop(None)
        self._noise = _NoiseLoop(UNKNOWN_NOISE)
        self._brightness = BrightnessLoop()
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
        balance, origin = None, ""
        if frame.colour_gains is None:
            balance = stated_white_balance(frame, self._on_curve)
            if balance is None and not (locked and self._white_balance.balance is not None):
                self._warn_of(frame)
                light = light or measure(frame)
                self._white_balance.adjust(light)
            origin = _origin("AWB curve at the stated temperature" if balance else "estimate", self._on_curve)
            if balance is None and self._white_balance.balance is None:
                origin = _origin("too dark for an estimate: daylight", self._on_curve)
            balance = balance or self._white_balance.balance or daylight(self._on_curve)
        noise_profile = frame.noise_profile
        if self._needs_noise and _unknown_noise(frame, self._profile):
            light = light or measure(frame)
            noise_profile = self._noise.adjust(light)
        frame = _with(frame, balance, origin, noise_profile)
        if self._auto_brightness:
            frame = replace(frame, auto_brightness=self._brightness.adjust(frame))
        return frame

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
        self._brightness = BrightnessLoop()

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
        self._noise, self._gain = noise, SmoothedGain()

    def adjust(self, light: Light) -> tuple[float, float]:
        gain = self._gain.adjust(estimate_analogue_gain(light, self._noise))
        return self._noise.shot * gain, self._noise.read_variance(gain)


def _unknown_noise(frame: RawFrame, profile: SensorProfile | None) -> bool:
    known = frame.analogue_gain is not None and profile is not None and profile.noise is not None
    return frame.noise_profile is None and not known


def _origin(what: str, on_curve: SensorProfile | None) -> str:
    """Where white balance comes from."""
    return what if on_curve is None else f"{what}, profile '{on_curve.name}'"


def _with(
    frame: RawFrame, balance: WhiteBalance | None, origin: str, noise_profile: tuple[float, float] | None
) -> RawFrame:
    if balance is not None:
        stated = frame.colour_temperature_k
        temperature_k = stated or balance.colour_temperature_k
        origins = frame.origins.with_others(colour_gains=origin)
        if stated is None:
            origins = origins.with_others(colour_temperature_k=origin)
        frame = replace(frame, colour_gains=balance.colour_gains, colour_temperature_k=temperature_k, origins=origins)
    if noise_profile == frame.noise_profile:
        return frame
    return replace(frame, noise_profile=noise_profile, origins=frame.origins.with_others(noise_profile="estimate"))
