"""A photograph as a scene, seen by a moving view, and the sensor that looks at it: what the synthetic camera shows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.profile import SensorProfile
from edge_isp.calibration.simulation import Imperfections, SensorModel, defects_in_frame, pixel_pattern, shading_mosaic
from edge_isp.cameras.photo import load_photo
from edge_isp.frame import RawFormat
from edge_isp.kernels.simulate import Conversion, PixelErrors, View, ideal_pixels, scene_planes, simulate_frame

# Periods of the view's motion over the photograph, in seconds: there and back in x, in y, and in and out.
_PAN_PERIODS_S = (11.0, 7.0)
_ZOOM_PERIOD_S = 13.0
_ZOOM = 1.5


def view_at(time_s: float, scene: tuple[int, int], frame: tuple[int, int]) -> View:
    """The part of a scene that is seen at a time.

    Args:
        time_s: since the first frame, in seconds.
        scene: width and height of the scene, in pixels; not smaller than the frame.
        frame: width and height of the frame, in pixels.

    Returns:
        A rectangle of the frame's proportions that lies within the scene.
    """
    widest = min(scene[0] / frame[0], scene[1] / frame[1])
    zoom = 1 + (_ZOOM - 1) * _swing(time_s, _ZOOM_PERIOD_S)
    scale = max(widest / zoom, 1.0)
    # A product can be one unit in the last place greater than the scene.
    width, height = min(frame[0] * scale, float(scene[0])), min(frame[1] * scale, float(scene[1]))
    x = (scene[0] - width) * _swing(time_s, _PAN_PERIODS_S[0])
    y = (scene[1] - height) * _swing(time_s, _PAN_PERIODS_S[1])
    return View(x, y, width, height)


def load_scene(path: Path, frame: tuple[int, int]) -> NDArray[np.uint8]:
    """Reads a photograph, reduced so far that the nearest view shows it pixel by pixel.

    Args:
        path: of a photograph in sRGB.
        frame: width and height of the frames that will show it, in pixels.

    Returns:
        uint8 (height, width, 3).

    Raises:
        CameraError: it cannot be read, or it is smaller than a frame.
    """
    photo = load_photo(path, *frame)
    reduction = min(photo.width / frame[0], photo.height / frame[1]) / _ZOOM
    if reduction > 1:
        size = (max(frame[0], round(photo.width / reduction)), max(frame[1], round(photo.height / reduction)))
        photo = photo.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(photo, np.uint8)


class SceneRenderer:
    """Makes the frames that a sensor would deliver of a scene.

    `SensorModel` says what each pixel sees; `edge_isp.kernels.simulate` computes it fast.

    Args:
        scene: uint8 (height, width, 3), sRGB, not smaller than a frame; see `load_scene`.
        profile: of the sensor.
        layout: of the frames, without padding.
        seed: of the noise.
        imperfections: what distinguishes a real sensor and lens from the ideal; None for the ideal.

    Raises:
        ProfileError: the sensor cannot be simulated.
    """

    def __init__(
        self,
        scene: NDArray[np.uint8],
        profile: SensorProfile,
        layout: RawFormat,
        *,
        seed: int,
        imperfections: Imperfections | None,
    ) -> None:
        self._model = SensorModel(profile)
        self._scene, self._layout = scene, layout
        self._seed, self._imperfections = seed, imperfections
        self._light_of_code = srgb_decode(np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float32)
        self._temperature_k: float | None = None
        self._planes = np.empty((3, 0, 0), np.float32)
        self._errors = ideal_pixels()

    def render(
        self, index: int, *, time_s: float, colour_temperature_k: float, exposure: float, analogue_gain: float
    ) -> NDArray[np.uint8]:
        """The bytes of one frame.

        Args:
            index: number of the frame, which its noise follows from.
            time_s: of the view; see `view_at`.
            colour_temperature_k: of the light on the scene.
            exposure: factor on the light; see `SensorModel.camera_rgb`.
            analogue_gain: part of the exposure that came from amplification.

        Returns:
            uint8 (height, bytes per row).
        """
        if colour_temperature_k != self._temperature_k:
            self._relight(colour_temperature_k)
        profile, layout = self._model.profile, self._layout
        noise = profile.noise
        assert noise is not None  # checked when the model was made
        key, row_key = np.random.SeedSequence([self._seed, index]).generate_state(2, np.uint64)
        row_noise = np.zeros(layout.height, np.float32)
        black_level = profile.black_level
        if self._imperfections is not None:
            black_level = profile.black_level_at(analogue_gain)
            rows = np.random.default_rng(int(row_key)).standard_normal(layout.height, np.float32)
            row_noise = rows * np.float32(noise.row * analogue_gain)
        return simulate_frame(
            self._planes,
            layout.layout,
            view=view_at(time_s, (self._scene.shape[1], self._scene.shape[0]), (layout.width, layout.height)),
            conversion=Conversion(
                exposure=exposure,
                electron=noise.shot * analogue_gain,
                read_variance=noise.read_variance(analogue_gain),
                black_level=black_level,
                white_level=profile.white_level,
            ),
            errors=self._errors,
            row_noise=row_noise,
            key=int(key),
        )

    def _relight(self, colour_temperature_k: float) -> None:
        """Prepares what depends on the colour of the light."""
        matrix = self._model.camera_matrix(colour_temperature_k).astype(np.float32)
        self._planes = scene_planes(self._scene, self._light_of_code, matrix)
        if self._imperfections is not None:
            self._errors = self._pixel_errors(self._imperfections, colour_temperature_k)
        self._temperature_k = colour_temperature_k

    def _pixel_errors(self, imperfections: Imperfections, colour_temperature_k: float) -> PixelErrors:
        profile, shape = self._model.profile, (self._layout.height, self._layout.width)
        response = np.ones(shape, np.float32)
        if profile.shading is not None:
            cfa, window = str(self._layout.cfa), imperfections.window
            response /= shading_mosaic(profile.shading, colour_temperature_k, cfa, shape, window)
        if profile.noise is not None and profile.noise.pixel_response:
            spread = np.float32(profile.noise.pixel_response)
            response *= np.maximum(1 + spread * pixel_pattern(imperfections.seed, shape), 0)
        placed = defects_in_frame(profile.defects, shape, imperfections.window)
        defects = sorted((d.y, d.x, d.response, d.offset) for d in placed)
        return PixelErrors(
            response,
            np.array([(y, x) for y, x, _, _ in defects], np.int32).reshape(-1, 2),
            np.array([factor for _, _, factor, _ in defects], np.float32),
            np.array([offset for _, _, _, offset in defects], np.float32),
        )


def _swing(time_s: float, period_s: float) -> float:
    """0 to 1 and back, smoothly, once in a period."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * time_s / period_s)
