"""The objective of an ISP network on the CPU's simulation: samples to learn from, and to validate with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.simulation import SensorModel
from edge_isp.training.isp.colour import Colour
from edge_isp.training.isp.objective import Pictures
from edge_isp.training.simulation.samples import Capture, Sample, TrainingPairs, simulate, stack
from edge_isp.training.trainer import Schedule


def picture_objective(
    photos: list[NDArray[np.uint8]],
    validation: dict[str, Sample],
    sensors: Sequence[SensorModel],
    colour: Colour,
) -> Callable[[Schedule], Pictures]:
    """What a network is trained for on a schedule: pictures like the photographs, of their simulated RAW.

    Args:
        photos: uint8 (height, width, 3).
        validation: see `validation_samples`.
        sensors: that the photographs are seen through.
        colour: how the network's output becomes a picture.
    """

    def on(schedule: Schedule) -> Pictures:
        pairs = TrainingPairs(photos, sensors, crop=schedule.crop, batch=schedule.batch, seed=schedule.seed)
        return Pictures(pairs, validation, colour)

    return on


def validation_samples(photos: list[NDArray[np.uint8]], sensor: SensorModel, crop: int = 256) -> dict[str, Sample]:
    """The middle of each photograph at analogue gains 1, 4 and 16 under daylight, always the same noise.

    Args:
        photos: uint8 (height, width, 3).
        sensor: that they are seen through.
        crop: side of the middle in pixels, a multiple of 4.
    """
    out: dict[str, Sample] = {}
    for gain in (1.0, 4.0, 16.0) if photos else ():
        capture = Capture(colour_temperature_k=5700, exposure=1.0, analogue_gain=gain)
        samples = []
        for i, photo in enumerate(photos):
            y, x = (photo.shape[0] - crop) // 4 * 2, (photo.shape[1] - crop) // 4 * 2
            window = photo[max(y, 0) :, max(x, 0) :][:crop, :crop]
            # A network's cells have 2x2 or 4x4 pixels; small photographs are cut to whole ones.
            window = window[: window.shape[0] // 4 * 4, : window.shape[1] // 4 * 4]
            samples.append(simulate(window, sensor, capture, np.random.default_rng([1000, i])))
        out[f"gain{gain:.0f}"] = stack(samples)
    return out
