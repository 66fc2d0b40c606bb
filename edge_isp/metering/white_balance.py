"""White-balance gains from RAW statistics, for frames that come without.

For a sensor whose AWB curve and colour matrices are known, the light is found by colour by correlation (Finlayson,
Hordley and Hubel 2001): the frame is turned into a picture, in sRGB, under each of `_LIGHTS` colour temperatures along
the curve, and a table fitted on photographs (`scripts/fit_white_balance.py`) says how likely the colours of each are,
and the differences between neighbouring ones. Since it looks at pictures, not at camera colours, the table is the
same for all sensors. For other sensors the Minkowski mean of the frame is taken for grey (shades of grey, Finlayson and
Trezzi 2004).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import UNKNOWN_COLOUR_TEMPERATURE_K
from edge_isp.calibration.profile import SensorProfile
from edge_isp.frame import RawFrame
from edge_isp.kernels.correlate import REACH, correlate_colours
from edge_isp.metering.light import Light

# Lights along an AWB curve that are compared, evenly in the inverse of their temperature, as the eye sees it.
_LIGHTS = 20
# A block with less light than this in any channel says nothing about colour, and a frame needs some that do.
_DARK = 0.002
_FEWEST_BLOCKS = 8
# The brightness of a block, in stops, is relative to the frame's 95th percentile of green: from `_DARKEST_STOPS` up to
# 0 the table changes with it.
_BRIGHT = 0.95
_DARKEST_STOPS = -3.0
# Of the table that is made of the fitted one: its levels of brightness, which that of differences follows, and its
# points along each axis.
EDGES, _SIZE = 9, 97
# The fitted table has its points evenly in asinh(distance from grey / FINE): most of them close to grey.
FINE = 0.06
# A difference of neighbouring blocks counts by this power of its size, and all differences together as much as all
# blocks.
_EDGE_POWER = 0.5
# Exponent of the Minkowski mean.
_MINKOWSKI = 6
# Gains of a sensor without an AWB curve.
_GAIN_RANGE = (0.5, 4.0)
# In a stream: how much of the difference to a frame's value is made up for at once: more where it is large, less where
# it may be noise; and what is too little to be seen is not followed, so that tables are not made anew for it.
_FAST, _SLOW = 0.5, 0.2
_FAR, _STILL = 0.1, 0.003


@dataclass(frozen=True, slots=True)
class WhiteBalance:
    """What makes grey surfaces of a frame grey.

    Attributes:
        colour_gains: red and blue; green is 1.
        colour_temperature_k: of the light; None where the sensor's AWB curve is not known.
    """

    colour_gains: tuple[float, float]
    colour_temperature_k: float | None


def estimate_white_balance(light: Light, profile: SensorProfile | None) -> WhiteBalance | None:
    """White balance of a single frame; None where it shows too little light to tell.

    Args:
        light: of the frame, see `metering.light.measure`.
        profile: the sensor's, or None.
    """
    usable = usable_blocks(light)
    if np.count_nonzero(usable) < min(_FEWEST_BLOCKS, usable.size):
        return None
    if profile is None or not profile.awb_curve:
        mean = (light.colours[usable] ** _MINKOWSKI).mean(axis=0) ** (1 / _MINKOWSKI)
        red, blue = (float(gain) for gain in np.clip(mean[1] / mean[[0, 2]], *_GAIN_RANGE))
        return WhiteBalance((red, blue), None)
    lights = lights_of(profile)
    scores = correlate_colours(*evidence(light.colours, usable), lights.matrices, _table())
    likely = np.exp(scores - scores.max())
    temperature_k = 1e6 / float(lights.mireds @ likely / likely.sum())
    return WhiteBalance(profile.colour_gains(temperature_k), temperature_k)


def stated_white_balance(frame: RawFrame, profile: SensorProfile | None) -> WhiteBalance | None:
    """White balance of a frame without gains that states its light's colour temperature; None where it does not.

    Args:
        frame: a camera's.
        profile: the sensor's, or None.
    """
    if frame.colour_temperature_k is None or profile is None or not profile.awb_curve:
        return None
    return WhiteBalance(profile.colour_gains(frame.colour_temperature_k), frame.colour_temperature_k)


def daylight(profile: SensorProfile | None) -> WhiteBalance:
    """White balance where nothing is known of the light.

    Args:
        profile: the sensor's, or None.
    """
    if profile is None or not profile.awb_curve:
        return WhiteBalance((1.0, 1.0), None)
    return WhiteBalance(profile.colour_gains(UNKNOWN_COLOUR_TEMPERATURE_K), UNKNOWN_COLOUR_TEMPERATURE_K)


class WhiteBalanceLoop:
    """White balance of a stream of one sensor's frames: the estimates of single frames, smoothed.

    Args:
        profile: the sensor's, or None.

    Attributes:
        balance: None before the first frame that shows enough light.
    """

    def __init__(self, profile: SensorProfile | None) -> None:
        self.balance: WhiteBalance | None = None
        self._profile = profile
        self._state: NDArray[np.float64] | None = None  # logarithms of the gains; the mired of the light

    def adjust(self, light: Light) -> None:
        """Moves the balance towards what a frame shows.

        Args:
            light: of the frame; where it is too little, nothing changes.
        """
        found = estimate_white_balance(light, self._profile)
        if found is None:
            return
        target = np.array([*np.log(found.colour_gains), 1e6 / (found.colour_temperature_k or math.inf)])
        if self._state is None:
            self._state = target
        else:
            step = target - self._state
            self._state = self._state + (_FAST if np.abs(step[:2]).max() > _FAR else _SLOW) * step
        if self.balance is not None:
            moved = np.abs(self._state[:2] - np.log(self.balance.colour_gains)).max()
            if moved < _STILL:
                return
        if found.colour_temperature_k is None or self._profile is None:
            red, blue = (float(gain) for gain in np.exp(self._state[:2]))
            self.balance = WhiteBalance((red, blue), None)
        else:
            temperature_k = 1e6 / float(self._state[2])
            self.balance = WhiteBalance(self._profile.colour_gains(temperature_k), temperature_k)


@dataclass(frozen=True, slots=True)
class Lights:
    """Lights along a sensor's AWB curve.

    Attributes:
        mireds: float64 (n,): the inverse of their temperatures, in millionths of 1/kelvin.
        matrices: float32 (n, 3, 3): camera colour, before white balance, to linear sRGB.
    """

    mireds: NDArray[np.float64]
    matrices: NDArray[np.float32]


def lights_of(profile: SensorProfile) -> Lights:
    """Lights along a sensor's AWB curve.

    Args:
        profile: with a curve.
    """
    if profile not in _KNOWN_LIGHTS:
        coolest, warmest = (1e6 / profile.awb_curve[end].colour_temperature_k for end in (-1, 0))
        mireds = np.linspace(coolest, warmest, _LIGHTS)
        matrices = []
        for temperature_k in 1e6 / mireds:
            red, blue = profile.colour_gains(temperature_k)
            matrix = profile.colour_matrix(temperature_k) if profile.colour_matrices else np.eye(3)
            matrices.append(matrix * (red, 1.0, blue))
        _KNOWN_LIGHTS[profile] = Lights(mireds, np.array(matrices, np.float32))
    return _KNOWN_LIGHTS[profile]


_KNOWN_LIGHTS: dict[SensorProfile, Lights] = {}


@lru_cache(maxsize=1)
def _table() -> NDArray[np.float32]:
    """The fitted table, float32 (levels + 1, size, size), as the kernel takes it; the last level is for differences."""
    with (resources.files("edge_isp.metering") / "white_balance.npy").open("rb") as file:
        fitted = np.load(file).astype(np.float64)
    points = fitted.shape[1]
    distances = np.arcsinh(np.linspace(-REACH, REACH, _SIZE) / FINE)
    places = (distances / distances[-1] + 1) * (points - 1) / 2
    axis = np.stack([np.interp(places, np.arange(points), row) for row in np.eye(points)])
    fine = np.einsum("lyx,ya,xb->lab", fitted, axis, axis)
    brightness = np.linspace(0, len(fitted) - 2, EDGES)
    levels = np.stack([np.interp(brightness, np.arange(len(fitted) - 1), row) for row in np.eye(len(fitted) - 1)])
    return np.concatenate([np.einsum("lk,lab->kab", levels, fine[:-1]), fine[-1:]]).astype(np.float32)


def usable_blocks(light: Light) -> NDArray[np.bool_]:
    """Which blocks of a frame say something about colour, (rows, columns).

    Args:
        light: of the frame.
    """
    usable: NDArray[np.bool_] = ~light.clipped & (light.colours.min(axis=2) > _DARK)
    return usable


def evidence(
    colours: NDArray[np.float64], usable: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Colours of blocks and differences of neighbouring ones, as `correlate_colours` takes them.

    Args:
        colours: of blocks, (rows, columns, 3).
        usable: see `usable_blocks`; at least one.

    Returns:
        The colours (n, 3), their weights (n,), and their levels of the table (n,).
    """
    blocks = colours[usable]
    stops = np.log2(blocks[:, 1] / np.quantile(blocks[:, 1], _BRIGHT))
    levels = np.rint((np.clip(stops, _DARKEST_STOPS, 0) / -_DARKEST_STOPS + 1) * (EDGES - 1))
    parts, weights, places = [blocks], [np.full(len(blocks), 1 / len(blocks))], [levels]
    for axis in (0, 1):
        both = usable[1:] & usable[:-1] if axis == 0 else usable[:, 1:] & usable[:, :-1]
        steps = np.diff(colours, axis=axis)[both]
        size = np.abs(steps).sum(axis=1) ** _EDGE_POWER
        parts.append(steps * np.where(steps.sum(axis=1) < 0, -1, 1)[:, None])
        weights.append(size / max(2 * size.sum(), 1e-12))
        places.append(np.full(len(steps), EDGES))
    return (
        np.concatenate(parts).astype(np.float32),
        np.concatenate(weights).astype(np.float32),
        np.concatenate(places).astype(np.int32),
    )
