"""The forward sensor model: a linear scene to the RAW codes that a sensor would deliver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import ProfileError

# Colour of each place of the 2x2 cell, as an index into RGB, and the level of `black_level` (R, Gr,
# Gb, B) that holds there. Gr is the green that shares its row with red.
_CELL_COLOUR = {
    "RGGB": ((0, 1), (1, 2)),
    "GRBG": ((1, 0), (2, 1)),
    "GBRG": ((1, 2), (0, 1)),
    "BGGR": ((2, 1), (1, 0)),
}
_CELL_LEVEL = {
    "RGGB": ((0, 1), (2, 3)),
    "GRBG": ((1, 0), (3, 2)),
    "GBRG": ((2, 3), (0, 1)),
    "BGGR": ((3, 2), (1, 0)),
}


@dataclass(frozen=True, slots=True)
class SensorModel:
    """Simulates the sensor of a profile.

    The way of light: linear sRGB scene, inverse colour matrix (clipped at 0), inverse white balance,
    exposure, colour filter array, shot noise (Poisson) and read noise (normal) at the analogue gain,
    black level, rounding, clipping to 0 and white level.

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

    def camera_rgb(
        self, scene: NDArray[np.float32], *, colour_temperature_k: float, exposure: float
    ) -> NDArray[np.float32]:
        """Linear sRGB scene (height, width, 3; 0 to 1) to unbalanced camera RGB of the same shape.

        Args:
            exposure: factor on the light; at 1 a white of the scene just reaches white level in the
                channel that needs no white-balance gain.
        """
        gains = np.array(self.profile.normalised_gains(colour_temperature_k))
        matrix = np.linalg.inv(self.profile.colour_matrix(colour_temperature_k)) / gains[:, None] * exposure
        unclipped: NDArray[np.float32] = scene.reshape(-1, 3) @ matrix.T.astype(np.float32)
        return np.maximum(unclipped, 0).reshape(scene.shape)

    def codes(
        self,
        scene: NDArray[np.float32],
        rng: np.random.Generator,
        *,
        colour_temperature_k: float,
        exposure: float = 1.0,
        analogue_gain: float = 1.0,
        cfa: str | None = None,
    ) -> NDArray[np.uint16]:
        """Linear sRGB scene (height, width, 3; 0 to 1; even sizes) to RAW codes (height, width).

        Args:
            rng: where the noise comes from.
            colour_temperature_k: of the light on the scene.
            exposure: see `camera_rgb`; the analogue gain is part of it.
            analogue_gain: how much of the exposure came from amplification: it makes the noise.
            cfa: colour order from pixel (0,0); by default the profile's.
        """
        profile = self.profile
        noise = profile.noise
        assert noise is not None  # checked when the model was made
        camera = self.camera_rgb(scene, colour_temperature_k=colour_temperature_k, exposure=exposure)
        light = mosaic(camera, cfa or profile.cfa)
        black = black_level_mosaic(profile.black_level, cfa or profile.cfa, light.shape)
        electron = noise.shot * analogue_gain  # linear light per photo-electron
        light = rng.poisson(light / electron).astype(np.float32) * np.float32(electron)
        light += rng.standard_normal(light.shape, dtype=np.float32) * np.float32(
            np.sqrt(noise.read_variance(analogue_gain))
        )
        codes = np.rint(black + light * (np.float32(profile.white_level) - black))
        return np.clip(codes, 0, np.floor(profile.white_level)).astype(np.uint16)


def mosaic(rgb: NDArray[np.float32], cfa: str) -> NDArray[np.float32]:
    """The value of each pixel's own colour filter: (height, width, 3) to (height, width)."""
    out = np.empty(rgb.shape[:2], np.float32)
    for y in range(2):
        for x in range(2):
            out[y::2, x::2] = rgb[y::2, x::2, _CELL_COLOUR[cfa][y][x]]
    return out


def black_level_mosaic(
    levels: tuple[float, float, float, float], cfa: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Black level (R, Gr, Gb, B) of each pixel."""
    out = np.empty(shape, np.float32)
    for y in range(2):
        for x in range(2):
            out[y::2, x::2] = levels[_CELL_LEVEL[cfa][y][x]]
    return out
