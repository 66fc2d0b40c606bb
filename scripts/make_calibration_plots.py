"""Makes the plots of docs/calibration.md in docs/images, from a simulated sensor: what good input looks like.

python scripts/make_calibration_plots.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.measure import plots
from edge_isp.calibration.measure.black_level import measure_black_level
from edge_isp.calibration.measure.colour_chart import COLUMNS, measure_colour, reference_srgb
from edge_isp.calibration.measure.flat_field import measure_shading
from edge_isp.calibration.measure.photon_transfer import measure_noise
from edge_isp.calibration.measure.stack import Stack
from edge_isp.calibration.profile import Defect, SensorProfile, load_profile
from edge_isp.calibration.simulation import Imperfections, SensorModel

IMAGES = Path(__file__).parent.parent / "docs" / "images"
HEIGHT, WIDTH, KELVIN = 240, 320, 5000.0


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    known = load_profile("imx477")
    assert known.noise is not None
    sensor = replace(
        known,
        noise=replace(known.noise, pixel_response=0.005, row=2e-4),
        black_level_drift=(0.3, 0.2, 0.2, 0.4),
        defects=(Defect(100, 50, 1.0, 0.2), Defect(201, 131, 0.0, 0.0)),
    )
    flat = replace(sensor, shading=None)
    darks = [stack(sensor, grey(0), 8, gain=gain) for gain in (1.0, 2.0, 4.0, 8.0)]
    plots.plot_black_level(measure_black_level(darks), IMAGES / "calibration-black-level.png")
    levels = (0.03, 0.06, 0.12, 0.25, 0.5)
    lit = [stack(flat, grey(1), 4, gain=gain, exposure=e) for gain in (1.0, 4.0) for e in levels]
    plots.plot_noise(measure_noise(lit, [darks[0], darks[2]], sensor), IMAGES / "calibration-noise.png")
    field = measure_shading(stack(sensor, grey(1), 32, exposure=0.8), sensor, colour_temperature_k=KELVIN)
    plots.plot_shading(field, IMAGES / "calibration-shading.png")
    colours = reference_srgb()
    pitch = 44
    scene = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for index, colour in enumerate(colours):
        row, column = divmod(index, COLUMNS)
        top, left = 36 + row * pitch, 28 + column * pitch
        scene[top : top + pitch - 6, left : left + pitch - 6] = colour
    chart = stack(flat, scene, 4, exposure=0.85)
    right, bottom = 47 + 5 * pitch, 55 + 3 * pitch
    corners = ((47, 55), (right, 55), (right, bottom), (47, bottom))
    plots.plot_colour(measure_colour(chart, sensor, corners), IMAGES / "calibration-colour.png")


def grey(level: float) -> NDArray[np.float32]:
    return np.full((HEIGHT, WIDTH, 3), level, np.float32)


def stack(
    sensor: SensorProfile, scene: NDArray[np.float32], frames: int, *, gain: float = 1.0, exposure: float = 1.0
) -> Stack:
    """Frames of a scene as the sensor sees it."""
    model, rng = SensorModel(sensor), np.random.default_rng(1)
    codes = [
        model.codes(
            scene,
            rng,
            colour_temperature_k=KELVIN,
            exposure=exposure,
            analogue_gain=gain,
            imperfections=Imperfections(),
        )
        for _ in range(frames)
    ]
    return Stack(
        codes=np.stack(codes),
        source="simulated",
        cfa=sensor.cfa,
        bit_depth=sensor.bit_depth,
        black_level=sensor.black_level,
        white_level=sensor.white_level,
        analogue_gain=gain,
    )


if __name__ == "__main__":
    main()
