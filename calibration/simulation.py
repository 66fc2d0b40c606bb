"""The forward sensor model: a linear scene to the RAW codes that a sensor would deliver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import Defect, Noise, SensorProfile
from edge_isp.calibration.shading import Shading, expand
from edge_isp.errors import ProfileError
from edge_isp.kernels.layout import CELL_PLANES, PLANE_COLOURS
from edge_isp.sensor_window import SensorWindow


@dataclass(frozen=True, slots=True)
class Flicker:
    """Lamps that pulse with the mains: a rolling shutter sees them as bands, bright ones clipped before the others.

    Attributes:
        frequency_hz: of the light: twice the mains'.
        depth: of the pulsation, 0 to 1: light = mean * (1 + depth * cos).
        row_time_s: from the start of one row's exposure to the next one's.
        exposure_s: how long each row looks; whole periods cancel the bands.
        phase: of the light when the first row starts, in radians.
    """

    frequency_hz: float
    depth: float
    row_time_s: float
    exposure_s: float
    phase: float = 0.0

    def light_of_rows(self, rows: int) -> NDArray[np.float32]:
        """Factor on the light of each row, (rows, 1): the pulsation's mean over the row's exposure.

        Args:
            rows: of the frame.
        """
        turns = self.frequency_hz * self.exposure_s
        middle = 2 * np.pi * self.frequency_hz * (np.arange(rows) * self.row_time_s + self.exposure_s / 2)
        light: NDArray[np.float64] = 1 + self.depth * np.sinc(turns) * np.cos(middle + self.phase)
        column: NDArray[np.float32] = light.astype(np.float32).reshape(rows, 1)
        return column


@dataclass(frozen=True, slots=True)
class Imperfections:
    """What a real sensor and lens add to the ideal: all that the profile knows of it.

    That is lens shading, the pixels' unequal response, defective pixels, row noise and the drift of black level with
    the analogue gain.

    Attributes:
        seed: tells one specimen of the sensor from another: which pixel responds how.
        flicker: of the lamps; None for steady light.
        window: which part of the sensor the frame shows, with the sensor's size. None spreads the lens shading over
            the frame and takes the defects' places as those of the frame.
    """

    seed: int = 0
    flicker: Flicker | None = None
    window: SensorWindow | None = None


@dataclass(frozen=True, slots=True)
class SensorModel:
    """Simulates the sensor of a profile.

    The path of light: linear sRGB scene, inverse colour matrix (clipped at 0), inverse white balance,
    exposure, colour filter array, shot noise (Poisson) and read noise (normal) at the analogue gain,
    black level, rounding, clipping to 0 and white level.

    Attributes:
        profile: of the sensor.

    Raises:
        ProfileError: the profile lacks noise, AWB curve or colour matrices.
    """

    profile: SensorProfile

    def __post_init__(self) -> None:
        missing = [
            what
            for what, value in (
                ("noise", self.profile.noise),
                ("AWB curve", self.profile.awb_curve),
                ("colour matrices", self.profile.colour_matrices),
            )
            if not value
        ]
        if missing:
            raise ProfileError(
                f"sensor profile '{self.profile.name}' cannot be simulated: it has no {', no '.join(missing)}"
            )

    def camera_matrix(self, colour_temperature_k: float) -> NDArray[np.float64]:
        """Linear sRGB to unbalanced camera RGB, (3, 3), at exposure 1; see `camera_rgb`.

        Args:
            colour_temperature_k: of the light on the scene.
        """
        gains = np.array(self.profile.normalised_gains(colour_temperature_k))
        matrix: NDArray[np.float64] = np.linalg.inv(self.profile.colour_matrix(colour_temperature_k)) / gains[:, None]
        return matrix

    def camera_rgb(
        self, scene: NDArray[np.float32], *, colour_temperature_k: float, exposure: float
    ) -> NDArray[np.float32]:
        """Linear sRGB scene (height, width, 3; 0 to 1) to unbalanced camera RGB of the same shape.

        Args:
            scene: linear sRGB (height, width, 3), 0 to 1.
            colour_temperature_k: of the light on the scene.
            exposure: factor on the light; at 1 a white of the scene just reaches white level in the
                channel that needs no white-balance gain.
        """
        matrix = self.camera_matrix(colour_temperature_k) * exposure
        # Three multiples added up: a matrix product of three columns takes several times as long.
        columns = matrix.T.astype(np.float32)
        camera: NDArray[np.float32] = scene[..., 0:1] * columns[0]
        camera += scene[..., 1:2] * columns[1]
        camera += scene[..., 2:3] * columns[2]
        np.maximum(camera, 0, out=camera)
        return camera

    def codes(
        self,
        scene: NDArray[np.float32],
        rng: np.random.Generator,
        *,
        colour_temperature_k: float,
        exposure: float = 1.0,
        analogue_gain: float = 1.0,
        cfa: str | None = None,
        imperfections: Imperfections | None = None,
    ) -> NDArray[np.uint16]:
        """Linear sRGB scene (height, width, 3; 0 to 1; even sizes) to RAW codes (height, width).

        Args:
            scene: linear sRGB (height, width, 3), 0 to 1; even sizes.
            rng: source of the noise.
            colour_temperature_k: of the light on the scene.
            exposure: see `camera_rgb`; the analogue gain is part of it.
            analogue_gain: how much of the exposure came from amplification: it makes the noise.
            cfa: colour order from pixel (0,0); by default the profile's.
            imperfections: None for an ideal sensor behind an ideal lens.
        """
        camera = self.camera_rgb(scene, colour_temperature_k=colour_temperature_k, exposure=exposure)
        cfa = cfa or self.profile.cfa
        light = mosaic(camera, cfa)
        levels, row_noise = self.profile.black_level, 0.0
        if imperfections is not None:
            light = self._imperfect(light, imperfections, colour_temperature_k, cfa)
            levels = self.profile.black_level_at(analogue_gain)
            row_noise = self._noise.row
        return self.digitise(light, rng, analogue_gain=analogue_gain, cfa=cfa, black_level=levels, row_noise=row_noise)

    def digitise(
        self,
        light: NDArray[np.float32],
        rng: np.random.Generator,
        *,
        analogue_gain: float,
        cfa: str,
        black_level: tuple[float, float, float, float] | None = None,
        row_noise: float = 0.0,
    ) -> NDArray[np.uint16]:
        """Light on the pixels (height, width; 0 to 1) to RAW codes: noise, black level, rounding, clipping.

        Args:
            light: on the pixels (height, width), 0 to 1.
            rng: source of the noise.
            analogue_gain: of the exposure; the light includes it.
            cfa: colour order from pixel (0,0).
            black_level: codes; by default the profile's.
            row_noise: see `Noise.row`.
        """
        profile, noise = self.profile, self._noise
        black = black_level_mosaic(black_level or profile.black_level, cfa, light.shape)
        electron = noise.shot * analogue_gain  # linear light per photo-electron
        light = rng.poisson(light / electron).astype(np.float32) * np.float32(electron)
        light += rng.standard_normal(light.shape, dtype=np.float32) * np.float32(
            np.sqrt(noise.read_variance(analogue_gain))
        )
        if row_noise:
            rows = rng.standard_normal((light.shape[0], 1), dtype=np.float32)
            light += rows * np.float32(row_noise * analogue_gain)
        codes = np.rint(black + light * (np.float32(profile.white_level) - black))
        return np.clip(codes, 0, np.floor(profile.white_level)).astype(np.uint16)

    @property
    def _noise(self) -> Noise:
        assert self.profile.noise is not None  # checked when the model was made
        return self.profile.noise

    def _imperfect(
        self, light: NDArray[np.float32], imperfections: Imperfections, colour_temperature_k: float, cfa: str
    ) -> NDArray[np.float32]:
        """Light of an ideal sensor to that which the pixels of a real one answer to."""
        profile = self.profile
        if profile.shading is not None:
            shading = shading_mosaic(profile.shading, colour_temperature_k, cfa, light.shape, imperfections.window)
            light = light / shading
        if imperfections.flicker is not None:
            light = light * imperfections.flicker.light_of_rows(light.shape[0])
        if profile.noise is not None and profile.noise.pixel_response:
            spread = np.float32(profile.noise.pixel_response)
            light = light * np.maximum(1 + spread * pixel_pattern(imperfections.seed, light.shape), 0)
        return _with_defects(light, defects_in_frame(profile.defects, light.shape, imperfections.window))


def shading_mosaic(
    shading: Shading, colour_temperature_k: float, cfa: str, shape: tuple[int, ...], window: SensorWindow | None = None
) -> NDArray[np.float32]:
    """The gain (height, width) that undoes the shading of each pixel, by its colour filter.

    Args:
        shading: of the lens.
        colour_temperature_k: of the light.
        cfa: colour order from pixel (0,0).
        shape: height and width, in pixels.
        window: see `Imperfections`.
    """
    if window is not None and window.sensor_size is not None:
        rows, columns = ((np.arange(count) + 0.5) / count for count in shape)
        gains = shading.gains_at(window.rows(rows), window.columns(columns), window.sensor_size, colour_temperature_k)
        return mosaic(gains.astype(np.float32), cfa)
    grids = shading.gains(colour_temperature_k)
    return mosaic(np.stack([expand(grid, shape[0], shape[1]) for grid in grids], axis=-1), cfa)


@lru_cache(maxsize=2)
def pixel_pattern(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The pattern of one specimen's pixel response, normally distributed with a deviation of 1.

    Args:
        seed: of the specimen; see `Imperfections`.
        shape: height and width, in pixels.

    Returns:
        float32 of that shape, read-only.
    """
    pattern = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    pattern.flags.writeable = False
    return pattern


