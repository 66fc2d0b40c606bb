"""Picture quality of a shipped ISP model, through the kernels and the engine that run on the board."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.forward import SensorModel
from edge_isp.calibration.light import srgb_decode
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.models.card import ModelCard
from edge_isp.tasks.isp import IspTask
from edge_isp.training.data import find_photos, load_photo
from edge_isp.training.metrics import psnr_db

GAINS = (1.0, 4.0, 16.0)
COLOUR_TEMPERATURE_K = 5700.0


def evaluate(card: ModelCard, sensor: SensorModel, images: Path) -> Iterator[tuple[str, float, float]]:
    """PSNR of each image of a folder at each analogue gain under daylight, with fixed noise: (stem, gain, dB)."""
    task = IspTask(card)
    with LiteRtEngine(card.path) as engine:
        for number, path in enumerate(find_photos(images)):
            photo = load_photo(path, 1)
            linear = srgb_decode(photo.astype(np.float32) / np.float32(255)).astype(np.float32)
            for gain in GAINS:
                frame = simulated_frame(linear, sensor, gain, seed=1000 + number)
                shape = task.input_shape(frame.format)
                engine.resize(shape)
                tensor = np.empty(shape, np.int8)
                task.encode(frame, tensor)
                picture = task.decode(engine.run([tensor]), frame, tensor)
                yield path.stem, gain, psnr_db(picture.rgb / 255, photo / 255)


def simulated_frame(linear: NDArray[np.float32], sensor: SensorModel, gain: float, *, seed: int) -> RawFrame:
    """A frame of a linear scene (height, width, 3), as the sensor would deliver it."""
    profile = sensor.profile
    codes = sensor.codes(
        linear,
        np.random.default_rng(seed),
        colour_temperature_k=COLOUR_TEMPERATURE_K,
        analogue_gain=gain,
    )
    height, width = codes.shape
    layout = RawFormat(width, height, Cfa(profile.cfa), profile.bit_depth, Packing.U16)
    return RawFrame(
        data=pack(codes, packing=layout.packing, bit_depth=layout.bit_depth),
        format=layout,
        source="simulated",
        sequence=0,
        timestamp_ns=0,
        black_level=profile.black_level,
        white_level=profile.white_level,
        sensor=profile.name,
        analogue_gain=gain,
        colour_gains=profile.colour_gains(COLOUR_TEMPERATURE_K),
        colour_temperature_k=COLOUR_TEMPERATURE_K,
    )
