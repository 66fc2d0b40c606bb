"""What the simulation on the device looks up, written to one file beforehand: sensors, lights, lenses, validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.simulation import SensorModel
from edge_isp.training.simulation.samples import Sample

# Lights, even in mired, and places of the lens that are tabulated for each sensor.
LIGHTS, PLACES = 64, 64
_WARMEST_K, _COLDEST_K = 2500.0, 8500.0


def sensor_tables(
    sensors: Sequence[SensorModel], colour_temperatures_k: Sequence[float] | None = None, *, seed: int = 5
) -> dict[str, NDArray[np.float32]]:
    """Tables of sensors: by sensor, light, and place.

    Keys: "camera" (S, L, 3, 3), linear sRGB to unbalanced camera colour; "matrix" (S, L, 3, 3), white-balanced camera
    colour to linear sRGB; "gains" (S, L, 3) of the white balance; "lens" (S, L, P, 3), what undoes the lens shading at
    random places; "noise" (S, 3): shot, read before and after the gain (see `calibration.profile.Noise`); "levels"
    (S, 5): black of R, Gr, Gb, B, then white.

    Args:
        sensors: to simulate.
        colour_temperatures_k: of the lights; None for `LIGHTS` even in mired.
        seed: of the places.
    """
    even = 1e6 / np.linspace(1e6 / _COLDEST_K, 1e6 / _WARMEST_K, LIGHTS)
    lights = [float(kelvin) for kelvin in even] if colour_temperatures_k is None else list(colour_temperatures_k)
    rng = np.random.default_rng(seed)
    count = (len(sensors), len(lights))
    camera, matrix = np.zeros((*count, 3, 3), np.float32), np.zeros((*count, 3, 3), np.float32)
    gains, lens = np.zeros((*count, 3), np.float32), np.ones((*count, PLACES, 3), np.float32)
    noise, levels = np.zeros((count[0], 3), np.float32), np.zeros((count[0], 5), np.float32)
    for i, sensor in enumerate(sensors):
        profile = sensor.profile
        assert profile.noise is not None
        noise[i] = profile.noise.shot, profile.noise.read_pre_gain, profile.noise.read_post_gain
        levels[i] = *profile.black_level, profile.white_level
        for j, kelvin in enumerate(lights):
            camera[i, j] = sensor.camera_matrix(kelvin)
            matrix[i, j] = profile.colour_matrix(kelvin)
            gains[i, j] = profile.normalised_gains(kelvin)
            if profile.shading is not None:
                grid = profile.shading.gains(kelvin)
                rows, columns = (rng.integers(side, size=PLACES) for side in grid.shape[1:])
                lens[i, j] = grid[:, rows, columns].T
    return {"camera": camera, "matrix": matrix, "gains": gains, "lens": lens, "noise": noise, "levels": levels}


def write_tables(path: Path, sensors: Sequence[SensorModel], validation: Mapping[str, Sample]) -> None:
    """Writes what a training elsewhere needs besides photographs; see `device_simulation.read_tables`.

    Args:
        path: of the .npz file.
        sensors: to train through.
        validation: samples by group, see `objective.validation_samples`.
    """
    samples = {
        f"validation/{group}/{name}": getattr(sample, name)
        for group, sample in validation.items()
        for name in ("inputs", "target", "matrix")
    }
    np.savez_compressed(path, **sensor_tables(sensors), **samples)  # type: ignore[arg-type]