def defects_in_frame(
    defects: tuple[Defect, ...], shape: tuple[int, ...], window: SensorWindow | None
) -> tuple[Defect, ...]:
    """Defects at their places in a frame; those outside it are left out.

    Args:
        defects: of the sensor.
        shape: height and width of the frame, in pixels.
        window: see `Imperfections`.
    """
    if window is None:
        return tuple(d for d in defects if d.y < shape[0] and d.x < shape[1])
    placed = ((defect, window.to_frame(defect.x, defect.y, (shape[1], shape[0]))) for defect in defects)
    return tuple(replace(defect, x=place[0], y=place[1]) for defect, place in placed if place is not None)


def _with_defects(light: NDArray[np.float32], defects: tuple[Defect, ...]) -> NDArray[np.float32]:
    """Light that defective pixels show."""
    if not defects:
        return light
    light = light.copy()
    y, x = [d.y for d in defects], [d.x for d in defects]
    response = np.array([d.response for d in defects], np.float32)
    offset = np.array([d.offset for d in defects], np.float32)
    light[y, x] = np.maximum(light[y, x] * response + offset, 0)
    return light


def mosaic(rgb: NDArray[np.float32], cfa: str) -> NDArray[np.float32]:
    """The value of each pixel's own colour filter, (height, width).

    Args:
        rgb: (height, width, 3).
        cfa: colour order from pixel (0,0).
    """
    out = np.empty(rgb.shape[:2], np.float32)
    for y in range(2):
        for x in range(2):
            out[y::2, x::2] = rgb[y::2, x::2, PLANE_COLOURS[CELL_PLANES[cfa][2 * y + x]]]
    return out


def black_level_mosaic(
    levels: tuple[float, float, float, float], cfa: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Black level of each pixel.

    Args:
        levels: in the order R, Gr, Gb, B.
        cfa: colour order from pixel (0,0).
        shape: height and width, in pixels.
    """
    out = np.empty(shape, np.float32)
    for y in range(2):
        for x in range(2):
            out[y::2, x::2] = levels[CELL_PLANES[cfa][2 * y + x]]
    return out
